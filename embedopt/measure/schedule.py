"""About how long a run takes: seconds of each benchmark, corrected by those that are done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedopt.measure.profiles import ProfileName


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a benchmark asks, in words, and the seconds that it takes for one backend in each profile."""

    words: str
    seconds: Mapping[ProfileName, float]


# By the name of the benchmark's function; means over the backends of two cores (AMD Zen 4).
QUESTIONS: Mapping[str, Question] = {
    "test_agreement": Question(words="agreement with the reference", seconds={"full": 1.5, "quick": 1.0}),
    "test_retrieval": Question(words="retrieval", seconds={"full": 0.1, "quick": 0.1}),
    "test_batch_invariance": Question(words="batch invariance", seconds={"full": 1.5, "quick": 0.4}),
    "test_sentence_pairs": Question(words="sentence pairs", seconds={"full": 5.0, "quick": 5.0}),
    "test_footprint": Question(words="footprint", seconds={"full": 3.0, "quick": 1.5}),
    "test_latency": Question(words="latency", seconds={"full": 1.2, "quick": 1.0}),
    "test_throughput": Question(words="throughput", seconds={"full": 9.0, "quick": 1.5}),
    "test_side_by_side": Question(words="turns side by side", seconds={"full": 40.0, "quick": 0.0}),
    "test_load": Question(words="load test", seconds={"full": 45.0, "quick": 5.0}),
}
# A benchmark of another suite, of which nothing is known.
_OTHER_S = 1.0
# The table is trusted as if so many seconds of it had already come true.
_TRUSTED_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One benchmark of one backend.

    Attributes:
        backend: the backend's name; empty where the benchmark is of none.
        question: what is asked, in words.
        seconds: about how long it takes.
    """

    backend: str
    question: str
    seconds: float


def step_of(function: str, parameters: Mapping[str, object], profile: ProfileName) -> Step:
    """Return the step of one test.

    Args:
        function: the name of its function.
        parameters: its parameters by name; those known here are ``encoder`` and ``batch_size``.
        profile: how much is measured.
    """
    question = QUESTIONS.get(function)
    batch = f", batch {parameters['batch_size']}" if "batch_size" in parameters else ""
    return Step(
        backend=str(parameters.get("encoder", "")),
        question=(question.words if question else function) + batch,
        seconds=question.seconds[profile] if question else _OTHER_S,
    )


def seconds_left(steps: Sequence[Step], done: int, elapsed_s: float) -> float:
    """Return about how many seconds the steps after the first ``done`` take.

    Args:
        steps: of the run, in their order.
        done: number of steps that are done.
        elapsed_s: seconds that those took.
    """
    planned_s = sum(step.seconds for step in steps[:done])
    slowness = (elapsed_s + _TRUSTED_S) / (planned_s + _TRUSTED_S)
    return slowness * sum(step.seconds for step in steps[done:])
