"""When a change counts: ``[tool.embedopt.gate]`` of pyproject.toml."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from embedopt.errors import UsageError
from embedopt.records import Accuracy
from embedopt.schema import describe_mistake, metrics

# Larger than what a different order of additions changes. A threshold of a cosine is a difference, that of a
# time or a size a share; a drift is 1 less the lowest similarity of a text's vectors. Scores of a ranking
# move in steps: one of 161 queries gained or lost is 0.006.
METRIC_THRESHOLDS: Mapping[str, float] = {
    "load_s": 0.10,
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

_SHARE = "a share between 0 and 1: 0.03 is 3 %"
_Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class GateSettings:
    """When a change counts.

    Attributes:
        threshold: smallest change of a call's time that counts, as a share: 0.03 is 3 %.
        backends: that threshold for single backends, by name.
        metrics: thresholds of cold start, size and scores, by name of the metric.
        level: chance of a false alarm among all cells, of the first judgement and again of its confirmation.
        max_pairs: largest number of pairs that a cell gets while its interval stays too wide.
        accept: changes that are meant, such as ``drift onnx-int8`` or ``removed st-onnx-int8``; each holds
            for the change that adds it, since the base does not have it.
    """

    threshold: _Share = Field(default=0.03, description=_SHARE)
    backends: Mapping[str, _Share] = Field(default_factory=dict, description=_SHARE)
    metrics: Mapping[str, _Share] = Field(default_factory=dict, description=_SHARE)
    level: float = Field(default=0.05, gt=0, le=0.2, description="a chance above 0, up to 0.2")
    max_pairs: int = Field(default=16, description="a number of process pairs")
    accept: tuple[Annotated[str, Field(pattern=r"^(drift|removed) \S+$")], ...] = Field(
        default=(), description='a list such as ["drift onnx-int8", "removed st-onnx-int8"]'
    )

    def threshold_of(self, backend: str, metric: str) -> float:
        """Return the smallest change that counts: a share of a time or size, a difference of scores."""
        if metric == "latency":
            return self.backends.get(backend, self.threshold)
        return self.metrics.get(metric, METRIC_THRESHOLDS[metric])


_ADAPTER = TypeAdapter(GateSettings)


def read_settings(pyproject: Path, backends: Collection[str]) -> GateSettings:
    """Read ``[tool.embedopt.gate]``; without the file or the table, the defaults hold.

    Raises:
        UsageError: a key or a value means nothing; the message names it.
    """
    settings = parse_settings(_table(pyproject), str(pyproject))
    _refuse_unknown(pyproject, "metric", settings.metrics, METRIC_THRESHOLDS)
    _refuse_unknown(pyproject, "backend", settings.backends, backends)
    return settings


def parse_settings(table: Mapping[str, Any], source: str) -> GateSettings:
    """Return the settings of a table ``[tool.embedopt.gate]``.

    Raises:
        UsageError: a key or a value means nothing; the message names it.
    """
    try:
        return _ADAPTER.validate_python(table)
    except ValidationError as error:
        raise UsageError(f"{source} [tool.embedopt.gate]: {describe_mistake(GateSettings, error)}") from None


def settings_in_force(rules: Mapping[str, Any], source: str, threshold: float | None) -> GateSettings:
    """Return the settings that plan and judge a gate run: the base's rules, and ``--gate-threshold``.

    Raises:
        UsageError: a key or a value means nothing; the message names it.
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
