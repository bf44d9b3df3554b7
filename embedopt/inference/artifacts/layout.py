"""What the folder of an artifact holds beside its graph, and the inputs that the graph takes."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedopt.inference.encoder import IntArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
MANIFEST = "manifest.json"
_TEXT_SETTINGS = "text.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How a model reads texts.

    Attributes:
        dim: number of components of an embedding.
        max_length: number of tokens that a text is cut to, special tokens included; None for no limit.
        pad_id: token that fills up the shorter texts of a batch.
        prompt: string that is put before a text unless a call gives another.
        truncation_side: ``right`` to keep the beginning of a text that is too long, ``left`` to keep its end.
        split_special_tokens: whether a special token in a text is read as ordinary characters.
        prompts: the model's prompts by name.
        pools_prompt: whether the tokens of a prompt are pooled with those of the text.
        special_ids: special tokens; one at the end of a tokenized prompt does not belong to the prompt.
    """

    dim: int
    max_length: int | None
    pad_id: int
    prompt: str
    truncation_side: str = "right"
    split_special_tokens: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    pools_prompt: bool = True
    special_ids: Sequence[int] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the settings into the folder of an artifact."""
        (folder / _TEXT_SETTINGS).write_text(json.dumps(asdict(self)), encoding="utf8")

    @classmethod
    def read(cls, folder: Path) -> "TextSettings":
        """Return the settings in the folder of an artifact."""
        return cls(**json.loads((folder / _TEXT_SETTINGS).read_text(encoding="utf8")))

    def prompt_text(self, prompt: str) -> str:
        """Return the string that a prompt's name stands for; any other string is a prompt itself."""
        return self.prompts.get(prompt, prompt)

    def unpooled(self, tokenizer: "Tokenizer", prompt: str) -> int:
        """Return how many of a text's first tokens the pooling leaves out, counted as the library does."""
        if self.pools_prompt or not prompt:
            return 0
        ids = tokenizer.encode(prompt).ids
        return len(ids) - (ids[-1] in self.special_ids)

    def configure(self, tokenizer: "Tokenizer") -> None:
        """Make a tokenizer cut texts to :attr:`max_length`, without padding."""
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = self.split_special_tokens
        if self.max_length is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(self.max_length, direction=self.truncation_side)

    def pad(self, tokens: Sequence[Sequence[int]], unpooled: int = 0) -> tuple[IntArray, IntArray]:
        """Return ids and mask of a batch of texts, each ``(n, length) int64``, padded on the right.

        The mask is 0 for padding, 2 for the first ``unpooled`` tokens of a text and 1 for its others.
        """
        lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
        # A text may have no tokens at all, as the empty one of GPT-2; graphs take no batch without a column.
        mask = np.arange(max(lengths.max(), 1)) < lengths[:, None]
        ids = np.full(mask.shape, self.pad_id, dtype=np.int64)
        ids[mask] = np.concatenate(tokens)
        numbers = mask.astype(np.int64)
        numbers[:, :unpooled] *= 2
        return ids, numbers


def graph_inputs(folder: Path, batches: Iterable[Sequence[str]]) -> list[dict[str, IntArray]]:
    """Return the inputs of the graph in ``folder`` for each batch: ``(n, length) int64`` by name."""
    from tokenizers import Tokenizer

    settings, tokenizer = TextSettings.read(folder), Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    settings.configure(tokenizer)
    inputs = []
    for texts in batches:
        encodings = tokenizer.encode_batch_fast([settings.prompt + text for text in texts])
        unpooled = settings.unpooled(tokenizer, settings.prompt)
        ids, mask = settings.pad([encoding.ids for encoding in encodings], unpooled)
        inputs.append({"input_ids": ids, "attention_mask": mask})
    return inputs


def copy_without_graph(source: Path, target: Path) -> None:
    """Copy an artifact's folder but for its ONNX graph and its manifest."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.onnx*", MANIFEST), dirs_exist_ok=True)
