"""The sentence-transformers model that artifacts are built from."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from embedopt.errors import UnsupportedModelError, WeightsError, first_line
from embedopt.inference.artifacts import probes
from embedopt.inference.artifacts.layout import TOKENIZER_FILE, TextSettings
from embedopt.inference.artifacts.model_code import needs_trust

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer


# A limit from here on means none: transformers writes 1e30.
_NO_LIMIT = 2**31
# Names of the tables of positions in transformers' models.
_POSITION_TABLES = frozenset({"position_embeddings", "position_embedding", "embed_positions", "wpe"})
# Whether a person trusts the code of the model that is being opened. Other threads do not inherit it.
_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=False)


@contextlib.contextmanager
def trusting(trust_remote_code: bool) -> Iterator[None]:
    """Let the models that are opened in the block run their own Python code, if it is trusted."""
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

    A limit on tokens beyond the model's table of positions, with which the library fails on long texts, is
    lowered to the table's size.

    Raises:
        WeightsError: the model needs code of its own, outside of :func:`trusting`, or tensors are missing.
    """
    from sentence_transformers import SentenceTransformer

    try:
        with _no_invented_tensors(folder):
            model: SentenceTransformer = SentenceTransformer(
                str(folder), device="cpu", trust_remote_code=is_trusted(), **options
            )
    except ValueError as error:
        if is_trusted() or "trust_remote_code" not in str(error):
            raise
        raise needs_trust(folder) from error
    _lower_limit(model)
    return model


@contextlib.contextmanager
def _no_invented_tensors(folder: Path) -> Iterator[None]:
    """Raise where transformers fills in random numbers for tensors that a model's files lack.

    transformers only warns. A pooler may be missing: sentence-transformers does not use it.
    """
    from transformers import PreTrainedModel
    from transformers.modeling_utils import logger

    original: Any = PreTrainedModel.from_pretrained
    missing: list[str] = []

    def noting(kind: type[PreTrainedModel], *args: Any, **options: Any) -> Any:
        with_info = options.pop("output_loading_info", False)
        model, info = original.__func__(kind, *args, output_loading_info=True, **options)
        other_shapes = [name for name, *_ in info["mismatched_keys"]]
        missing.extend(name for name in (*info["missing_keys"], *other_shapes) if "pooler." not in name)
        return (model, info) if with_info else model

    with (
        mock.patch.object(logger, "warning"),
        mock.patch.object(PreTrainedModel, "from_pretrained", classmethod(noting)),
    ):
        yield
    if missing:
        raise WeightsError(
            f"{folder} lacks tensors that config.json asks for: {_shortened(missing)}; wanted "
            "all of them, in its shapes: fetch the model again or mend config.json"
        )


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")


def _lower_limit(model: "SentenceTransformer") -> None:
    for name, module in getattr(model[0], "named_modules", list)():
        if name.rpartition(".")[2] in _POSITION_TABLES and hasattr(module, "num_embeddings"):
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            positions = module.num_embeddings - first
            model.max_seq_length = min(model.max_seq_length or positions, positions)


def open_source_model(folder: Path, **model_kwargs: object) -> "SentenceTransformer":
    """Open a model folder by :func:`open_model`; ``model_kwargs`` go to transformers' ``from_pretrained``.

    A pooling that leaves out prompts takes their tokens from the mask, see :meth:`TextSettings.pad`.
    """
    model = open_model(folder, model_kwargs=model_kwargs)
    model.eval()
    for module in _poolings_without_prompt(model)[:1]:  # any later ones see the mask without the prompt
        model[0].register_forward_pre_hook(_attend_to_prompt)
        module.register_forward_pre_hook(_leave_prompt_out)
    return model


def _poolings_without_prompt(model: "SentenceTransformer") -> list[Any]:
    return [module for module in model if not getattr(module, "include_prompt", True)]


def _attend_to_prompt(_: object, features: Sequence[dict[str, Any]]) -> None:
    mask = features[0]["attention_mask"]
    features[0]["pooling_mask"], features[0]["attention_mask"] = (mask == 1).long(), (mask > 0).long()


def _leave_prompt_out(_: object, features: Sequence[dict[str, Any]]) -> None:
    features[0]["attention_mask"] = features[0].pop("pooling_mask")


def rust_tokenizer(model: "SentenceTransformer") -> "Tokenizer":
    """Return a copy of the Rust tokenizer inside ``model``.

    Raises:
        UnsupportedModelError: the model has no transformer, or its tokenizer is written in Python.
    """
    from tokenizers import Tokenizer

    if not hasattr(model[0], "auto_model"):
        raise UnsupportedModelError(
            f"the model's first module is {type(model[0]).__name__}; wanted a transformer: leave the backend "
            "out for this model, or take torch-fp32 or static-fp32"
        )
    rust = getattr(model.tokenizer, "backend_tokenizer", None)
    if rust is None:
        raise UnsupportedModelError(
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
        max_length=None if (model.max_seq_length or _NO_LIMIT) >= _NO_LIMIT else model.max_seq_length,
        pad_id=model.tokenizer.pad_token_id or 0,
        prompt=model.prompts.get(model.default_prompt_name or "") or "",
        truncation_side=model.tokenizer.truncation_side,
        split_special_tokens=model.tokenizer.split_special_tokens,
        prompts={name: prompt or "" for name, prompt in model.prompts.items()},
        pools_prompt=not _poolings_without_prompt(model),
        special_ids=model.tokenizer.all_special_ids,
    )


def save_text_files(model: "SentenceTransformer", folder: Path) -> None:
    """Write tokenizer, text settings and probes of ``model`` into the folder of an artifact.

    Raises:
        UnsupportedModelError: the model has no transformer, its tokenizer is written in Python, or
            sentence-transformers makes other tokens than the tokenizer by itself.
    """
    tokenizer, settings = rust_tokenizer(model), text_settings(model)
    settings.configure(tokenizer)
    prompts = dict.fromkeys([settings.prompt, *settings.prompts.values()])
    for prompt, text in itertools.product(prompts, itertools.chain(*probes.texts_for(model))):
        tokens = tokenizer.encode(prompt + text).ids
        expected = _library_tokens(model, text, prompt)
        if tokens != expected:
            raise UnsupportedModelError(
                f"sentence-transformers makes {len(expected)} tokens of {text[:24]!r}, the model's tokenizer "
                f"alone {len(tokens)}, since the model has {_text_changes(model)}; wanted the same tokens: "
                "leave the backend out for this model"
            )
    tokenizer.save(str(folder / TOKENIZER_FILE), pretty=False)
    settings.save(folder)
    probes.write(model, folder)


def _library_tokens(model: "SentenceTransformer", text: str, prompt: str) -> list[int]:
    try:
        tokens: list[int] = model.preprocess([text], prompt=prompt)["input_ids"][0].tolist()
    except Exception as error:  # of the library, of any class
        raise UnsupportedModelError(
            f"sentence-transformers can't tokenize with this model: {type(error).__name__}: "
            f"{first_line(error)}; wanted one that embeds texts: mend its files, or correct --model"
        ) from error
    return tokens


def _text_changes(model: "SentenceTransformer") -> str:
    """Return what changes texts beside the tokenizer, in words."""
    arguments = getattr(model[0], "processing_kwargs", {})
    chat = "message" in getattr(model[0], "modality_config", {})
    known = [
        *(["a chat template"] if chat else []),
        *([f"processing_kwargs {arguments}"] if arguments else []),
    ]
    return " and ".join(known) or "settings that are not in tokenizer.json"
