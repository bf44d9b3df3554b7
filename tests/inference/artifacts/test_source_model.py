"""The model that artifacts are built from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from embedopt.errors import UnsupportedModelError
from embedopt.inference.artifacts import source_model
from embedopt.inference.artifacts.source_model import open_source_model, rust_tokenizer


class _Model(list[SimpleNamespace]):
    """A transformer whose tokenizer is written in Python."""

    tokenizer = SimpleNamespace()

    def __init__(self) -> None:
        super().__init__([SimpleNamespace(auto_model=None)])


def test_a_model_without_a_rust_tokenizer_is_refused() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"the model's tokenizer is SimpleNamespace, without a tokenizer\.json"
    ):
        rust_tokenizer(_Model())  # type: ignore[arg-type]  # a stand-in


class _Module(torch.nn.Module):
    """Notes the masks that it gets."""

    def __init__(self, masks: list[list[int]], *, include_prompt: bool = True) -> None:
        super().__init__()
        self.include_prompt, self._masks = include_prompt, masks

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self._masks.append(features["attention_mask"][0].tolist())
        return features


def test_two_poolings_leave_out_a_prompt_that_the_transformer_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[list[int]] = []
    poolings = [_Module(masks, include_prompt=False) for _ in range(2)]
    model = torch.nn.Sequential(_Module(masks), *poolings)
    monkeypatch.setattr(source_model, "open_model", lambda *_, **__: model)
    open_source_model(Path())({"attention_mask": torch.tensor([[2, 2, 1, 1, 0]])})
    assert masks == [[1, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0]]
