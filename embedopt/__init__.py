"""A pytest-benchmark regression suite for sentence-embedding inference on CPUs."""

from embedopt.errors import EmbedoptError
from embedopt.inference.batcher import AdaptiveBatcher
from embedopt.inference.encoder import Encoder
from embedopt.inference.load import load_encoder

__all__ = ["AdaptiveBatcher", "EmbedoptError", "Encoder", "load_encoder"]
