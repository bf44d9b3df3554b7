"""Joins the shards of one run, each of some backends, measured on machines of one hardware class.

Machines of a class differ in speed, so each backend keeps the reference of its own shard beside it: ratios
are of one machine, as in any other run. What does not fit together is refused, in words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedopt.errors import RecordError
from embedopt.evidence import GateRun
from embedopt.judge.history.saved_runs import SavedRun, differences
from embedopt.judge.recommend import with_pareto_front
from embedopt.records import Footprint, Run, ShardReference, Throughput
from embedopt.schema import to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One saved file: what is read from it, and its content."""

    saved: SavedRun
    content: Mapping[str, Any]

    @property
    def run(self) -> Run:
        """The record.

        Raises:
            RecordError: another suite wrote the file.
        """
        if self.saved.run is None:
            raise RecordError(f"{self.saved.name} has no embedopt record: merge runs of benchmarks/ only")
        return self.saved.run


def merge(shards: Sequence[Shard]) -> dict[str, Any]:
    """Return the content of the file that all shards would have made in one.

    Args:
        shards: at least one; the first is the frame that the others are put into.

    Raises:
        RecordError: a shard is of another hardware class, model, corpus, profile, commit, environment or base
            than the first, has no reference, or has a backend that an earlier one has.
    """
    first, *others = shards
    run, content = _checked(first, first), dict(first.content)
    for other in others:
        run = _joined(run, _checked(other, first), other.saved)
        known = {bench.get("fullname") for bench in content["benchmarks"]}
        own = [bench for bench in other.content["benchmarks"] if bench.get("fullname") not in known]
        content["benchmarks"] = [*content["benchmarks"], *own]
    return content | {"embedopt": to_json(with_pareto_front(run))}


def _checked(shard: Shard, first: Shard) -> Run:
    run = shard.run
    if run.reference not in run.backends:
        raise RecordError(f"{shard.saved.name} has no {run.reference}: each shard has to carry the reference")
    checked = (
        ("commit", shard.saved.commit, first.saved.commit),
        ("base", _base(run), _base(first.run)),
        *_environments(run, first.run),
    )
    why = [
        *differences(run, first.run),
        *(f"its {what} is {old}, this one's is {new}" for what, old, new in checked if old != new),
    ]
    if why:
        raise RecordError(f"{shard.saved.name} can't be joined to {first.saved.name}: {'; '.join(why)}")
    return run


def _environments(run: Run, first: Run) -> list[tuple[str, str, str]]:
    theirs, ours = ({"Python": of.machine.python, **of.machine.libraries} for of in (run, first))
    return [(name, theirs.get(name, "none"), ours.get(name, "none")) for name in theirs | ours]


def _base(run: Run) -> str:
    return run.against.base_commit if run.against else "none"


def _joined(run: Run, other: Run, saved: SavedRun) -> Run:
    added = [name for name in other.backends if name != other.reference]
    if twice := [name for name in added if name in run.backends]:
        raise RecordError(
            f"{saved.name} has {', '.join(twice)}, which an earlier shard has: give each backend to one"
        )
    reference = ShardReference(
        latencies=tuple(of for of in saved.latencies if of.backend == other.reference),
        throughput=other.throughput.get(other.reference, Throughput()),
        footprint=other.footprint.get(other.reference, Footprint()),
        load=other.load.get(other.reference, {}).get("none"),
    )
    return replace(
        run,
        backends=run.backends | {name: other.backends[name] for name in added},
        accuracy=other.accuracy | run.accuracy,
        throughput=other.throughput | run.throughput,
        footprint=other.footprint | run.footprint,
        load=other.load | run.load,
        side_by_side=run.side_by_side
        | {f"{name}, {' and '.join(added)}": case for name, case in other.side_by_side.items()},
        against=_joined_against(run.against, other.against),
        shard_references=run.shard_references | dict.fromkeys(added, reference),
    )


def _joined_against(ours: GateRun | None, theirs: GateRun | None) -> GateRun | None:
    """Join what was measured beside the base; of the reference, measured in each shard, the first counts."""
    if ours is None or theirs is None:
        return ours
    cells = {cell.cell for cell in ours.cells}
    exact = {(pair.backend, pair.metric) for pair in ours.exact}
    said = {of.backend for of in ours.not_comparable}
    return replace(
        ours,
        cells=(*ours.cells, *(cell for cell in theirs.cells if cell.cell not in cells)),
        exact=(*ours.exact, *(pair for pair in theirs.exact if (pair.backend, pair.metric) not in exact)),
        not_comparable=(
            *ours.not_comparable,
            *(of for of in theirs.not_comparable if of.backend not in said),
        ),
        pairs=ours.pairs + theirs.pairs,
        seconds=ours.seconds + theirs.seconds,
        budget_s=ours.budget_s + theirs.budget_s,
    )
