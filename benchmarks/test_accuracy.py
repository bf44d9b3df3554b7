"""Is it still the same embedding?"""

import pytest

from embedopt.inference.encoder import Encoder
from embedopt.measure.accuracy import agreement, batch_invariance, retrieval, spearman
from embedopt.measure.session import Session
from embedopt.records import Accuracy


def test_agreement(encoder: Encoder, measuring: Session) -> None:
    """Each text of the corpus has the reference's embedding, as far as the backend promises."""
    found = agreement(measuring.reference_embeddings, measuring.embeddings(encoder))
    measuring.add(encoder.name, found)
    assert measuring.missed_bounds(encoder.name, found) == []


def test_retrieval(encoder: Encoder, measuring: Session) -> None:
    """A search still finds what was judged relevant."""
    if not any(measuring.corpus.relevant.values()):
        pytest.skip("the corpus has no judged queries")
    found = retrieval(measuring.corpus, measuring.reference_embeddings, measuring.embeddings(encoder))
    measuring.add(encoder.name, found)
    assert measuring.missed_bounds(encoder.name, found) == []


def test_batch_invariance(encoder: Encoder, measuring: Session) -> None:
    """A text has the same embedding in any company, as far as the backend promises."""
    profile = measuring.profile
    texts = measuring.mixed_texts[: profile.invariance_texts]
    found = batch_invariance(encoder, texts, profile.invariance_rounds)
    measuring.add(encoder.name, found)
    assert measuring.missed_bounds(encoder.name, found) == []


def test_pairs(encoder: Encoder, measuring: Session) -> None:
    """How well cosines order judged pairs, beside the reference's."""
    if measuring.pairs is None:
        pytest.skip("no --pairs FILE")
    value = spearman(encoder, measuring.pairs)
    distance = value - measuring.reference_spearman
    measuring.add(encoder.name, Accuracy(spearman=value, spearman_distance=distance))
