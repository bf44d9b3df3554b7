"""How much disk and memory does a backend take, and how long does it take to open?"""

from embedopt.inference.encoder import Encoder
from embedopt.measure.findings import Findings
from embedopt.measure.footprint import measure_footprint
from embedopt.measure.session import Session


def test_footprint(encoder: Encoder, session: Session, findings: Findings) -> None:
    """Bytes on disk, seconds of a cold start and peak memory, in a process that opens only this backend."""
    footprint = measure_footprint(
        session.backend(encoder.name),
        session.folder(encoder.name),
        session.weights,
        session.corpus.mixed_texts[: session.profile.footprint_texts],
    )
    findings.add(encoder.name, footprint)
