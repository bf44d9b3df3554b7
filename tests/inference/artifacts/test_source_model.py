"""The model that artifacts are built from."""

from types import SimpleNamespace

import pytest

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.source_model import rust_tokenizer


def test_a_model_without_a_rust_tokenizer_is_refused() -> None:
    with pytest.raises(
        ArtifactError, match=r"the model's tokenizer is SimpleNamespace, without a tokenizer\.json"
    ):
        rust_tokenizer(SimpleNamespace(tokenizer=SimpleNamespace()))  # type: ignore[arg-type]  # a stand-in
