"""The texts on which recipes measure activations."""

import json
from pathlib import Path

from embedopt.inference.artifacts.quantization_texts import quantization_inputs, quantization_texts


def test_no_text_of_the_corpus_is_among_them() -> None:
    corpus = Path(__file__).parents[3] / "benchmarks" / "corpus"
    lines = [line for file in corpus.glob("*.jsonl") for line in file.read_text(encoding="utf8").splitlines()]
    assert len(lines) == 644 + 161
    assert set(quantization_texts()) & {json.loads(line)["text"] for line in lines} == set()


def test_each_text_is_an_input_by_itself_the_longest_first(outlier_artifact: Path) -> None:
    shapes = [inputs["input_ids"].shape for inputs in quantization_inputs(outlier_artifact)]
    assert shapes == sorted(shapes, reverse=True)
    assert [rows for rows, _ in shapes] == [1] * 80
