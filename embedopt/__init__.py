"""A pytest-benchmark regression suite for sentence-embedding inference on CPUs."""

from embedopt.errors import EmbedoptError, Overloaded
from embedopt.inference.encoder import Encoder
from embedopt.inference.loading import load_encoder
from embedopt.serving.batcher import AdaptiveBatcher
from embedopt.serving.policy import Limits

__all__ = ["AdaptiveBatcher", "EmbedoptError", "Encoder", "Limits", "Overloaded", "load_encoder"]
