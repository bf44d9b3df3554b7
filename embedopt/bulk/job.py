"""A job: what to encode, how, and into which folder. This module does not need pyarrow."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from embedopt.errors import UsageError
from embedopt.inference.backends import DEFAULT_TO_STORE
from embedopt.inference.encoder import Encoder
from embedopt.inference.loading import load_encoder

DType = Literal["float32", "float16"]
# Rows of a part, the most that a kill can lose: one or two minutes' work of a core.
PART_ROWS = 65_536
# Rows of a chunk: enough to plan batches of like length, few enough to hold in memory with their embeddings.
CHUNK_ROWS = 8192
# Name of the text column where a format has none.
TEXT_COLUMN = "text"
# Columns of the output.
ID, EMBEDDING = "id", "embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns that are read.

    Attributes:
        text: column with the texts.
        id: column with the ids; None for the number of the row in its file, from 1.
        keep: further columns that the output keeps.

    Raises:
        UsageError: the output would have two columns of one name.
    """

    text: str = TEXT_COLUMN
    id: str | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = (ID, *self.keep, EMBEDDING)
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(
                f"the output would have two columns {twice[0]!r}; wanted each once: leave it out of "
                "--keep, or rename it in the input"
            )

    @property
    def carried(self) -> tuple[str, ...]:
        """Columns that the output takes over, each once."""
        return tuple(dict.fromkeys((*((self.id,) if self.id else ()), *self.keep)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderOptions:
    """How texts become embeddings.

    Attributes:
        backend: name of a backend.
        model: None for all-MiniLM-L6-v2; else a local folder or a hub name.
        revision: branch, tag or commit of a hub name; None for its main branch.
        trust_remote_code: whether Python code that comes with the model may run.
        dtype: type of an embedding's components.
        batch_size: largest number of texts in a batch; None to let the backend choose.
        prompt: name of one of the model's prompts, or a string, before each text; None for its default.
        cache_dir: folder of the artifacts; None for ``$EMBEDOPT_CACHE`` or the user's cache folder.
    """

    backend: str = DEFAULT_TO_STORE
    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: DType = "float32"
    batch_size: int | None = None
    prompt: str | None = None
    cache_dir: Path | None = None

    def open_encoder(self, on_step: Callable[[str], None] | None = None) -> Encoder:
        """Open the encoder for many texts; see :func:`embedopt.load_encoder`."""
        return load_encoder(
            self.backend,
            mode="throughput",
            model=self.model,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            cache_dir=self.cache_dir,
            on_step=on_step,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be encoded, into which folder and how.

    Attributes:
        inputs: files, folders and patterns.
        output: folder of the Parquet files.
        columns: columns that are read.
        embedder: how texts become embeddings.
        skip_bad_rows: whether rows that can't be encoded go to a rejects file, instead of ending the job.
        force: whether to encode all again where the folder was encoded in another way.
        mixed: whether to keep what was encoded in another way, and encode the rest.
        ray: address of the Ray cluster that encodes; ``local`` for one on this machine, None for none.
        part_rows: rows of a part, a multiple of ``chunk_rows``.
        chunk_rows: rows that are in memory at a time.
    """

    inputs: tuple[str, ...]
    output: Path
    columns: Columns
    embedder: EmbedderOptions = field(default_factory=EmbedderOptions)
    skip_bad_rows: bool = False
    force: bool = False
    mixed: bool = False
    ray: str | None = None
    part_rows: int = PART_ROWS
    chunk_rows: int = CHUNK_ROWS
