"""Is it still the same embedding?"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from embedopt.errors import InputError
from embedopt.inference.encoder import Encoder, FloatArray
from embedopt.measure.corpus import Corpus
from embedopt.records import Accuracy

_COMPANY = 32


def cosines(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the ``(n,)`` cosines of the rows of two ``(n, dim)`` arrays; 0 where a row is all zeros."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = np.einsum("ij,ij->i", a, b, dtype=np.float64)
    result: FloatArray = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return result


def agreement(reference: FloatArray, embeddings: FloatArray) -> Accuracy:
    """Compare ``(n, dim)`` embeddings with the reference's, text by text."""
    values = cosines(reference, embeddings)
    return Accuracy(
        texts=len(values),
        cosine_mean=float(values.mean()),
        cosine_p1=float(np.percentile(values, 1)),
        cosine_min=float(values.min()),
        max_abs_error=float(np.abs(reference - embeddings).max()),
    )


def retrieval(corpus: Corpus, reference: FloatArray, embeddings: FloatArray) -> Accuracy:
    """Search the corpus with its own queries: are the judged texts found, and the reference's?

    Raises:
        InputError: the corpus has no judged queries.
    """
    if not any(corpus.relevant.values()):
        raise InputError(f"corpus {corpus.name} has no judged queries; wanted lines with a relevant field")
    queries = [query for query, relevant in corpus.relevant.items() if relevant]
    found = _nearest(corpus, queries, embeddings)
    wanted = _nearest(corpus, queries, reference)
    recall = [
        len(set(corpus.relevant[query]) & top) / len(corpus.relevant[query])
        for query, top in zip(queries, found, strict=True)
    ]
    overlap = [len(mine & theirs) / len(theirs) for mine, theirs in zip(found, wanted, strict=True)]
    return Accuracy(recall_at_10=float(np.mean(recall)), overlap_at_10=float(np.mean(overlap)))


def batch_invariance(encoder: Encoder, texts: Sequence[str], rounds: int, seed: int = 0) -> Accuracy:
    """Encode the same text alone and among 31 others, and compare.

    Args:
        encoder: what is asked.
        texts: each is encoded alone once, and in ``rounds`` random batches of 32.
        rounds: how often the company is drawn anew.
        seed: of the drawing.
    """
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    draw = np.random.default_rng(seed)
    worst = np.float64(1.0)
    for _ in range(rounds):
        order = draw.permutation(len(texts))
        for start in range(0, len(texts), _COMPANY):
            # The last batch is filled up from the start, so that each has its 32 where there are so many.
            batch = order[np.arange(start, start + min(_COMPANY, len(texts))) % len(texts)]
            together = encoder.encode([texts[index] for index in batch], batch_size=_COMPANY)
            worst = np.minimum(worst, cosines(alone[batch], together).min())  # one that is no number stays
    return Accuracy(batch_invariance_min=float(worst))


@dataclass(frozen=True)
class SentencePairs:
    """Judged sentence pairs; ``scores`` is ``(n,) float64``."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: FloatArray


def read_sentence_pairs(path: Path) -> SentencePairs:
    """Read sentence pairs in the layout of the SemEval STS files: score, tab, sentence, tab, sentence.

    Raises:
        InputError: the file can't be read, or a line does not fit; the message names it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    except UnicodeDecodeError as error:
        raise InputError(f"pairs {path} is not UTF-8 at byte {error.start}: save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise InputError(
            f"pairs {path} can't be read ({error}); wanted score, tab, sentence, tab, sentence"
        ) from None
    parsed = [_pair(f"{path}:{number}", row) for number, row in enumerate(rows, 1) if any(row)]
    if len({score for score, _, _ in parsed}) < 2:
        raise InputError(
            f"pairs {path} has {len(parsed)} pairs with fewer than two different scores; wanted more"
        )
    scores, first, second = zip(*parsed, strict=True)
    return SentencePairs(path.name, first, second, np.asarray(scores))


def _pair(where: str, row: Sequence[str]) -> tuple[float, str, str]:
    # Some of the published files carry further columns, such as the source of a sentence.
    if len(row) < 3:
        raise InputError(f"pairs {where}: {len(row)} column(s); wanted score, tab, sentence, tab, sentence")
    try:
        score = float(row[0])
    except ValueError:
        score = np.nan
    if not np.isfinite(score):
        raise InputError(f"pairs {where}: score is {row[0]!r}; wanted a number")
    return score, row[1].strip(), row[2].strip()


def spearman(encoder: Encoder, pairs: SentencePairs) -> float:
    """Return Spearman's rank correlation of cosine and score, times 100 as it is published."""
    values = cosines(encoder.encode(pairs.first), encoder.encode(pairs.second))
    return 100.0 * float(stats.spearmanr(values, pairs.scores).statistic)


def _nearest(corpus: Corpus, queries: Sequence[int], embeddings: FloatArray, top: int = 10) -> list[set[int]]:
    candidates = np.asarray(corpus.candidates)
    scores = embeddings[list(queries)] @ embeddings[candidates].T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [set(candidates[row].tolist()) for row in order]
