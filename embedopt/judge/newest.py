"""The newest answer to each question: a partial run is completed by the runs before it.

``pytest benchmarks/ -k latency`` asks only some of the suite's questions. The newest earlier run of the same
kind and profile answers each of the others, back to the last whole run. A question that was asked and failed
stays unanswered: no older answer replaces it.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import History, SavedRun, read_run
from embedopt.judge.recommend import with_pareto_front
from embedopt.records import Accuracy, Footprint, LoadTest, ShardReference, Throughput

_RECORDS = {"accuracy": Accuracy, "throughput": Throughput, "footprint": Footprint}
_TURNS = "turns"


class Answer(NamedTuple):
    """The name of one figure: its question and backend; case and figure where a question has several."""

    question: str
    backend: str
    case: str = ""
    figure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """A run and the answers that earlier runs add to it.

    Attributes:
        head: the run as it was measured.
        run: the same with the answers of the earlier runs.
        older: the earlier runs that add answers, the newest first, with the names of their answers.
    """

    head: SavedRun
    run: SavedRun
    older: tuple[tuple[SavedRun, frozenset[Answer]], ...] = ()


def choose(history: History, file: Path | None, folder: Path) -> Newest:
    """Return the run of a file as it is, or without a file the newest answers of the folder's history.

    Raises:
        RecordError: there is no such run, or it can't be read.
    """
    if file:
        head = read_run(file)
        return Newest(head=head, run=head)
    if not history.runs:
        damaged = f" ({history.damaged[0]})" if history.damaged else ""
        raise RecordError(
            f"{folder} has no saved run that can be read{damaged}: run pytest benchmarks/ first, "
            "or name a file"
        )
    head = history.runs[-1][1]
    return newest_answers(head, history.before(head))


def newest_answers(head: SavedRun, earlier: Sequence[SavedRun]) -> Newest:
    """Complete a run by the earlier runs of its kind, which come the oldest first."""
    answers: dict[Answer, Any] = {}
    sources: dict[Answer, SavedRun] = {}
    failed: set[tuple[str, str]] = set()
    for run in _completing(head, earlier):
        added = {
            answer: value
            for answer, value in _answers(run).items()
            if answer not in answers and (answer.question, answer.backend) not in failed
        }
        answers |= added
        sources |= dict.fromkeys(added, run)
        failed |= _failed(run)
    older = tuple(
        (run, frozenset(answer for answer, source in sources.items() if source is run))
        for run in reversed(earlier)
        if any(source is run for source in sources.values())
    )
    return Newest(head=head, run=_joined(head, answers, sources) if older else head, older=older)


def _completing(head: SavedRun, earlier: Sequence[SavedRun]) -> Iterator[SavedRun]:
    """Yield a run, then the earlier ones of its profile, the newest first, up to the first whole run."""
    if head.run is None:
        return
    alike = [run for run in earlier if run.run and run.run.profile == head.run.profile]
    for run in (head, *reversed(alike)):
        yield run
        if run.run is None or run.run.part is None:
            return


def _failed(saved: SavedRun) -> set[tuple[str, str]]:
    failed = saved.run.part.failed if saved.run and saved.run.part else {}
    return {(question, backend) for question, backends in failed.items() for backend in backends}


def _answers(saved: SavedRun) -> dict[Answer, Any]:
    run = saved.run
    assert run is not None
    records = {Answer(kind, name): record for kind in _RECORDS for name, record in getattr(run, kind).items()}
    records |= {
        Answer("load", name, batching): record
        for name, by_batching in run.load.items()
        for batching, record in by_batching.items()
    }
    # Turns are measured in the file of throughput, by a benchmark of the reference.
    turns = {
        Answer("throughput", run.reference, name, _TURNS): case for name, case in run.side_by_side.items()
    }
    calls = {Answer("latency", timed.backend, str(timed.batch_size)): timed for timed in saved.latencies}
    figures = {
        answer._replace(figure=item.name): value
        for answer, record in records.items()
        for item in dataclasses.fields(record)
        if (value := getattr(record, item.name)) is not None
    }
    return {**calls, **turns, **figures}


def _joined(head: SavedRun, answers: Mapping[Answer, Any], sources: Mapping[Answer, SavedRun]) -> SavedRun:
    """Return the run with all answers; each backend keeps the reference that its own runs measured."""
    assert head.run is not None
    backends = dict(head.run.backends)
    for source in sources.values():
        backends = source.run.backends | backends if source.run else backends
    figures: dict[Answer, dict[str, Any]] = {}
    for answer, value in answers.items():
        figures.setdefault(answer._replace(figure=""), {})[answer.figure] = value
    joined = dataclasses.replace(
        head.run,
        backends=backends,
        side_by_side={answer.case: case for answer, case in answers.items() if answer.figure == _TURNS},
        load=_load(figures),
        shard_references={name: _reference(name, sources) for name in backends},
        accuracy=_records("accuracy", figures),
        throughput=_records("throughput", figures),
        footprint=_records("footprint", figures),
    )
    latencies = tuple(value for answer, value in answers.items() if answer.question == "latency")
    return dataclasses.replace(head, run=with_pareto_front(joined), latencies=latencies)


def _records(kind: str, figures: Mapping[Answer, dict[str, Any]]) -> dict[str, Any]:
    return {
        answer.backend: _RECORDS[kind](**values)
        for answer, values in figures.items()
        if answer.question == kind and not answer.case
    }


def _load(figures: Mapping[Answer, dict[str, Any]]) -> dict[str, dict[str, LoadTest]]:
    load: dict[str, dict[str, LoadTest]] = {}
    for answer, values in figures.items():
        if answer.question == "load":
            load.setdefault(answer.backend, {})[answer.case] = LoadTest(**values)
    return load


def _reference(backend: str, sources: Mapping[Answer, SavedRun]) -> ShardReference:
    """Return the reference's results in the runs that measured a backend.

    The reference's calls are left out where the backend's calls and throughput come from different runs: no
    ratio may mix runs.
    """
    by_question: dict[str, list[SavedRun]] = {}
    for answer, run in sources.items():
        if answer.backend == backend and answer.figure != _TURNS:
            runs = by_question.setdefault(answer.question, [])
            if not any(run is other for other in runs):
                runs.append(run)
    calls, rates = by_question.get("latency", []), by_question.get("throughput", [])
    is_one_run = len({id(run) for run in (*calls, *rates)}) == 1
    beside = {question: runs[0].reference_of(backend) for question, runs in by_question.items()}
    nothing = ShardReference()
    return ShardReference(
        latencies=beside.get("latency", nothing).latencies if is_one_run else (),
        throughput=beside.get("throughput", nothing).throughput,
        footprint=beside.get("footprint", nothing).footprint,
        load=beside.get("load", nothing).load,
    )
