"""Accuracy metrics follow their definitions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from embedopt.errors import InputError, MeasureError
from embedopt.inference.backends import BACKENDS
from embedopt.inference.encoder import FloatArray
from embedopt.inference.loading import load_encoder
from embedopt.measure.accuracy import (
    Search,
    agreement,
    batch_invariance,
    cosines,
    cut_for,
    read_sentence_pairs,
    retrieval,
    spearman,
)
from embedopt.measure.corpus import Corpus
from embedopt.records import Accuracy
from tests.fakes import FakeEncoder, MoodyEncoder, fake_embedding

EAST, NORTH, NORTHEAST = [1.0, 0.0], [0.0, 1.0], [0.8, 0.6]
PAIRS = """\
5.0\tA welder is at work.\tSomebody is welding.
4.2\tA nurse washes her hands.\tA nurse is washing.
2.5\tThe driver waits for the train.\tA train is late.
1.0\tTwo cats sleep.\tA baker kneads dough.\tsome source
0\tThe sky is grey.\tI sell "used" bicycles.
"""


def _rows(*rows: list[float]) -> np.ndarray:
    return np.asarray(rows, dtype=np.float32)


def _search(corpus: Corpus, embeddings: FloatArray) -> Search:
    return Search(
        queries=embeddings[list(corpus.judged_queries)], candidates=embeddings[list(corpus.candidates)]
    )


def _retrieval(corpus: Corpus, reference: FloatArray, embeddings: FloatArray) -> Accuracy:
    return retrieval(corpus, _search(corpus, reference), _search(corpus, embeddings))


def test_cosines_do_not_depend_on_the_lengths_of_rows() -> None:
    values = cosines(_rows([2.0, 0.0], [0.0, 3.0], [0.0, 0.0]), _rows(NORTHEAST, NORTHEAST, EAST))
    np.testing.assert_allclose(values, [0.8, 0.6, 0.0], atol=1e-7)


def test_agreement_has_mean_percentile_minimum_and_largest_error() -> None:
    accuracy = agreement(_rows(EAST, EAST, EAST, EAST), _rows(EAST, EAST, EAST, NORTHEAST))
    assert accuracy.texts == 4
    assert accuracy.cosine_mean == pytest.approx(0.95)
    assert accuracy.cosine_min == pytest.approx(0.8)
    assert accuracy.cosine_p1 == pytest.approx(0.8 + 0.03 * 0.2)  # linear between the two lowest of four
    assert accuracy.max_abs_error == pytest.approx(0.6)


def test_retrieval_counts_judged_and_reference_neighbours() -> None:
    """Twelve texts on an arc, a query from its middle and one from its east end."""
    texts = [f"text {number}" for number in range(12)]
    corpus = Corpus("c", (*texts, "first", "second"), {12: (0, 11), 13: (3,)})
    angles = np.linspace(0.0, 1.1, 12)
    reference = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    reference = np.vstack([reference, [np.cos(0.55), np.sin(0.55)], EAST]).astype(np.float32)
    # From the middle, 10 of 12 are nearest: both ends fall out; from the east, the last two do.
    assert _retrieval(corpus, reference, reference) == Accuracy(recall_at_10=0.5, overlap_at_10=1.0)
    moved = reference.copy()
    moved[3] = [np.cos(1.3), np.sin(1.3)]
    # Text 3 leaves both lists. From the middle an end comes in for it, both of which are judged.
    assert _retrieval(corpus, reference, moved) == Accuracy(recall_at_10=0.25, overlap_at_10=0.9)


def test_in_a_corpus_of_duplicate_questions_each_finds_the_others_but_not_itself() -> None:
    """Six pairs on an arc: the duplicate is the nearest, then all others; the last pair points away."""
    pairs = {query: (query ^ 1,) for query in range(12)}
    corpus = Corpus("c", tuple(f"text {number}" for number in range(12)), pairs)
    angles = np.repeat(np.linspace(0.0, 1.0, 6), 2) + np.tile([0.0, 0.01], 6)
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert _retrieval(corpus, embeddings, embeddings) == Accuracy(recall_at_10=1.0, overlap_at_10=1.0)
    away = embeddings.copy()
    away[11] = [-1.0, 0.0]  # now the farthest from its duplicate, which finds the 10 others
    assert _retrieval(corpus, embeddings, away).recall_at_10 == pytest.approx(11 / 12)


def test_a_relevant_text_that_is_itself_a_query_can_be_found() -> None:
    corpus = Corpus("c", ("a", "b", "c"), {0: (1, 2), 1: (0,)})
    embeddings = _rows(EAST, NORTHEAST, NORTH)
    assert _retrieval(corpus, embeddings, embeddings) == Accuracy(recall_at_10=1.0, overlap_at_10=1.0)


def test_a_text_without_a_finite_embedding_is_never_found() -> None:
    corpus = Corpus("c", ("a", "b", "query"), {2: (0, 1)})
    broken = _rows(EAST, [np.nan, np.nan], EAST)
    assert _retrieval(corpus, _rows(EAST, NORTH, EAST), broken) == Accuracy(
        recall_at_10=0.5, overlap_at_10=0.5
    )
    scores = _retrieval(corpus, _rows([np.nan, 0.0], [np.nan, 0.0], EAST), broken)
    assert np.isnan(scores.overlap_at_10 or 0.0)


def test_what_is_no_number_stays_none() -> None:
    accuracy = agreement(_rows(EAST, EAST), _rows(EAST, [np.nan, 0.0]))
    assert {str(accuracy.cosine_mean), str(accuracy.cosine_min), str(accuracy.max_abs_error)} == {"nan"}
    assert np.isnan(cosines(_rows([np.inf, 0.0]), _rows(EAST))).all()


def test_equal_cosines_have_no_rank_correlation(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("1\ta\ta\n2\tb\tb\n3\tc\tc\n", encoding="utf8")

    class Constant(FakeEncoder):
        def _encode(self, texts: list[str], batch_size: int | None) -> FloatArray:
            return np.ones((len(texts), 2), dtype=np.float32)

    assert np.isnan(spearman(Constant(), read_sentence_pairs(file)))


@pytest.mark.parametrize("texts", [1, 5, 32, 40])
def test_an_encoder_that_ignores_its_batch_is_invariant(texts: int) -> None:
    encoder = FakeEncoder()
    accuracy = batch_invariance(encoder, [f"text {number}" for number in range(texts)], rounds=3)
    assert accuracy.batch_invariance_min == pytest.approx(1.0)
    alone, together = encoder.calls[:texts], encoder.calls[texts:]
    assert {len(call) for call in alone} == {1}
    assert {len(call) for call in together} == {min(32, texts)}
    assert len(together) == 3 * -(-texts // 32)
    assert {text for call in together for text in call} == {f"text {number}" for number in range(texts)}


def test_an_encoder_that_depends_on_its_batch_is_not_invariant() -> None:
    texts = [f"text {number}" for number in range(40)]
    accuracy = batch_invariance(MoodyEncoder(), texts, rounds=2)
    assert accuracy.batch_invariance_min is not None
    assert accuracy.batch_invariance_min < 0.9
    assert batch_invariance(MoodyEncoder(), texts, rounds=2) == accuracy  # the drawing has a seed


def test_spearman_is_scipys_times_100(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text(PAIRS, encoding="utf8")
    pairs = read_sentence_pairs(file)
    assert pairs.name == "pairs.tsv"
    assert pairs.second[4] == 'I sell "used" bicycles.'
    encoder = FakeEncoder()
    expected = stats.spearmanr(
        [
            float(fake_embedding(a) @ fake_embedding(b))
            for a, b in zip(pairs.first, pairs.second, strict=True)
        ],
        [5.0, 4.2, 2.5, 1.0, 0.0],
    ).statistic
    assert spearman(encoder, pairs) == pytest.approx(100 * expected)


def test_the_reference_ranks_plain_sentence_pairs_well(tmp_path: Path) -> None:
    """On the real model, the ranks of two of the five pairs are swapped."""
    file = tmp_path / "pairs.tsv"
    file.write_text(PAIRS, encoding="utf8")
    with load_encoder("torch-fp32") as encoder:
        assert spearman(encoder, read_sentence_pairs(file)) == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1.0\tonly one\n", "pairs.tsv:1: 2 column(s); wanted score, tab, sentence, tab, sentence"),
        ("1\ta\tb\nhigh\ta\tb\n", "pairs.tsv:2: score is 'high'; wanted a number"),
        ("nan\ta\tb\n", "pairs.tsv:1: score is 'nan'; wanted a number"),
        ("1\ta\tb\n\n1\tc\td\n", "has 2 pairs with fewer than two different scores; wanted two or more"),
        ("", "has 0 pairs with fewer than two different scores"),
    ],
)
def test_a_bad_line_of_sentence_pairs_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text(content, encoding="utf8")
    with pytest.raises(InputError) as caught:
        read_sentence_pairs(file)
    assert message in str(caught.value)


def test_only_a_line_feed_ends_a_sentence_pair(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_bytes(b"1\ta\rb\tc\r\n\t\t\n2\td\te")
    pairs = read_sentence_pairs(tmp_path / "pairs.tsv")
    assert (pairs.first, pairs.second, pairs.scores.tolist()) == (("a\rb", "d"), ("c", "e"), [1.0, 2.0])


def test_sentence_pairs_that_cant_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.tsv").write_bytes(b"1\t\xe9\tb")
    with pytest.raises(InputError, match="is not UTF-8 at byte 2"):
        read_sentence_pairs(tmp_path / "latin.tsv")
    with pytest.raises(InputError, match=r"nowhere\.tsv: no such file or directory; wanted score, tab,"):
        read_sentence_pairs(tmp_path / "nowhere.tsv")


def test_the_reference_is_cut_as_the_library_cuts_its_vectors() -> None:
    row = replace(BACKENDS["onnx-fp32"], open_options={"truncate_dim": 2})
    vectors = _rows([3.0, 4.0, 5.0], [0.0, 0.0, 1.0])
    assert cut_for(row, vectors) == pytest.approx(_rows([0.6, 0.8], [0.0, 0.0]))
    assert cut_for(BACKENDS["onnx-fp32"], vectors) is vectors


def test_vectors_of_another_number_of_components_are_one_line() -> None:
    with pytest.raises(
        MeasureError, match=r"^embeddings have 2 components, the reference's 3; wanted the same number: c"
    ):
        agreement(np.ones((4, 3), dtype=np.float32), np.ones((4, 2), dtype=np.float32))


def test_retrieval_ranks_by_the_cosine_where_vectors_are_not_of_length_1() -> None:
    many = Corpus("x", ("query", "near", *(f"far {n}" for n in range(10))), {0: (1,)})
    rows = _rows(EAST, [0.9, 0.1], *([5.0, 5.0] for _ in range(10)))
    assert _retrieval(many, rows, rows).recall_at_10 == 1.0
