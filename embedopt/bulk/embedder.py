"""Embeds Arrow tables: for `embedopt encode`, and by hand in Ray Data, Spark or Daft."""

import time
from typing import Self

import numpy as np
import pyarrow as pa

from embedopt.bulk.job import EMBEDDING, TEXT_COLUMN, EmbedderOptions
from embedopt.inference.plan import padding_share

# The share of padding is estimated from this many texts: to plan all of them a second time would cost time.
_PLANNED_TEXTS = 1024


class Embedder:
    """Adds the column ``embedding`` to Arrow tables; opened once, then called with any number of tables.

    Args:
        options: how texts become embeddings.
        column: name of the column with the texts.

    Attributes:
        encoding_s: seconds that the encoder has worked.

    Raises:
        EmbedoptError: as :func:`embedopt.load_encoder`.
    """

    def __init__(self, options: EmbedderOptions, column: str = TEXT_COLUMN) -> None:
        self.encoder = options.open_encoder()
        self.encoding_s = 0.0
        self._column, self._dtype = column, np.dtype(options.dtype)
        self._batch_size, self._prompt = options.batch_size, options.prompt

    @property
    def embedding_type(self) -> pa.DataType:
        """``fixed_size_list<float32 or float16>[dim]``."""
        return pa.list_(pa.from_numpy_dtype(self._dtype), self.encoder.dim)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the table with the embeddings of its texts, as the encoder gives them, as its last column.

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
