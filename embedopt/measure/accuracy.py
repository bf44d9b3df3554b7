"""How near a backend's embeddings are to the reference's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from embedopt.errors import InputError, MeasureError
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.measure.corpus import Corpus, read_lines
from embedopt.records import LARGE_BATCH, Accuracy

PAIRS_LAYOUT = "score, tab, sentence, tab, sentence"


def cosines(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the ``(n,)`` cosines of the rows of two ``(n, dim)`` arrays.

    A row of zeros has 0, a row with a value that is not finite has NaN.
    """
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        products = np.einsum("ij,ij->i", a, b, dtype=np.float64)
        result: FloatArray = np.divide(products, norms, out=np.zeros_like(products), where=norms != 0)
    return result


def cut_for(backend: Backend, vectors: FloatArray) -> FloatArray:
    """Return the reference's vectors cut to a backend's ``truncate_dim`` components, normalised again."""
    dim = int(backend.open_options.get("truncate_dim", 0))
    if not dim:
        return vectors
    lengths = np.linalg.norm(vectors[:, :dim], axis=1, keepdims=True)
    return np.asarray(vectors[:, :dim] / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def agreement(reference: FloatArray, embeddings: FloatArray) -> Accuracy:
    """Compare ``(n, dim)`` embeddings with the reference's, text by text.

    Raises:
        MeasureError: they have another number of components.
    """
    if reference.shape != embeddings.shape:
        raise MeasureError(
            f"embeddings have {embeddings.shape[1]} components, the reference's {reference.shape[1]}; wanted "
            "the same number: correct the target's model, or set its truncate_dim"
        )
    values = cosines(reference, embeddings)
    return Accuracy(
        texts=len(values),
        cosine_mean=float(values.mean()),
        cosine_p1=float(np.percentile(values, 1)),
        cosine_min=float(values.min()),
        max_abs_error=float(np.abs(reference - embeddings).max()),
    )


@dataclass(frozen=True, kw_only=True)
class Search:
    """An encoder's embeddings of the judged queries of a corpus and of the texts that they search.

    Attributes:
        queries: ``(n, dim)`` embeddings of the judged queries.
        candidates: ``(n, dim)`` embeddings of the candidates.
        query_prompt: string that was put before each query.
        document_prompt: string that was put before each candidate.
    """

    queries: FloatArray
    candidates: FloatArray
    query_prompt: str = ""
    document_prompt: str = ""


def retrieval(corpus: Corpus, reference: Search, search: Search) -> Accuracy:
    """Search a corpus with its judged queries; it must have at least one."""
    queries = corpus.judged_queries
    top_10 = _nearest(corpus, search)
    reference_top_10 = _nearest(corpus, reference)
    recall = [
        len(top & set(corpus.relevant[query])) / len(corpus.relevant[query])
        for query, top in zip(queries, top_10, strict=True)
    ]
    overlap = [
        len(top & reference_top) / len(reference_top) if reference_top else np.nan
        for top, reference_top in zip(top_10, reference_top_10, strict=True)
    ]
    return Accuracy(
        recall_at_10=float(np.mean(recall)),
        overlap_at_10=float(np.mean(overlap)),
        query_prompt=search.query_prompt or None,
        document_prompt=search.document_prompt or None,
    )


def batch_invariance(encoder: Encoder, texts: Sequence[str], rounds: int) -> Accuracy:
    """Return the worst cosine between a text encoded alone and the same text in a batch of 32.

    Each text is encoded in ``rounds`` random batches, the same in every run.
    """
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    draw = np.random.default_rng(0)
    worst = np.float64(1.0)
    for _ in range(rounds):
        order = draw.permutation(len(texts))
        for start in range(0, len(texts), LARGE_BATCH):
            # The last batch is filled up from the start, so that each has 32 texts where there are as many.
            batch = order[np.arange(start, start + min(LARGE_BATCH, len(texts))) % len(texts)]
            together = encoder.encode_as_one_batch([texts[index] for index in batch])
            worst = np.minimum(worst, cosines(alone[batch], together).min())  # propagates NaN
    return Accuracy(batch_invariance_min=float(worst))


@dataclass(frozen=True)
class SentencePairs:
    """Sentence pairs whose similarity people judged.

    Attributes:
        scores: judged similarity of each pair, ``(n,) float64``.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: FloatArray


def read_sentence_pairs(path: Path) -> SentencePairs:
    """Read sentence pairs in the layout of the SemEval STS files: score, tab, sentence, tab, sentence.

    Raises:
        InputError: the file can't be read, or a line has no pair; the message names the line.
    """
    lines = read_lines(path, "pairs", PAIRS_LAYOUT)
    parsed = [
        _sentence_pair(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if len({score for score, _, _ in parsed}) < 2:
        raise InputError(
            f"pairs {path} has {len(parsed)} pairs with fewer than two different scores; wanted two or more"
        )
    scores, first, second = zip(*parsed, strict=True)
    return SentencePairs(path.name, first, second, np.asarray(scores))


def _sentence_pair(where: str, line: str) -> tuple[float, str, str]:
    row = line.split("\t")
    # Some of the published files have further columns, such as the source of a sentence.
    if len(row) < 3:
        raise InputError(f"pairs {where}: {len(row)} column(s); wanted {PAIRS_LAYOUT}")
    try:
        score = float(row[0])
    except ValueError:
        score = np.nan
    if not np.isfinite(score):
        raise InputError(f"pairs {where}: score is {row[0]!r}; wanted a number")
    return score, row[1].strip(), row[2].strip()


def spearman(encoder: Encoder, sentence_pairs: SentencePairs) -> float:
    """Return Spearman's rank correlation of cosines with judged scores, times 100 as it is published.

    It is NaN where the cosines have no ranks: all are the same, or one is NaN.
    """
    values = cosines(encoder.encode(sentence_pairs.first), encoder.encode(sentence_pairs.second))
    if not np.ptp(values) > 0:
        return np.nan
    return 100.0 * float(stats.spearmanr(values, sentence_pairs.scores).statistic)


def _nearest(corpus: Corpus, search: Search) -> list[set[int]]:
    """Return the indices of the 10 texts that are nearest to each query by their cosine.

    The query itself is left out, and so is a text whose embedding is not finite.
    """
    candidates = np.asarray(corpus.candidates)
    lengths = np.linalg.norm(search.candidates, axis=1)
    scores = search.queries @ search.candidates.T / np.where(lengths > 0, lengths, 1)
    scores[np.isnan(scores) | (candidates == np.asarray(corpus.judged_queries)[:, np.newaxis])] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return [set(candidates[top[row[top] > -np.inf]].tolist()) for top, row in zip(order, scores, strict=True)]
