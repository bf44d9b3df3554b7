"""PyTorch in a narrower number type than the reference's, in the same pipeline as the other runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING

from embedopt.inference.artifacts.model_code import MODEL_FOLDER, link_model
from embedopt.inference.artifacts.source_model import open_source_model, save_text_files
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.hardware import openmp_limit
from embedopt.inference.pipeline import Pipeline
from embedopt.inference.replicas import Forward, Replicas

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def link(source: Path, target: Path) -> None:
    """Link the files of the sentence-transformers folder ``source``, and add how it reads texts."""
    link_model(source, target)
    save_text_files(open_source_model(source), target)


def open_pipeline(backend: Backend, folder: Path) -> Pipeline:
    """Open an artifact of :func:`link` in the torch type that ``open_options["dtype"]`` names."""
    import torch

    if limit := openmp_limit():
        # oneDNN's bfloat16 products are wrong where OpenMP starts fewer threads than torch counts on.
        torch.set_num_threads(min(torch.get_num_threads(), limit))
    model = open_source_model(folder / MODEL_FOLDER, dtype=getattr(torch, str(backend.open_options["dtype"])))
    way = Replicas(backend.name, 1, lambda: [_forward(model)])
    return Pipeline.of_artifact(backend.name, folder, [way], backend.batch_tokens)


def _forward(model: "SentenceTransformer") -> Forward:
    import torch

    def forward(ids: IntArray, mask: IntArray) -> FloatArray:
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            # The model's norm, computed in a narrow type, is off by up to 0.4 %: normalise again in float32.
            embeddings = model(features)["sentence_embedding"][:, : model.truncate_dim].float()
            normalised: FloatArray = torch.nn.functional.normalize(embeddings).numpy()
        return normalised

    return forward
