"""About how long a run takes: seconds of each benchmark, corrected by those that are done."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedopt.clock import Clock
from embedopt.measure.options import Options
from embedopt.measure.profiles import ProfileName


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a benchmark asks, in words, and the seconds that it takes for one backend in each profile."""

    words: str
    seconds: Mapping[ProfileName, float]


# By the name of the benchmark's function; means over the backends on two cores (AMD Zen 4). The soak, the
# bulk benchmark and the gate run take what their options say.
QUESTIONS: Mapping[str, Question] = {
    "test_against": Question(words="comparison with the base", seconds={"full": 0.0, "quick": 0.0}),
    "test_against_besides": Question(words="comparison with the base", seconds={"full": 0.0, "quick": 0.0}),
    "test_agreement": Question(words="agreement with the reference", seconds={"full": 2.0, "quick": 1.0}),
    "test_retrieval": Question(words="retrieval", seconds={"full": 0.1, "quick": 0.1}),
    "test_clipping": Question(words="clipped activations", seconds={"full": 1.0, "quick": 1.0}),
    "test_batch_invariance": Question(words="batch invariance", seconds={"full": 2.0, "quick": 0.4}),
    "test_sentence_pairs": Question(words="sentence pairs", seconds={"full": 5.0, "quick": 5.0}),
    "test_footprint": Question(words="footprint", seconds={"full": 4.0, "quick": 1.5}),
    "test_latency": Question(words="latency", seconds={"full": 1.2, "quick": 1.0}),
    "test_throughput": Question(words="throughput", seconds={"full": 3.4, "quick": 1.1}),
    "test_forced": Question(words="forced batches", seconds={"full": 1.6, "quick": 0.4}),
    "test_side_by_side": Question(words="turns side by side", seconds={"full": 25.0, "quick": 0.0}),
    "test_load": Question(words="load test", seconds={"full": 50.0, "quick": 5.0}),
    "test_bulk": Question(words="bulk", seconds={"full": 0.0, "quick": 0.0}),
    "test_soak": Question(words="soak", seconds={"full": 0.0, "quick": 0.0}),
}
_BULK_S_PER_TEXT = 0.0013
# Seconds assumed for a benchmark that is not in the table.
_OTHER_S = 1.0
# Weight of the table, in seconds, against the measured pace.
_TABLE_WEIGHT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One benchmark of one backend.

    Attributes:
        backend: name of the backend; empty where the benchmark has none.
        batch_size: texts in a call; 0 where the benchmark has no batch size.
    """

    backend: str
    question: str
    seconds: float
    batch_size: int = 0


def plan_steps(tests: Sequence[tuple[str, Mapping[str, object]]], options: Options) -> tuple[Step, ...]:
    """Return the steps of a run: one for each test, in the order in which they run.

    A test has the name of its function and its parameters by name: ``encoder`` and ``batch_size`` count.
    """
    extra_s = {"test_soak": options.soak_s, "test_bulk": options.bulk_texts * _BULK_S_PER_TEXT}
    if options.against:
        extra_s["test_against"] = options.against.budget_s
    steps = []
    for function, parameters in tests:
        question = QUESTIONS.get(function)
        steps.append(
            Step(
                backend=str(parameters.get("encoder", "")),
                question=question.words if question else function,
                # The first test of the gate measures for all of them.
                seconds=extra_s.pop(function, question.seconds[options.profile] if question else _OTHER_S),
                batch_size=int(str(parameters.get("batch_size", 0))),
            )
        )
    return tuple(steps)


class Schedule:
    """The steps of a run, how many of them are done, and the time that is left.

    Attributes:
        done: number of steps that are done.
    """

    def __init__(self, steps: Sequence[Step], clock: Clock = time.monotonic) -> None:
        self.steps, self.done = steps, 0
        self._clock = clock
        self._started_s = self._step_started_s = clock()

    def finish_step(self) -> None:
        """Count the current step as done."""
        self.done += 1
        self._step_started_s = self._clock()

    @property
    def left_s(self) -> float:
        """About how many seconds are left, the current step included."""
        planned_s = sum(step.seconds for step in self.steps[: self.done])
        elapsed_s = self._step_started_s - self._started_s
        slowness = (elapsed_s + _TABLE_WEIGHT_S) / (planned_s + _TABLE_WEIGHT_S)
        current_s, *later_s = [slowness * step.seconds for step in self.steps[self.done :]] or [0.0]
        return max(current_s - (self._clock() - self._step_started_s), 0.0) + sum(later_s)
