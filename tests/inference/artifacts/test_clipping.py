"""The share of activations outside the scales of a static INT8 graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from embedopt.inference.artifacts.clipping import clipped_share
from embedopt.inference.artifacts.layout import MODEL_FILE, TOKENIZER_FILE, TextSettings

# Ids 0 to 3 have these values, which are quantised with a scale of 0.5 and a zero point of 100.
_VALUES = [-50.2, -50.4, 77.7, 77.8]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    initializers = [
        numpy_helper.from_array(np.array(_VALUES, dtype=np.float32), "table"),
        numpy_helper.from_array(np.array(0.5, dtype=np.float32), "scale"),
        numpy_helper.from_array(np.array(100, dtype=np.uint8), "zero"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["values"]),
        helper.make_node("QuantizeLinear", ["values", "scale", "zero"], ["quantized"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("quantized", TensorProto.UINT8, ["n", "length"])
    graph = helper.make_graph(nodes, "graph", inputs, [output], initializers)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / MODEL_FILE)
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2, "d": 3}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / TOKENIZER_FILE))
    TextSettings(dim=1, max_length=None, pad_id=0, prompt="").save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("texts", "share"),
    [(["a"], 0.0), (["b"], 1.0), (["c"], 0.0), (["d"], 1.0), (["a b c d", "a a b d"], 0.5)],
)
def test_what_rounds_to_less_than_0_or_more_than_255_is_clipped(
    folder: Path, texts: list[str], share: float
) -> None:
    assert clipped_share(folder, texts) == share
