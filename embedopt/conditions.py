"""The records of the conditions of a run: its backends, machine, model and corpus."""

from dataclasses import field
from typing import Annotated

from embedopt.schema import OMIT_EMPTY, record


@record
class BackendInfo:
    """A backend as it was measured.

    Attributes:
        base: backend that this one is derived from, and that the gain of its precision is measured against.
        settings: settings that it ran with, including those that ``embedopt tune`` saved.
        throughput_settings: the same in throughput mode; empty if the backend has one mode.
    """

    precision: str
    base: str | None
    settings: dict[str, str | int | bool]
    throughput_settings: dict[str, str | int | bool] = field(default_factory=dict)


@record
class Machine:
    """The machine of a run. CPU, instruction sets, cores, quota and threads make its hardware class.

    Attributes:
        cores: logical cores that the run could use.
        quota: cores whose time its control groups granted; None without a limit below ``cores``.
        threads: threads of a call, and replicas of a model.
    """

    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    threads: int
    system: str
    python: str
    libraries: dict[str, str]
    quota: Annotated[float | None, OMIT_EMPTY] = None

    @property
    def hardware_class(self) -> str:
        """Scores and times may be compared within one hardware class only."""
        sets = "+".join(self.instruction_sets) or "none"
        quota = "" if self.quota is None else f" | quota {self.quota:g}"
        return f"{self.cpu} | {sets} | {self.cores} cores{quota} | {self.threads} threads"


@record
class Model:
    """The model of a run; ``digest`` is the sha256 of all files that opening it reads."""

    name: str
    digest: str


@record
class CorpusInfo:
    """The corpus of a run; ``digest`` is the sha256 of its texts in order."""

    name: str
    digest: str
    texts: int
    mean_tokens: float | None
