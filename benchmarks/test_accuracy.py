"""How near are the embeddings to the reference's?"""

import pytest

from embedopt.errors import UnsupportedModelError
from embedopt.inference.artifacts.clipping import clipped_share
from embedopt.inference.encoder import Encoder
from embedopt.measure.accuracy import agreement, batch_invariance, retrieval, spearman
from embedopt.measure.bounds import missed_bounds
from embedopt.measure.findings import Findings
from embedopt.measure.session import Session
from embedopt.records import Accuracy


@pytest.mark.needs("model")
def test_agreement(encoder: Encoder, session: Session, findings: Findings) -> None:
    """Each text of the corpus has the reference's embedding, within the bounds of the backend."""
    accuracy = agreement(session.reference_embeddings(encoder.name), session.embeddings(encoder))
    findings.add(encoder.name, accuracy)
    assert missed_bounds(encoder.name, accuracy, session.options) == []


@pytest.mark.needs("judged_queries")
def test_retrieval(encoder: Encoder, session: Session, findings: Findings) -> None:
    """A search still returns the texts that were judged relevant."""
    try:
        search = session.search(encoder)
    except UnsupportedModelError as error:
        pytest.skip(str(error))
    accuracy = retrieval(session.corpus, session.reference_search, search)
    findings.add(encoder.name, accuracy)
    assert missed_bounds(encoder.name, accuracy, session.options) == []


def test_batch_invariance(encoder: Encoder, session: Session, findings: Findings) -> None:
    """A text has the same embedding in any batch, within the bounds of the backend."""
    profile = session.profile
    texts = session.corpus.mixed_texts[: profile.invariance_texts]
    accuracy = batch_invariance(encoder, texts, profile.invariance_rounds)
    findings.add(encoder.name, accuracy)
    assert missed_bounds(encoder.name, accuracy, session.options) == []


@pytest.mark.needs("sentence_pairs")
def test_sentence_pairs(encoder: Encoder, session: Session, findings: Findings) -> None:
    """How well cosines rank judged sentence pairs, compared with the reference."""
    assert session.sentence_pairs is not None
    value = spearman(encoder, session.sentence_pairs)
    distance = value - session.reference_spearman
    findings.add(encoder.name, Accuracy(spearman=value, spearman_distance=distance))


@pytest.mark.only_for("onnx-int8")
def test_clipping(encoder: Encoder, session: Session, findings: Findings) -> None:
    """How many activations exceed the scales that were fixed when the artifact was built."""
    share = clipped_share(session.folder(encoder.name), session.corpus.texts)
    findings.add(encoder.name, Accuracy(clipped_share=share))
