"""Tiny random models in the layout that sentence-transformers reads, and texts for every model."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto

UNUSUAL_TEXTS = [
    "welder, night shift in zurich",
    "",
    "nurse",
    "c++ and python " * 40,
    "Ünïcödé 👩‍🔧 \x00",
    "a " * 20_000,
]

Pooling = Literal["mean", "cls", "max"]

_WORDS = (
    "a the and for with at in of welder nurse driver baker night day shift zurich java python c ++ , . % 80"
)


def make_model(folder: Path, pooling: Pooling = "mean", *, normalize: bool = True, prompt: str = "") -> Path:
    """Write a random BERT into ``folder`` and return the model's folder.

    It has two layers and embeddings of 32 components, and cuts texts to 24 tokens.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *_WORDS.split(), *letters, *(f"##{letter}" for letter in letters)]
    bert = folder / "bert"
    bert.mkdir()
    (bert / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)), encoding="utf8")
    tokenizer = BertTokenizerFast(  # type: ignore[no-untyped-call]  # transformers has no types
        str(bert / "vocab.txt")
    )
    torch.manual_seed(0)
    config = BertConfig(  # type: ignore[no-untyped-call]  # likewise
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.4,  # large enough for two texts to differ clearly
    )
    BertModel(config).save_pretrained(bert)  # type: ignore[no-untyped-call]  # likewise
    tokenizer.save_pretrained(bert)
    transformer = modules.Transformer(str(bert), max_seq_length=24)
    stack = [transformer, modules.Pooling(32, pooling_mode=pooling)]
    model = SentenceTransformer(
        modules=[*stack, modules.Normalize()] if normalize else stack,
        device="cpu",
        prompts={"search": prompt} if prompt else None,
        default_prompt_name="search" if prompt else None,
    )
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def weights_in(model: "ModelProto", name: str) -> np.ndarray[tuple[int, int], np.dtype[Any]]:
    """Return the weights called ``name`` of an ONNX model."""
    from onnx import numpy_helper

    [tensor] = [tensor for tensor in model.graph.initializer if tensor.name == name]
    return np.asarray(numpy_helper.to_array(tensor))


OWN_CODE = """
import torch
from transformers import BertConfig, BertModel, BertPreTrainedModel
from sentence_transformers.sentence_transformer.modules import Pooling

class OwnConfig(BertConfig):
    model_type = "own"

class OwnModel(BertModel):
    config_class = OwnConfig

class OwnPooling(Pooling):
    def forward(self, features):
        features = super().forward(features)
        features["sentence_embedding"] = features["sentence_embedding"] * torch.linspace(-1, SCALE, 32)
        return features
"""


def make_own_code_model(model: Path, folder: Path, *, scale: int = 1) -> Path:
    """Copy ``model`` to ``folder``, with its Transformer and its pooling by Python code of its own."""
    shutil.copytree(model, folder)
    (folder / "own_code.py").write_text(OWN_CODE.replace("SCALE", str(scale)), encoding="utf8")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf8"))
    modules[1]["type"] = "own_code.OwnPooling"
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf8")
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own_code.OwnConfig", "AutoModel": "own_code.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    return folder
