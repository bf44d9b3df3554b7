"""A table of embeddings by token: sentence-transformers' StaticEmbedding, which has no transformer."""

from pathlib import Path

import numpy as np

from embedopt.errors import UnsupportedModelError
from embedopt.inference.artifacts import model_code, probes
from embedopt.inference.artifacts.layout import TOKENIZER_FILE, TextSettings
from embedopt.inference.artifacts.source_model import open_source_model
from embedopt.inference.backend import Backend
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.pipeline import Pipeline
from embedopt.inference.replicas import Replicas


def link(source: Path, target: Path) -> None:
    """Link the files of a model that is one table, normalised or not, and add its probes.

    Raises:
        UnsupportedModelError: it has other modules.
    """
    modules = model_code.read_modules(source)
    types = [str(module["type"]).rpartition(".")[2] for module in modules]
    if types not in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
        raise UnsupportedModelError(
            f"the model is made of {', '.join(types)}; wanted StaticEmbedding alone: leave the backend out"
        )
    model_code.link_model(source, target)
    probes.write(open_source_model(source), target)


def open_pipeline(backend: Backend, artifact: Path) -> Pipeline:
    """Open an artifact of :func:`link`."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = artifact / model_code.MODEL_FOLDER
    modules = model_code.read_modules(folder)
    [table] = load_file(folder / modules[0]["path"] / "model.safetensors").values()
    cut_dim = model_code.read_json(folder / "config_sentence_transformers.json", {}).get("truncate_dim")
    table = table[:, :cut_dim].astype(np.float32)
    prompts, default_prompt = model_code.own_prompts(folder)
    tokenizer = Tokenizer.from_file(str(folder / modules[0]["path"] / TOKENIZER_FILE))
    tokenizer.post_processor = None  # no special tokens around a text
    cut = tokenizer.truncation or {"max_length": None, "direction": "right"}
    settings = TextSettings(
        dim=table.shape[1],
        max_length=cut["max_length"],
        pad_id=0,
        prompt=default_prompt,
        prompts={"query": "", "document": ""} | prompts,  # the library's own names
        truncation_side=cut["direction"],
    )

    def forward(ids: IntArray, mask: IntArray) -> FloatArray:
        sums = np.einsum("nld,nl->nd", table[ids], mask.astype(np.float32))
        unit: FloatArray = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.float32(1e-12))
        return unit

    way = Replicas(backend.name, 1, lambda: [forward])
    return Pipeline(backend.name, tokenizer, settings, [way], backend.batch_tokens)
