"""The sentence-transformers model that artifacts are built from."""

from pathlib import Path
from typing import TYPE_CHECKING

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.layout import TOKENIZER_FILE, TextSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer


def open_source_model(folder: Path, **model_kwargs: object) -> "SentenceTransformer":
    """Open a model folder on the CPU; ``model_kwargs`` go to transformers' ``from_pretrained``."""
    from sentence_transformers import SentenceTransformer

    model: SentenceTransformer = SentenceTransformer(str(folder), device="cpu", model_kwargs=model_kwargs)
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
