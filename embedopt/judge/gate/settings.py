"""When a change counts: ``[tool.embedopt.gate]`` of pyproject.toml."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from embedopt.errors import UsageError
from embedopt.evidence import PAIRED_FIGURES
from embedopt.records import Accuracy
from embedopt.schema import describe_mistake, metrics

# Each threshold is larger than what a different order of additions changes. For a score it is a difference,
# for a time or a size a share; for drift it is 1 minus the lowest similarity of a text's vectors. Scores of a
# ranking move in steps: one of 161 queries gained or lost is 0.006. None: the threshold of calls.
METRIC_THRESHOLDS: Mapping[str, float | None] = {
    **{metric: figure.threshold for metric, figure in PAIRED_FIGURES.items()},
    "bulk_per_s": 0.05,
    "bulk_peak_bytes": 0.10,
    "bulk_resume_s": 0.25,
    "disk_bytes": 0.01,
    "cosine_mean": 0.0005,
    "cosine_p1": 0.001,
    "cosine_min": 0.002,
    "max_abs_error": 0.001,
    "batch_invariance_min": 0.002,
    "recall_at_10": 0.005,
    "overlap_at_10": 0.01,
    "spearman": 0.1,
    "spearman_distance": 0.1,
    "clipped_share": 0.0001,
    "drift": 0.0001,
}

assert set(METRIC_THRESHOLDS) >= set(metrics(Accuracy))

_SHARE = "a share between 0 and 1: 0.02 is 2 %"
_Share = Annotated[float, Field(gt=0, lt=1)]
_ShareOrOff = Annotated[_Share | None, BeforeValidator(lambda value: None if value is False else value)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class GateSettings:
    """When a change counts.

    Attributes:
        threshold: smallest change of a call's time that counts, as a share: 0.02 is 2 %.
        backends: thresholds of calls for single backends, by name.
        metrics: thresholds of single metrics by name, such as ``load_s``, or by name and backend, such as
            ``load_s torch-fp32``; None (``false``) for what is shown and never fails.
        level: largest chance that a cell which changed by its threshold is called equivalent, and that fresh
            pairs confirm a change among cells that have none.
        max_pairs: largest number of first pairs that a cell gets while its interval stays too wide.
        accept: changes that are meant, such as ``drift onnx-int8`` or ``removed st-onnx-int8``; each holds
            for the change that adds it, since the base does not have it.
    """

    threshold: _Share = Field(default=0.02, description=_SHARE)
    backends: Mapping[str, _Share] = Field(default_factory=dict, description=_SHARE)
    metrics: Mapping[str, _ShareOrOff] = Field(
        default_factory=dict, description=f"{_SHARE}, or false for what never fails"
    )
    level: float = Field(default=0.05, gt=0, le=0.2, description="a chance above 0, up to 0.2")
    max_pairs: int = Field(default=15, description="a number of process pairs")
    accept: tuple[Annotated[str, Field(pattern=r"^(drift \S+|removed \S.*)$")], ...] = Field(
        default=(), description='a list such as ["drift onnx-int8", "removed st-onnx-int8"]'
    )

    def threshold_of(self, backend: str, metric: str) -> float:
        """Return the smallest change that counts: a share of a time or size, a difference of scores."""
        default = METRIC_THRESHOLDS[metric] or self.backends.get(backend, self.threshold)
        return self._configured(backend, metric, default) or default

    def fails(self, backend: str, metric: str) -> bool:
        """Return whether a metric that got worse fails a check."""
        return self._configured(backend, metric, 1.0) is not None

    def _configured(self, backend: str, metric: str, default: float) -> float | None:
        return self.metrics.get(f"{metric} {backend}", self.metrics.get(metric, default))


_ADAPTER = TypeAdapter(GateSettings)


def read_settings(pyproject: Path, backends: Collection[str]) -> GateSettings:
    """Read ``[tool.embedopt.gate]``; without the file or the table, the defaults hold.

    Raises:
        UsageError: a key is unknown or a value invalid; the message names it.
    """
    settings = parse_settings(_table(pyproject), str(pyproject))
    names = [name.partition(" ") for name in settings.metrics]  # "load_s", or "load_s torch-fp32"
    _refuse_unknown(pyproject, "metric", [metric for metric, *_ in names], METRIC_THRESHOLDS)
    metric_backends = [backend for _, space, backend in names if space]
    _refuse_unknown(pyproject, "backend", [*settings.backends, *metric_backends], backends)
    return settings


def parse_settings(table: Mapping[str, Any], source: str) -> GateSettings:
    """Return the settings of a table ``[tool.embedopt.gate]``.

    Raises:
        UsageError: a key is unknown or a value invalid; the message names it.
    """
    try:
        return _ADAPTER.validate_python(table)
    except ValidationError as error:
        raise UsageError(f"{source} [tool.embedopt.gate]: {describe_mistake(GateSettings, error)}") from None


def settings_in_force(rules: Mapping[str, Any], source: str, threshold: float | None) -> GateSettings:
    """Return the settings that plan and judge a gate run: the base's rules, and ``--gate-threshold``.

    Raises:
        UsageError: a key is unknown or a value invalid; the message names it.
    """
    settings = parse_settings(rules, source)
    return settings if threshold is None else replace(settings, threshold=threshold)


def _table(pyproject: Path) -> Any:
    try:
        content = tomllib.loads(pyproject.read_text(encoding="utf8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{pyproject} can't be read ({error}); wanted TOML: correct the file") from None
    return content.get("tool", {}).get("embedopt", {}).get("gate", {})


def _refuse_unknown(pyproject: Path, kind: str, names: Collection[str], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"{pyproject} [tool.embedopt.gate]: unknown {kind} {unknown[0]!r}; known are: {', '.join(known)}"
        )
