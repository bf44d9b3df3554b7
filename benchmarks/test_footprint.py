"""What does it weigh?"""

import sys

import pytest

from embedopt.inference.encoder import Encoder
from embedopt.measure.footprint import measure_footprint
from embedopt.measure.session import Session


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc: Linux")
def test_footprint(encoder: Encoder, measuring: Session) -> None:
    """Bytes on disk, seconds to load and peak memory, in a process that loads only this backend."""
    found = measure_footprint(
        measuring.row(encoder.name),
        measuring.folder(encoder.name),
        measuring.weights,
        measuring.mixed_texts[: measuring.profile.footprint_texts],
    )
    measuring.add(encoder.name, found)
