"""The texts on which INT8 recipes measure a model's activations.

They belong to no corpus, so no embedding is judged on a text that its recipe was made with.
"""

from pathlib import Path

from embedopt.inference.artifacts.layout import graph_inputs
from embedopt.inference.encoder import IntArray


def quantization_texts() -> list[str]:
    """Return the texts: 80 of many kinds, lengths and languages, one of them empty."""
    return Path(__file__).with_suffix(".txt").read_text(encoding="utf8").rstrip("\n").split("\n")


def quantization_inputs(folder: Path) -> list[dict[str, IntArray]]:
    """Return the inputs of the graph in ``folder`` for each text by itself, the longest text first."""
    inputs = graph_inputs(folder, [[text] for text in quantization_texts()])
    return sorted(inputs, key=lambda arrays: arrays["input_ids"].size, reverse=True)
