"""The cache of artifacts, each built once.

An artifact is a folder whose name holds the digest of all that it depends on. It is built in a temporary
folder and moved into place, so it is there whole or not at all. A lock lets one of several processes build
while the others wait. A manifest with the digest of each file is checked before every use.
"""

import contextlib
import errno
import importlib.metadata
import json
import logging
import os
import pkgutil
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from filelock import FileLock, Timeout

from embedopt.errors import ArtifactError, EmbedoptError, UnsupportedModelError, first_line
from embedopt.inference.artifacts.layout import MANIFEST
from embedopt.inference.artifacts.source_model import is_trusted, trusting
from embedopt.inference.artifacts.weights import Weights, digest_of, sha256_of
from embedopt.inference.backend import Backend, Mode
from embedopt.inference.backends import get_backend
from embedopt.inference.hardware import this_hardware

_SCHEMA = 1
# Imported when it is used, as a row's functions are, since that module imports this one.
_OPENER = "embedopt.inference.loading:open_encoder"
# The libraries that the content of an artifact depends on.
_LIBRARIES = (
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "optimum",
    "optimum-onnx",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)
# Characters of another library's message that are shown: some list all that they know.
_LONGEST = 200
# The files that the recipes of several runtimes use.
_RECIPES = tuple(
    Path(__file__).with_name(name)
    for name in (
        "attention.py",
        "graph.py",
        "layout.py",
        "probes.py",
        "quantization_texts.py",
        "quantization_texts.txt",
        "quantize.py",
        "smooth.py",
        "source_model.py",
    )
)


def cache_root(cache_dir: Path | None) -> Path:
    """Return the absolute path of a cache folder; None for ``$EMBEDOPT_CACHE``, or the user's own."""
    chosen = cache_dir or os.environ.get("EMBEDOPT_CACHE")
    if not chosen:
        import platformdirs  # of the extra "build": it brings a plugin of pytest

        chosen = platformdirs.user_cache_path("embedopt")
    return Path(chosen).expanduser().absolute()


def library_versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of the libraries that an embedding depends on, by package name.

    Args:
        packages: further packages to include, such as another runtime's.
    """
    return {name: importlib.metadata.version(name) for name in (*_LIBRARIES, *packages)}


class ArtifactStore:
    """The artifacts under one cache folder.

    Args:
        cache_dir: the cache folder; None for the default of :func:`cache_root`.
        on_step: called with a line of text when a build starts, waits or ends; None for silence.
    """

    def __init__(self, cache_dir: Path | None = None, on_step: Callable[[str], None] | None = None) -> None:
        self.root = cache_root(cache_dir) / "artifacts"
        self._on_step = on_step or (lambda _: None)

    def get(self, backend: Backend, weights: Weights) -> Path:
        """Return the folder that ``backend`` opens; build it if it is missing or damaged.

        A backend without a ``build`` opens the folder of the weights.

        Raises:
            MissingPackageError: the backend needs a runtime that is not installed.
            WeightsError: the model's files are damaged, or it needs code that is not trusted.
            ArtifactError: the build failed, or the cache can't be written.
        """
        # Read when ONNX Runtime is imported: its telemetry sends, and writes into the user's cache folder.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        if backend.build is None:
            return weights.path
        backend.require_packages()
        key = _key(backend, weights)
        folder = self.root / f"{backend.name}-{digest_of(key)[:16]}"
        if _damage(folder, key) is None:
            return folder
        source = self._source(backend, weights)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._locked(f"{folder}.lock", backend.name):
                if damage := _damage(folder, key):  # None: another process built it meanwhile
                    self._clear(folder, damage)
                    with trusting(weights.trust_remote_code):
                        self._build(backend, source, folder, key)
        except OSError as error:
            raise ArtifactError(_cannot_write(self.root, error)) from error
        return folder

    def _source(self, backend: Backend, weights: Weights) -> Path:
        if backend.derived_from is None:
            return weights.path
        return self.get(get_backend(backend.derived_from), weights)

    @contextlib.contextmanager
    def _locked(self, path: str, name: str) -> Iterator[None]:
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            self._on_step(f"waiting for another process that builds {name}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _clear(self, folder: Path, damage: str) -> None:
        """Delete a damaged artifact, and what killed processes left."""
        if folder.exists():
            notice = f"{folder} is damaged ({damage}): building it again"
            self._on_step(notice)
            warnings.warn(notice, stacklevel=4)  # the line that calls load_encoder
            shutil.rmtree(folder)
        for stale in self.root.glob(f"{folder.name}.*.tmp"):
            shutil.rmtree(stale)

    def _build(self, backend: Backend, source: Path, folder: Path, key: Mapping[str, object]) -> None:
        self._on_step(f"building {backend.name}: {_describe(backend)}")
        started_s = time.perf_counter()
        target = self.root / f"{folder.name}.{os.getpid()}.tmp"
        target.mkdir()
        try:
            note = _run_build(backend, source, target)
            _write_manifest(target, key)
            target.rename(folder)
        finally:
            shutil.rmtree(target, ignore_errors=True)
        took = f"built {backend.name} in {time.perf_counter() - started_s:.1f} s"
        self._on_step(f"{took}; {note}" if note else took)


def _describe(backend: Backend) -> str:
    if backend.precision != "int8":
        return backend.summary
    instructions = ", ".join(this_hardware().instruction_sets) or "no vector instructions"
    return f"{backend.summary} (this CPU has {instructions})"


def disk_bytes(folder: Path) -> int:
    """Return the size of an artifact's files without its manifest."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs and warnings of the libraries that build, and undo their ``logging.basicConfig``."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)


