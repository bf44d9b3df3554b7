"""The sentence-transformers model that artifacts are built from."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.layout import TOKENIZER_FILE, TextSettings
from embedopt.inference.artifacts.model_code import needs_trust

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer


# Whether a person trusts the code of the model that is being opened. Other threads do not inherit it.
_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=False)


@contextlib.contextmanager
def trusting(trust_remote_code: bool) -> Iterator[None]:
    """Open models in the block with their own Python code, if it is trusted."""
    before = _TRUSTED.set(trust_remote_code)
    try:
        yield
    finally:
        _TRUSTED.reset(before)


def is_trusted() -> bool:
    """Return whether the code of the model that is being opened may run."""
    return _TRUSTED.get()


def open_model(folder: Path, **options: Any) -> "SentenceTransformer":
    """Open a folder on the CPU with sentence-transformers; ``options`` are those of its class.

    Raises:
        WeightsError: the model needs code of its own, outside of :func:`trusting`.
    """
    from sentence_transformers import SentenceTransformer

    try:
        model: SentenceTransformer = SentenceTransformer(
            str(folder), device="cpu", trust_remote_code=is_trusted(), **options
        )
    except ValueError as error:
        if is_trusted() or "trust_remote_code" not in str(error):
            raise
        raise needs_trust(folder) from error
    return model


def open_source_model(folder: Path, **model_kwargs: object) -> "SentenceTransformer":
    """Open a model folder by :func:`open_model`; ``model_kwargs`` go to transformers' ``from_pretrained``."""
    model = open_model(folder, model_kwargs=model_kwargs)
    model.eval()
    return model


def rust_tokenizer(model: "SentenceTransformer") -> "Tokenizer":
    """Return a copy of the Rust tokenizer inside ``model``.

    Raises:
        ArtifactError: the model's tokenizer is written in Python.
    """
    from tokenizers import Tokenizer

    rust = getattr(model.tokenizer, "backend_tokenizer", None)
    if rust is None:
        raise ArtifactError(
            f"the model's tokenizer is {type(model.tokenizer).__name__}, without a tokenizer.json; "
            "wanted one that the tokenizers library can load: convert it with transformers' AutoTokenizer"
        )
    return Tokenizer.from_str(rust.to_str())


def text_settings(model: "SentenceTransformer") -> TextSettings:
    """Return how ``model`` reads texts."""
    dim = model.get_embedding_dimension()
    assert dim is not None
    return TextSettings(
        dim=dim,
        max_length=model.max_seq_length,
        pad_id=model.tokenizer.pad_token_id or 0,
        prompt=model.prompts.get(model.default_prompt_name or "") or "",
    )


def save_text_files(model: "SentenceTransformer", folder: Path) -> None:
    """Write the tokenizer and the text settings of ``model`` into the folder of an artifact.

    Raises:
        ArtifactError: the model's tokenizer is written in Python.
    """
    rust_tokenizer(model).save(str(folder / TOKENIZER_FILE), pretty=False)
    text_settings(model).save(folder)
