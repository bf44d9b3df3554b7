"""How much a run measures: the profiles ``full`` and ``quick``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ProfileName = Literal["full", "quick"]
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestPlan:
    """How long a server is put under load, and at which arrival rates.

    Attributes:
        shares: arrival rates, as shares of the rate at which the replicas encode texts one by one.
        point_s: seconds at each of these rates, and at each rate of the search.
        search_steps: bisections of the search for the highest rate; 0 for no search.
        verify_s: seconds at the rate that the search ends with.
        overload_s: seconds at three times that rate; 0 for no overload.
        texts: largest number of different texts that arrive.
    """

    shares: tuple[float, ...]
    point_s: float
    search_steps: int
    verify_s: float
    overload_s: float
    texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How many calls, texts and seconds each benchmark takes.

    Attributes:
        backends: default of ``--backends``.
        batch_sizes: default of ``--batch-sizes``.
        single_calls: timed calls at batch size 1; a p99 with an interval takes 368.
        batch_calls: smallest number of timed calls at a larger batch size.
        latency_s: seconds that the calls at a larger batch size fill.
        throughput_s: seconds of encoding in planned batches.
        in_order_s: seconds of encoding in batches of the texts as they come.
        throughput_texts: largest number of texts that throughput is measured on.
        turns: rounds in which the backends take turns on the same texts; 0 for none.
        turn_texts: largest number of texts that a backend encodes in its turn.
        turn_calls: calls with one text each in a turn.
        invariance_texts: texts that batch invariance is measured on.
        invariance_rounds: random batches that each of these texts is encoded in.
        footprint_texts: texts that the process of a footprint encodes.
        load: plan of the load tests.
    """

    backends: str
    batch_sizes: tuple[int, ...]
    single_calls: int
    batch_calls: int
    latency_s: float
    throughput_s: float
    in_order_s: float
    throughput_texts: int
    turns: int
    turn_texts: int
    turn_calls: int
    invariance_texts: int
    invariance_rounds: int
    footprint_texts: int
    load: LoadTestPlan

    @property
    def invariance(self) -> Mapping[str, int]:
        """Texts and rounds of batch invariance, as a worker's request ``accuracy`` has them."""
        return {"invariance_texts": self.invariance_texts, "invariance_rounds": self.invariance_rounds}


PROFILES: Mapping[str, Profile] = {
    "full": Profile(
        backends="all",
        batch_sizes=BATCH_SIZES,
        single_calls=400,
        batch_calls=8,
        latency_s=0.4,
        throughput_s=2.5,
        in_order_s=1.5,
        throughput_texts=100_000,
        turns=3,
        turn_texts=160,
        turn_calls=40,
        invariance_texts=96,
        invariance_rounds=2,
        footprint_texts=128,
        load=LoadTestPlan(
            shares=(1 / 3, 2 / 3, 1.0),
            point_s=1.2,
            search_steps=2,
            verify_s=3.0,
            overload_s=10.0,
            texts=805,
        ),
    ),
    "quick": Profile(
        # The reference, and the backends that open without sentence-transformers, which takes 5 s to import.
        backends="torch-fp32,onnx-fp32,onnx-int8,onnx-int8-per-tensor,onnx-int8-block",
        batch_sizes=(1, 32),
        single_calls=200,
        batch_calls=6,
        latency_s=0.2,
        throughput_s=0.3,
        in_order_s=0.2,
        throughput_texts=96,
        turns=0,
        turn_texts=0,
        turn_calls=0,
        invariance_texts=40,
        invariance_rounds=2,
        footprint_texts=32,
        load=LoadTestPlan(
            shares=(1 / 3,),
            point_s=0.7,
            search_steps=0,
            verify_s=0.0,
            overload_s=0.0,
            texts=64,
        ),
    ),
}
