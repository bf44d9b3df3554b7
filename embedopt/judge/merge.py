"""Joins the shards of one run, each of some backends, measured on machines of one hardware class.

Machines of a class differ in speed, so each backend keeps the reference of its own shard beside it: every
ratio is between figures of one machine, as in any other run. Shards that do not fit together are refused.
A gate run that a checkout of the base measured has a file of its own, beside the head's figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from embedopt.errors import RecordError
from embedopt.evidence import GateRun
from embedopt.judge.history.saved_runs import SavedRun, differences
from embedopt.judge.recommend import with_pareto_front
from embedopt.records import Run
from embedopt.schema import from_json, to_json

T = TypeVar("T")


# One saved file: the run that was read from it, and its whole content.
Shard = tuple[SavedRun, Mapping[str, Any]]


def merge(shards: Sequence[Shard]) -> dict[str, Any]:
    """Return the content of the file that one run of all backends would have saved, from at least one shard.

    Raises:
        RecordError: a shard has another hardware class, model, corpus, profile, commit, environment, base
            or gate threshold than the first, lacks the reference, or has a backend that an earlier shard has.
    """
    gate_runs = [shard for shard in shards if _is_gate_run_alone(*shard)]
    figures = [shard for shard in shards if shard not in gate_runs]
    if not (gate_runs and figures):
        return _merged(shards)
    content, (first, _) = _merged(figures), gate_runs[0]
    measured, run = from_json(Run, _merged(gate_runs)["embedopt"]), from_json(Run, content["embedopt"])
    head, base = (measured.against.head, _base(run)) if measured.against else ("", "none")
    why = [*differences(measured, run)]
    if head.partition(" ")[0] != figures[0][0].commit:
        why.append(f"its head is {head}, this one's commit is {figures[0][0].commit}")
    if base != "none":
        why.append(f"this one has a gate run, too, against {base}")
    if why:
        raise RecordError(f"{first.name} can't be joined to {figures[0][0].name}: {'; '.join(why)}")
    return content | {"embedopt": to_json(replace(run, against=measured.against))}


def _is_gate_run_alone(saved: SavedRun, content: Mapping[str, Any]) -> bool:
    run = saved.run
    if run is None or run.against is None or content["benchmarks"]:
        return False
    return not any((run.accuracy, run.throughput, run.footprint, run.load, run.side_by_side))


def _merged(shards: Sequence[Shard]) -> dict[str, Any]:
    (first, content), *others = shards
    run, content = _checked(first, first), dict(content)
    for other, added in others:
        run = _joined(run, _checked(other, first), other)
        known = {bench.get("fullname") for bench in content["benchmarks"]}
        own = [bench for bench in added["benchmarks"] if bench.get("fullname") not in known]
        content["benchmarks"] = [*content["benchmarks"], *own]
    return content | {"embedopt": to_json(with_pareto_front(run))}


def _checked(saved: SavedRun, first: SavedRun) -> Run:
    run, first_run = _run_of(saved), _run_of(first)
    if run.reference not in run.backends:
        raise RecordError(f"{saved.name} has no {run.reference}: measure the reference in each shard")
    checked = (
        ("commit", saved.commit, first.commit),
        ("base", _base(run), _base(first_run)),
        ("gate threshold", _threshold(run), _threshold(first_run)),
        *_environments(run, first_run),
    )
    why = [
        *differences(run, first_run),
        *(f"its {name} is {old}, this one's is {new}" for name, old, new in checked if old != new),
    ]
    if why:
        raise RecordError(f"{saved.name} can't be joined to {first.name}: {'; '.join(why)}")
    return run


def _run_of(saved: SavedRun) -> Run:
    if saved.run is None:
        raise RecordError(f"{saved.name} has no embedopt record: merge runs of benchmarks/ only")
    return saved.run


def _environments(run: Run, first: Run) -> list[tuple[str, str, str]]:
    theirs, ours = (
        {"Python": machine.python, **machine.libraries} for machine in (run.machine, first.machine)
    )
    return [(name, theirs.get(name, "none"), ours.get(name, "none")) for name in theirs | ours]


def _base(run: Run) -> str:
    return run.against.base_commit if run.against else "none"


def _threshold(run: Run) -> str:
    threshold = run.against.threshold if run.against else None
    return "that of the settings" if threshold is None else f"{threshold:g}"


def _joined(run: Run, other: Run, saved: SavedRun) -> Run:
    added = [name for name in other.backends if name != other.reference]
    if twice := [name for name in added if name in run.backends]:
        raise RecordError(
            f"{saved.name} has {', '.join(twice)}, which an earlier shard has: give each backend to one"
        )
    reference = saved.reference_of(other.reference)
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
        part=None,  # what a missing shard should have measured is lost, not left out
    )


def _joined_against(ours: GateRun | None, theirs: GateRun | None) -> GateRun | None:
    """Join the evidence of two gate runs, and keep all that each shard has on the reference."""
    if ours is None or theirs is None:
        return ours
    return replace(
        ours,
        cells=_distinct(ours.cells, theirs.cells),
        exact=_distinct(ours.exact, theirs.exact),
        not_comparable=_distinct(ours.not_comparable, theirs.not_comparable),
        drift=_distinct(ours.drift, theirs.drift),
        added=_distinct(ours.added, theirs.added),
        removed=_distinct(ours.removed, theirs.removed),
        notes=_distinct(ours.notes, theirs.notes),
        pairs=ours.pairs + theirs.pairs,
        seconds=ours.seconds + theirs.seconds,
        budget_s=ours.budget_s + theirs.budget_s,
    )


def _distinct(ours: Iterable[T], theirs: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*ours, *theirs)))
