"""When a change counts: ``[tool.embedopt.gate]`` of pyproject.toml."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from embedopt.errors import RecordError, UsageError
from embedopt.records import Accuracy
from embedopt.schema import from_json, metrics

# Beyond what the order of additions moves. A cosine's is a difference; a time's or a size's, a share.
# Scores of a ranking move in steps: one of 161 queries gained or lost is 0.006.
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
}

assert set(METRIC_THRESHOLDS) >= set(metrics(Accuracy))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """When a change counts.

    Attributes:
        threshold: smallest change of a call's time that counts, as a share: 0.03 is 3 %.
        backends: the same for single backends, by name.
        metrics: the same for what is not a call's time, by name of the metric.
        level: chance of a false alarm among all cells, of a first judgement and again of its confirmation.
        max_pairs: pairs that a cell whose interval stays too wide gets at most.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    threshold: float = 0.03
    backends: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    level: float = 0.05
    max_pairs: int = 16

    def __post_init__(self) -> None:
        named = {"threshold": self.threshold, **self.backends, **self.metrics}
        for name, value in named.items():
            if not 0 < value < 1:
                raise UsageError(f"[tool.embedopt.gate] {name} is {value}; wanted a share, 0.03 for 3 %")
        if not 0 < self.level <= 0.2:
            raise UsageError(f"[tool.embedopt.gate] level is {self.level}; wanted a chance, up to 0.2")
        _refuse_unknown("metric", self.metrics, METRIC_THRESHOLDS)

    def threshold_of(self, backend: str, metric: str) -> float:
        """Return the smallest change that counts: a share, or of a score a difference."""
        if metric == "latency":
            return self.backends.get(backend, self.threshold)
        return self.metrics.get(metric, METRIC_THRESHOLDS[metric])


def read_settings(pyproject: Path, backends: Collection[str]) -> GateSettings:
    """Read ``[tool.embedopt.gate]``; a file or a table that is not there leaves everything as it is.

    Args:
        pyproject: the file.
        backends: names that there are.

    Raises:
        UsageError: a key or a value means nothing; the message names it.
    """
    settings = _parsed(_table(pyproject), pyproject)
    _refuse_unknown("backend", settings.backends, backends)
    return settings


def _table(pyproject: Path) -> Mapping[str, Any]:
    try:
        found = tomllib.loads(pyproject.read_text(encoding="utf8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{pyproject} can't be read ({error}): mend it") from None
    table: Mapping[str, Any] = found.get("tool", {}).get("embedopt", {}).get("gate", {})
    return table


def _parsed(table: Mapping[str, Any], pyproject: Path) -> GateSettings:
    try:
        return from_json(GateSettings, table)
    except RecordError as error:
        raise UsageError(f"{pyproject} [tool.embedopt.gate]: {error}") from None


def _refuse_unknown(kind: str, named: Collection[str], known: Collection[str]) -> None:
    if unknown := [name for name in named if name not in known]:
        raise UsageError(f"[tool.embedopt.gate] unknown {kind} {unknown[0]!r}; known are: {', '.join(known)}")
