"""Embeds Arrow tables: for `embedopt encode`, and by hand in Ray Data, Spark or Daft."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa

from embedopt.bulk.readers import EMBEDDING
from embedopt.inference.backends import DEFAULT_TO_STORE
from embedopt.inference.loading import load_encoder
from embedopt.inference.plan import padding_share

DType = Literal["float32", "float16"]
# Texts on whose plan the share of padding is judged: to plan all of them again would cost time.
_PLANNED_TEXTS = 1024


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


class Embedder:
    """Adds the column ``embedding`` to Arrow tables; opened once, then called with any number of tables.

    Args:
        options: how texts become embeddings.
        column: name of the column with the texts.

    Attributes:
        encoding_s: seconds in which the encoder has worked.

    Raises:
        EmbedoptError: as :func:`embedopt.load_encoder`.
    """

    def __init__(self, options: EmbedderOptions = EmbedderOptions(), column: str = "text") -> None:
        self.encoder = load_encoder(
            options.backend,
            mode="throughput",
            model=options.model,
            revision=options.revision,
            trust_remote_code=options.trust_remote_code,
            cache_dir=options.cache_dir,
        )
        self.encoding_s = 0.0
        self._column, self._dtype = column, np.dtype(options.dtype)
        self._batch_size, self._prompt = options.batch_size, options.prompt

    @property
    def embedding_type(self) -> pa.DataType:
        """``fixed_size_list<float32 or float16>[dim]``."""
        return pa.list_(pa.from_numpy_dtype(self._dtype), self.encoder.dim)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the table with the embeddings of its texts, each of length 1, as its last column.

        Raises:
            InputError: a text is null or no string of valid Unicode.
        """
        texts = table[self._column].to_pylist()
        started_s = time.monotonic()
        embeddings = self.encoder.encode(texts, self._batch_size, prompt=self._prompt)
        self.encoding_s += time.monotonic() - started_s
        flat = pa.array(embeddings.astype(self._dtype, copy=False).reshape(-1))
        return table.append_column(
            EMBEDDING, pa.FixedSizeListArray.from_arrays(flat, type=self.embedding_type)
        )

    def padding(self, table: pa.Table) -> float:
        """Return the share of padding among the tokens that are computed for the first texts of a table."""
        texts = table[self._column].slice(0, _PLANNED_TEXTS).to_pylist()
        plan = self.encoder.plan(texts, self._batch_size)
        return padding_share(self.encoder.token_counts(texts), plan.batches)

    def close(self) -> None:
        """Free the model and its threads."""
        self.encoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
