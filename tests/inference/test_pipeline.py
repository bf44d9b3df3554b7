"""Every text gets its row, in the caller's order, and batches have little padding."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from embedopt.errors import EmbedoptError
from embedopt.inference.artifacts.layout import TextSettings
from embedopt.inference.encoder import FloatArray, IntArray, TokenizedText
from embedopt.inference.pipeline import (
    Pipeline,
    padding_share,
    plan_batches,
    plan_for_replicas,
)

lengths = st.lists(st.integers(1, 256), max_size=300).map(lambda values: np.asarray(values, dtype=np.int64))


class CountingForward:
    """Embeds a text as (its first token, its number of tokens), and records the shapes of the batches."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        assert ids.dtype == mask.dtype == np.int64
        self.shapes.append((ids.shape[0], ids.shape[1]))
        return np.stack([ids[:, 0], mask.sum(axis=1)], axis=1).astype(np.float32)


def _tokenizer(words: int = 2000) -> Tokenizer:
    """A tokenizer in which each number is its own token; 0 is padding."""
    tokenizer = Tokenizer(models.WordLevel({str(number): number for number in range(words)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _pipeline(forward: CountingForward, max_length: int | None = 8, prompt: str = "") -> Pipeline:
    settings = TextSettings(dim=2, max_length=max_length, pad_id=0, prompt=prompt)
    return Pipeline("test", _tokenizer(), settings, [forward])


sizes = st.none() | st.integers(1, 64)
budgets = st.none() | st.integers(1, 2048)


@given(lengths, sizes, budgets)
def test_a_plan_has_each_text_once_in_batches_of_falling_length(
    counts: IntArray, batch_size: int | None, batch_tokens: int | None
) -> None:
    batches = plan_batches(counts, batch_size, batch_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(counts)))
    assert all(len(batch) <= (batch_size or len(counts)) for batch in batches)
    assert all(counts[first].min() >= counts[second].max() for first, second in pairwise(batches))
    if batch_tokens is not None:
        assert all(len(batch) == 1 or len(batch) * counts[batch].max() <= batch_tokens for batch in batches)


@given(lengths, sizes, budgets)
def test_the_batches_of_a_plan_are_full(
    counts: IntArray, batch_size: int | None, batch_tokens: int | None
) -> None:
    """One more text in any batch but the last would exceed a limit."""
    for batch in plan_batches(counts, batch_size, batch_tokens)[:-1]:
        full = len(batch) == batch_size
        assert full or (batch_tokens is not None and (len(batch) + 1) * counts[batch].max() > batch_tokens)


@given(lengths, st.integers(1, 64))
def test_a_plan_pads_no_more_than_batches_in_the_given_order(counts: IntArray, batch_size: int) -> None:
    """Sorting gives the least padding for a batch size when all batches are full."""
    counts = counts[: len(counts) // batch_size * batch_size]
    as_given = [
        np.arange(start, min(start + batch_size, len(counts))) for start in range(0, len(counts), batch_size)
    ]
    share = padding_share(counts, plan_batches(counts, batch_size))
    assert 0.0 <= share <= padding_share(counts, as_given) + 1e-12


@given(lengths, st.integers(1, 2048), st.integers(1, 8))
def test_a_plan_for_replicas_is_a_plan_within_the_budget(
    counts: IntArray, batch_tokens: int, replicas: int
) -> None:
    """It needs as many rounds of the replicas as the plan with the whole limit."""
    batches = plan_for_replicas(counts, batch_tokens, replicas)
    assert sorted(index for batch in batches for index in batch) == list(range(len(counts)))
    assert all(len(batch) == 1 or len(batch) * counts[batch].max() <= batch_tokens for batch in batches)
    plain = plan_batches(counts, batch_tokens=batch_tokens)
    assert -(-len(batches) // replicas) == -(-len(plain) // replicas)


def test_a_plan_for_replicas_leaves_none_idle() -> None:
    """For two replicas, five batches become six, and one batch becomes two."""
    counts = np.full(100, 10)
    assert [len(batch) for batch in plan_batches(counts, batch_tokens=220)] == [22, 22, 22, 22, 12]
    assert [len(batch) for batch in plan_for_replicas(counts, 220, 2)] == [17, 17, 17, 17, 17, 15]
    assert [len(batch) for batch in plan_for_replicas(counts, 220, 1)] == [22, 22, 22, 22, 12]
    assert [len(batch) for batch in plan_for_replicas(counts, 1000, 2)] == [50, 50]
    assert [len(batch) for batch in plan_for_replicas(counts[:1], 1000, 2)] == [1]


def test_texts_of_the_same_length_keep_their_order() -> None:
    assert [batch.tolist() for batch in plan_batches(np.asarray([2, 3, 2, 3, 2]), 2)] == [[1, 3], [0, 2], [4]]


def test_padding_share_is_the_share_of_padding_among_computed_tokens() -> None:
    counts = np.asarray([2, 4, 4, 2])
    assert padding_share(counts, [np.asarray([0, 1]), np.asarray([2, 3])]) == pytest.approx(4 / 16)
    assert padding_share(counts, [np.asarray([1, 2]), np.asarray([0, 3])]) == 0.0
    assert padding_share(counts[:0], []) == 0.0


def test_rows_are_in_the_callers_order() -> None:
    forward = CountingForward()
    embeddings = _pipeline(forward).encode(["5", "7 1 1", "6 1", "9 1 1 1"], batch_size=2)
    assert embeddings.tolist() == [[5, 1], [7, 3], [6, 2], [9, 4]]
    assert forward.shapes == [(2, 4), (2, 2)]


def test_a_named_batch_size_takes_precedence_over_the_limit_on_tokens() -> None:
    forward = CountingForward()
    settings = TextSettings(dim=2, max_length=8, pad_id=0, prompt="")
    pipeline = Pipeline("test", _tokenizer(), settings, [forward], batch_tokens=6)
    texts = ["1 1 1", "2 2", "3 3", "4"]
    pipeline.encode(texts, batch_size=4)
    pipeline.encode(texts)
    assert forward.shapes == [(4, 3), (2, 3), (2, 2)]
    assert [batch.tolist() for batch in pipeline.plan(texts)] == [[0, 1], [2, 3]]


def test_long_texts_are_cut_and_empty_texts_are_kept() -> None:
    forward = CountingForward()
    pipeline = _pipeline(forward, max_length=3)
    assert pipeline.token_counts(["1 2 3 4 5", "1", ""]).tolist() == [3, 1, 0]


def test_without_a_largest_length_nothing_is_cut() -> None:
    assert _pipeline(CountingForward(), max_length=None).token_counts(["1 " * 999]).tolist() == [999]


def test_a_prompt_is_put_before_each_text() -> None:
    assert _pipeline(CountingForward(), prompt="8 ").encode(["1", "2 2"]).tolist() == [[8, 2], [8, 3]]


def test_each_of_a_hundred_thousand_texts_gets_its_own_row() -> None:
    """These are more texts than are tokenized at a time."""
    texts = [f"{index % 1999 + 1} " * (index % 7 + 1) for index in range(100_000)]
    embeddings = _pipeline(CountingForward()).encode(texts, batch_size=512)
    expected = np.asarray([[index % 1999 + 1, index % 7 + 1] for index in range(100_000)], dtype=np.float32)
    assert np.array_equal(embeddings, expected)


def test_each_thread_gets_its_own_embeddings() -> None:
    pipeline = _pipeline(CountingForward())
    lists = [[f"{thread * 20 + index + 1}" for index in range(20)] for thread in range(16)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(pipeline.encode, lists))
    assert [result[:, 0].tolist() for result in results] == [
        [float(text) for text in texts] for texts in lists
    ]


class MeetingForward(CountingForward):
    """Waits until another replica is called as well, and asserts that it is not called twice at a time."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self._barrier = barrier
        self._busy = threading.Lock()

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        assert self._busy.acquire(blocking=False)
        try:
            self._barrier.wait(timeout=30)
            return super().__call__(ids, mask)
        finally:
            self._busy.release()


def test_replicas_encode_one_batch_each_at_the_same_time() -> None:
    barrier = threading.Barrier(2)
    forwards = [MeetingForward(barrier), MeetingForward(barrier)]
    settings = TextSettings(dim=2, max_length=8, pad_id=0, prompt="")
    with Pipeline("test", _tokenizer(), settings, forwards) as pipeline:
        embeddings = pipeline.encode([f"{number + 1}" for number in range(8)], batch_size=2)
    assert embeddings[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [forward.shapes for forward in forwards] == [[(2, 1), (2, 1)]] * 2


@pytest.mark.parametrize("replicas", [1, 3])
def test_an_error_in_one_batch_reaches_the_caller_and_leaves_the_encoder_usable(replicas: int) -> None:
    class FailsOn13(CountingForward):
        def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
            if 13 in ids:
                raise ValueError("13")
            return super().__call__(ids, mask)

    settings = TextSettings(dim=2, max_length=8, pad_id=0, prompt="")
    pipeline = Pipeline("test", _tokenizer(), settings, [FailsOn13() for _ in range(replicas)])
    with pytest.raises(ValueError, match="13"):
        pipeline.encode([f"{number + 1}" for number in range(40)], batch_size=1)
    assert pipeline.encode(["7", "8"], batch_size=1)[:, 0].tolist() == [7, 8]
    pipeline.close()


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_call_during_closing_is_refused(replicas: int) -> None:
    """A thread may be past the check of arguments when another thread closes the encoder."""
    settings = TextSettings(dim=2, max_length=8, pad_id=0, prompt="")
    pipeline = Pipeline("test", _tokenizer(), settings, [CountingForward() for _ in range(replicas)])
    pipeline.close()
    for _ in range(2):
        with pytest.raises(EmbedoptError, match="the encoder test is closed"):
            pipeline._encode(["1", "2"], 1)


def test_a_tokenized_text_is_not_tokenized_again() -> None:
    pipeline = _pipeline(CountingForward())
    texts = pipeline.tokenize(["1 2 3", "4"])
    assert [(text.text, text.token_count, text.ids) for text in texts] == [
        ("1 2 3", 3, [1, 2, 3]),
        ("4", 1, [4]),
    ]
    pipeline._tokenizer.enable_truncation(1)  # from here on, tokenizing gives one token
    assert pipeline.encode_tokenized(texts).tolist() == [[1, 3], [4, 1]]
    assert pipeline.encode(["1 2 3"]).tolist() == [[1, 1]]


def test_tokenized_texts_are_one_batch() -> None:
    forward = CountingForward()
    settings = TextSettings(dim=2, max_length=8, pad_id=0, prompt="")
    pipeline = Pipeline("test", _tokenizer(), settings, [forward], batch_tokens=2)
    pipeline.encode_tokenized(pipeline.tokenize(["1 1 1", "2", "3 3"]))
    assert forward.shapes == [(3, 3)]


def test_token_ids_of_another_tokenizer_are_never_used() -> None:
    theirs = _pipeline(CountingForward(), prompt="9 ").tokenize(["1 2"])
    ours = _pipeline(CountingForward())
    assert ours.encode_tokenized(theirs).tolist() == [[1, 2]]
    assert ours.encode_tokenized([*theirs, *ours.tokenize(["3"])]).tolist() == [[1, 2], [3, 1]]
    assert ours.encode_tokenized([TokenizedText("5 5", 2)]).tolist() == [[5, 2]]