def _run_build(backend: Backend, source: Path, target: Path) -> str | None:
    """Build an artifact; return what its recipe could not do, in a line, if it says so."""
    assert backend.build is not None
    build: Callable[..., str | None] = pkgutil.resolve_name(backend.build)
    open_encoder = pkgutil.resolve_name(_OPENER)
    try:
        with quiet():
            note = build(source, target, **backend.build_options)
            # Opening it once in each mode compares it with its probes.
            for mode in get_args(Mode) if backend.has_modes else (None,):
                open_encoder(backend, target, mode, trust_remote_code=is_trusted()).close()
    except EmbedoptError:
        raise
    except Exception as error:  # the libraries that export and quantise raise errors of any class
        if _is_unwritable(error):
            raise OSError(getattr(error, "errno", None) or errno.ENOSPC, str(error)) from error
        raise UnsupportedModelError(
            f"building {backend.name} from {source} failed with {type(error).__name__}: "
            f"{first_line(error)[:_LONGEST]}; leave {backend.name} out for this model"
        ) from error
    return note


def _is_unwritable(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
    # Libraries written in C++ report a full disk by their message only.
    return "no space left" in str(error).lower()


def _key(backend: Backend, weights: Weights) -> dict[str, object]:
    """Return all that an artifact depends on, as JSON."""
    assert backend.build is not None
    origin = get_backend(backend.derived_from) if backend.derived_from else None
    module = pkgutil.resolve_name(backend.build.partition(":")[0])
    return {
        "schema": _SCHEMA,
        "backend": backend.name,
        "options": dict(backend.build_options),
        "recipe": [sha256_of(file) for file in (Path(module.__file__), *_RECIPES)],
        "built_from": _key(origin, weights) if origin and origin.build else weights.digest,
        "libraries": library_versions(backend.packages),
    }


def _write_manifest(folder: Path, key: Mapping[str, object]) -> None:
    files = {
        file.relative_to(folder).as_posix(): sha256_of(file) for file in folder.rglob("*") if file.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps({"key": key, "files": files}, indent=2), encoding="utf8")


def _damage(folder: Path, key: Mapping[str, object]) -> str | None:
    """Return what is wrong with an artifact, as text; None for a sound one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf8"))
        files = dict(manifest["files"])
        if manifest["key"] != key:
            return "its manifest is another artifact's"
        for name, digest in files.items():
            if sha256_of(folder / name) != digest:
                return f"{name} has changed"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return "its manifest can't be read"
    return None


def _cannot_write(root: Path, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return (
        f"the cache {root} can't be written ({reason.lower()}); wanted a folder with about 500 MB free: "
        "give another one with --cache-dir or EMBEDOPT_CACHE"
    )
