"""The options of a run: their defaults, and the values that they accept."""

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from embedopt.inference.backend import Backend
from embedopt.measure.pairs.gate_run import GatePlan
from embedopt.measure.profiles import ProfileName

# Defaults of a gate run: what it can decide on two cores within the default budget.
AGAINST_BACKENDS = "torch-fp32,onnx-fp32,onnx-int8"
AGAINST_BATCH_SIZES = "1,8,32"

# What the checked options accept: the limits that pydantic checks, and their description in the message.
MinCosine = Annotated[float, Field(title="--min-cosine", description="a cosine, from -1 to 1", ge=-1, le=1)]
PricePerHour = Annotated[float, Field(title="--price-per-hour", description="dollars, 0 or more", ge=0)]
SloP99Ms = Annotated[float, Field(title="--slo-p99-ms", description="milliseconds above 0", gt=0)]
SoakS = Annotated[float, Field(title="--soak-s", description="seconds, 0 or more", ge=0)]
BulkTexts = Annotated[int, Field(title="--bulk-texts", description="a number of texts, 0 or more", ge=0)]
GateThreshold = Annotated[
    float | None, Field(title="--gate-threshold", description="a share, 0.03 for 3 %", gt=0, lt=1)
]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(allow_inf_nan=False))
class Options:
    """The options of a run, as :func:`embedopt.measure.declared_options.declare_options` describes them.

    Attributes:
        backends: backends that are measured, the reference first.
        left_out: backends that ``all`` or the profile stands for, but whose packages are not installed.
    """

    backends: tuple[Backend, ...]
    left_out: tuple[Backend, ...] = ()
    batch_sizes: tuple[int, ...]
    profile: ProfileName = "full"
    corpus: Path
    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    cache_dir: Path | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    min_cosine: MinCosine = 0.95
    sentence_pairs: Path | None = None
    price_per_hour: PricePerHour = 0.05
    slo_p99_ms: SloP99Ms = 50.0
    soak_s: SoakS = 0.0
    bulk_texts: BulkTexts = 0
    gate_threshold: GateThreshold = None
    against: GatePlan | None = None
