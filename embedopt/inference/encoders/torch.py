"""PyTorch in a narrower type than the reference's, behind the same pipeline as every other runtime."""

from pathlib import Path
from typing import TYPE_CHECKING

from embedopt.inference.backends import Backend
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.pipeline import Forward, Pipeline

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def load(backend: Backend, folder: Path) -> Pipeline:
    """Load the weights with the torch type named by ``load_options["dtype"]``."""
    import torch

    from embedopt.inference.artifacts.export import load_sentence_transformer, text_settings, tokenizer_of

    model = load_sentence_transformer(folder, dtype=getattr(torch, str(backend.load_options["dtype"])))
    return Pipeline(
        backend.name, tokenizer_of(model), text_settings(model), [_forward_of(model)], backend.batch_tokens
    )


def _forward_of(model: "SentenceTransformer") -> Forward:
    import torch

    def forward(ids: IntArray, mask: IntArray) -> FloatArray:
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            # A length taken in a narrow type is off by up to 0.4 %: normalised again in float32.
            embeddings = model(features)["sentence_embedding"].float()
            normalised: FloatArray = torch.nn.functional.normalize(embeddings).numpy()
        return normalised

    return forward
