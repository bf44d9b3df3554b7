"""Every text gets its row, in the caller's order, and batches have little padding."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from embedopt.errors import EmbedoptError
from embedopt.inference.artifacts.layout import TextSettings
from embedopt.inference.cost import Cost
from embedopt.inference.encoder import FloatArray, IntArray, TokenizedText
from embedopt.inference.pipeline import Pipeline
from embedopt.inference.replicas import Forward, Replicas, learned_costs

SETTINGS = TextSettings(dim=2, max_length=8, pad_id=0, prompt="")


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
    return Pipeline("test", _tokenizer(), settings, [_replicas(forward)])


def _replicas(*forwards: Forward) -> Replicas:
    return Replicas("test", len(forwards), lambda: forwards)


def _known_cost(way: Replicas, fixed_s: float, token_s: float) -> Replicas:
    way.cost = Cost().learned(10, fixed_s + 10 * token_s).learned(100, fixed_s + 100 * token_s)
    return way


def test_rows_are_in_the_callers_order() -> None:
    forward = CountingForward()
    embeddings = _pipeline(forward).encode(["5", "7 1 1", "6 1", "9 1 1 1"], batch_size=2)
    assert embeddings.tolist() == [[5, 1], [7, 3], [6, 2], [9, 4]]
    assert forward.shapes == [(2, 4), (2, 2)]


def test_batches_keep_the_limits_on_texts_and_on_tokens() -> None:
    forward = CountingForward()
    pipeline = Pipeline("test", _tokenizer(), SETTINGS, [_replicas(forward)], batch_tokens=6)
    texts = ["1 1 1", "2 2", "3 3", "4"]
    pipeline.encode(texts, batch_size=4)
    pipeline.encode(texts, batch_size=1)
    assert forward.shapes == [(2, 3), (2, 2), (1, 3), (1, 2), (1, 2), (1, 1)]
    assert [batch.tolist() for batch in pipeline.plan(texts).batches] == [[0, 1], [2, 3]]


def test_one_text_gets_all_cores_and_several_are_shared_where_that_is_faster() -> None:
    """A replica takes 10 ms a batch; with all cores, a batch of 2 tokens takes 6 ms, one of 6 takes 14."""
    wide, narrow = CountingForward(), [CountingForward(), CountingForward()]
    ways = [_known_cost(_replicas(wide), 0.002, 0.002), _known_cost(_replicas(*narrow), 0.010, 0.0)]
    with Pipeline("test", _tokenizer(), SETTINGS, ways) as pipeline:
        plans = [pipeline.plan(texts) for texts in (["1 1"], ["1", "2"], ["1 1 1", "2 2 2"])]
        assert [plan.replicas for plan in plans] == [1, 1, 2]
        pipeline.encode(["1 1"])
        assert (wide.shapes, narrow[0].shapes, narrow[1].shapes) == ([(1, 2)], [], [])
        assert pipeline.encode(["5 1 1", "6 6 6", "7 7 7"]).tolist() == [[5, 3], [6, 3], [7, 3]]
        assert sorted(narrow[0].shapes + narrow[1].shapes) == [(1, 3), (2, 3)]
        assert pipeline.replicas == 2


def test_a_forced_batch_has_all_cores_and_a_tokenized_one_a_replica() -> None:
    wide, narrow = CountingForward(), CountingForward()
    ways = [_replicas(wide), _replicas(narrow, CountingForward())]
    with Pipeline("test", _tokenizer(), SETTINGS, ways, batch_tokens=1) as pipeline:
        assert pipeline.encode_as_one_batch(["1", "2 2"]).tolist() == [[1, 1], [2, 2]]
        pipeline.encode_tokenized(pipeline.tokenize(["1", "2 2 2"]))
    assert (wide.shapes, narrow.shapes) == ([(2, 2)], [(2, 3)])


def test_replicas_are_opened_by_the_first_call_that_needs_them() -> None:
    opened = []

    def open_two() -> list[Forward]:
        opened.append(2)
        return [CountingForward(), CountingForward()]

    ways = [_replicas(CountingForward()), Replicas("test", 2, open_two)]
    with Pipeline("test", _tokenizer(), SETTINGS, ways) as pipeline:
        pipeline.encode(["1"])
        assert opened == []
        pipeline.encode(["1", "2"])
        pipeline.encode(["1", "2"])
        assert opened == [2]


def test_what_a_batch_costs_is_measured_within_the_limit_on_tokens() -> None:
    """A model whose table of positions ends there fails on longer texts."""
    forwards = [CountingForward(), CountingForward()]
    way = Replicas("test", 2, lambda: forwards, max_length=5)
    assert learned_costs([way])[2].batches > 0
    assert {shape for forward in forwards for shape in forward.shapes} == {(1, 5), (8, 5)}
    way.close()


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
    with Pipeline("test", _tokenizer(), SETTINGS, [_replicas(*forwards)]) as pipeline:
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

    pipeline = Pipeline("test", _tokenizer(), SETTINGS, [_replicas(*[FailsOn13() for _ in range(replicas)])])
    with pytest.raises(ValueError, match="13"):
        pipeline.encode([f"{number + 1}" for number in range(40)], batch_size=1)
    assert pipeline.encode(["7", "8"], batch_size=1)[:, 0].tolist() == [7, 8]
    pipeline.close()


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_call_during_closing_is_refused(replicas: int) -> None:
    """A thread may be past the check of arguments when another thread closes the encoder."""
    pipeline = Pipeline(
        "test", _tokenizer(), SETTINGS, [_replicas(*[CountingForward() for _ in range(replicas)])]
    )
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
    pipeline = Pipeline("test", _tokenizer(), SETTINGS, [_replicas(forward)], batch_tokens=2)
    pipeline.encode_tokenized(pipeline.tokenize(["1 1 1", "2", "3 3"]))
    assert forward.shapes == [(3, 3)]


def test_token_ids_of_another_tokenizer_are_never_used() -> None:
    theirs = _pipeline(CountingForward(), prompt="9 ").tokenize(["1 2"])
    ours = _pipeline(CountingForward())
    assert ours.encode_tokenized(theirs).tolist() == [[1, 2]]
    assert ours.encode_tokenized([*theirs, *ours.tokenize(["3"])]).tolist() == [[1, 2], [3, 1]]
    assert ours.encode_tokenized([TokenizedText("5 5", 2)]).tolist() == [[5, 2]]
