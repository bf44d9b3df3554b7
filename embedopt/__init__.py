"""A pytest-benchmark regression suite for sentence-embedding inference on CPUs."""

from embedopt.errors import EmbedoptError
from embedopt.inference.encoder import Encoder
from embedopt.inference.load import load_encoder

__all__ = ["EmbedoptError", "Encoder", "load_encoder"]
