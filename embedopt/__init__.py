"""A pytest-benchmark regression suite for sentence-embedding inference on CPUs."""

from embedopt.errors import EmbedoptError
from embedopt.inference.encoder import Encoder
from embedopt.inference.loading import load_encoder
from embedopt.serving.batcher import AdaptiveBatcher

__all__ = ["AdaptiveBatcher", "EmbedoptError", "Encoder", "load_encoder"]
