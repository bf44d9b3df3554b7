"""One encoder for all runtimes, which differ in ``forward`` only.

Texts become tokens, tokens become batches of like length, and the embeddings return in the caller's order.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from embedopt.inference.artifacts.layout import TOKENIZER_FILE, TextSettings
from embedopt.inference.cost import Cost
from embedopt.inference.encoder import CallPlan, Encoder, FloatArray, IntArray, TokenizedText
from embedopt.inference.plan import plan_call
from embedopt.inference.replicas import Forward, Replicas, learned_costs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Limits memory: an Encoding of the tokenizers library takes some kB.
_TOKENIZE_AT_ONCE = 4096
# The tokenizer shares several texts among threads of its own. For at most this many, that costs more than it
# saves: its threads wait for a core on which another replica computes.
_FEW_TEXTS = 64


class Pipeline(Encoder):
    """An encoder made of a Rust tokenizer and replicas of one runtime's ``forward``.

    Args:
        name: the backend's name.
        tokenizer: the model's tokenizer, whose padding and truncation are set here.
        settings: how the model reads texts.
        ways: groups of replicas that share the cores, each of another size. A single text goes to the
            smallest, a call with several to the one that is expected to be the fastest.
        batch_tokens: largest number of padded tokens in a batch of several texts; None for no limit.
    """

    def __init__(
        self,
        name: str,
        tokenizer: "Tokenizer",
        settings: TextSettings,
        ways: Sequence[Replicas],
        batch_tokens: int | None = None,
    ) -> None:
        self.name = name
        self.dim = settings.dim
        self.replicas = ways[-1].count
        self._settings = settings
        self._batch_tokens = batch_tokens
        self._tokenizer = tokenizer
        settings.configure(tokenizer)
        self._ways = {way.count: way for way in ways}
        self._learning = threading.Lock()

    @classmethod
    def of_artifact(
        cls, name: str, folder: Path, ways: Sequence[Replicas], batch_tokens: int | None
    ) -> "Pipeline":
        """Return an encoder with the tokenizer and text settings of an artifact's folder."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        return cls(name, tokenizer, TextSettings.read(folder), ways, batch_tokens)

    @override
    def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
        return self._encode_after(self._settings.prompt, texts, batch_size)

    @override
    def _encode_prompted(self, texts: list[str], batch_size: int | None, prompt: str) -> FloatArray:
        return self._encode_after(self._settings.prompt_text(prompt), texts, batch_size)

    def _encode_after(self, prompt: str, texts: list[str], batch_size: int | None) -> FloatArray:
        tokens = list(self._token_ids(texts, prompt))
        return self._embed(tokens, self._planned(_lengths(tokens), batch_size), prompt)

    @override
    def _encode_as_one_batch(self, texts: list[str]) -> FloatArray:
        plan = CallPlan([np.arange(len(texts))], min(self._ways))
        return self._embed(list(self._token_ids(texts)), plan, self._settings.prompt)

    @override
    def _encode_tokenized(self, texts: Sequence[TokenizedText]) -> FloatArray:
        tokens = [text.ids for text in texts if text.ids is not None and text.tokenizer is self._tokenizer]
        if len(tokens) < len(texts):  # some have no ids, or those of another tokenizer
            tokens = list(self._token_ids([text.text for text in texts]))
        plan = CallPlan([np.arange(len(texts))], self.replicas)
        return self._embed(tokens, plan, self._settings.prompt)

    def _embed(self, tokens: Sequence[Sequence[int]], plan: CallPlan, prompt: str) -> FloatArray:
        embeddings = np.empty((len(tokens), self.dim), dtype=np.float32)
        unpooled = self._settings.unpooled(self._tokenizer, prompt)

        def encode(forward: Forward, batch: IntArray) -> None:
            embeddings[batch] = forward(*self._settings.pad([tokens[index] for index in batch], unpooled))

        self._ways[plan.replicas].run(encode, plan.batches)
        return embeddings

    @override
    def _plan(self, texts: list[str], batch_size: int | None) -> CallPlan:
        return self._planned(self._token_counts(texts), batch_size)

    def _planned(self, token_counts: IntArray, batch_size: int | None) -> CallPlan:
        ways = self._ways if len(token_counts) > 1 else [min(self._ways)]
        # Costs are measured only where there is a choice.
        costs = self._costs() if len(ways) > 1 else dict.fromkeys(ways, Cost())
        return plan_call(token_counts, costs, batch_size, self._batch_tokens)

    def _costs(self) -> Mapping[int, Cost]:
        with self._learning:  # two first calls at once would slow each other's measurements
            return learned_costs(self._ways.values())

    @override
    def _token_counts(self, texts: list[str]) -> IntArray:
        return _lengths(list(self._token_ids(texts)))

    @override
    def _tokenize(self, texts: list[str]) -> list[TokenizedText]:
        return [
            TokenizedText(text, len(ids), ids, self._tokenizer)
            for text, ids in zip(texts, self._token_ids(texts), strict=True)
        ]

    def _token_ids(self, texts: list[str], prompt: str | None = None) -> Iterator[Sequence[int]]:
        prompt = self._settings.prompt if prompt is None else prompt
        at_once = _TOKENIZE_AT_ONCE if len(texts) > _FEW_TEXTS else 1
        for start in range(0, len(texts), at_once):
            chunk = texts[start : start + at_once]
            prompted = [prompt + text for text in chunk] if prompt else chunk
            for encoding in self._tokenizer.encode_batch_fast(prompted):
                yield encoding.ids

    @override
    def _release(self) -> None:
        for way in self._ways.values():
            way.close()


def _lengths(tokens: Sequence[Sequence[int]]) -> IntArray:
    return np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
