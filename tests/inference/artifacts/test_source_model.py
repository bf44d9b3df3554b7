"""The model that artifacts are built from."""

from types import SimpleNamespace

import pytest

from embedopt.errors import UnsupportedModelError
from embedopt.inference.artifacts.source_model import rust_tokenizer


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
