"""PyTorch in a narrower number type than the reference's, in the same pipeline as the other runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING

from embedopt.inference.artifacts.source_model import open_source_model, rust_tokenizer, text_settings
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.pipeline import Pipeline
from embedopt.inference.replicas import Forward, Replicas

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def open_pipeline(backend: Backend, folder: Path) -> Pipeline:
    """Open the weights in the torch type that ``open_options["dtype"]`` names."""
    import torch

    model = open_source_model(folder, dtype=getattr(torch, str(backend.open_options["dtype"])))
    way = Replicas(backend.name, 1, lambda: [_forward(model)])
    return Pipeline(backend.name, rust_tokenizer(model), text_settings(model), [way], backend.batch_tokens)


def _forward(model: "SentenceTransformer") -> Forward:
    import torch

    def forward(ids: IntArray, mask: IntArray) -> FloatArray:
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            # The model's norm, computed in a narrow type, is off by up to 0.4 %: normalise again in float32.
            embeddings = model(features)["sentence_embedding"].float()
            normalised: FloatArray = torch.nn.functional.normalize(embeddings).numpy()
        return normalised

    return forward
