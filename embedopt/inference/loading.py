"""Opens encoders by the name of a backend."""

import pkgutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

from embedopt.errors import ArtifactError, EmbedoptError, UsageError, first_line
from embedopt.inference.artifacts import probes
from embedopt.inference.artifacts.layout import TextSettings
from embedopt.inference.artifacts.source_model import trusting
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backend import Backend, Mode
from embedopt.inference.backends import DEFAULT, get_backend
from embedopt.inference.encoder import Encoder
from embedopt.inference.hardware import limit_tokenizer_threads, replicas_and_threads
from embedopt.inference.pipeline import Pipeline
from embedopt.inference.replicas import Replicas
from embedopt.inference.saved_settings import tuned_in_both_modes


def load_encoder(
    name: str = DEFAULT,
    *,
    mode: Mode | None = None,
    model: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    cache_dir: Path | str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Encoder:
    """Open a backend with the settings that ``embedopt tune`` saved for this hardware, or else the row's own.

    The backend's artifact is built first unless the cache has it.

    Args:
        name: a row of :data:`embedopt.inference.backends.BACKENDS`.
        mode: None to let each call choose the faster way: one text gets all cores, many texts are shared by
            replicas of the model, one a core. ``latency`` is always the first way, ``throughput`` the second;
            either takes less memory. Backends on PyTorch or sentence-transformers have one way.
        model: None for all-MiniLM-L6-v2; else a local folder or a hub name.
        revision: branch, tag or commit of a hub name; None for its main branch.
        trust_remote_code: whether Python code that comes with the model may run.
        cache_dir: folder of the artifacts; None for ``$EMBEDOPT_CACHE`` or the user's cache folder.
        on_step: called with a line of text when a build starts, waits or ends.

    Raises:
        UsageError: there is no such backend or mode.
        MissingPackageError: the backend needs a runtime that is not installed.
        WeightsError: the model's files are missing or not the published ones, or it needs code of its own.
        UnsupportedModelError: the backend can't give the embeddings that sentence-transformers gives.
        ArtifactError: the artifact can't be built, stored or opened, or the saved settings are damaged.
    """
    backend = get_backend(name)
    if mode is not None and mode not in get_args(Mode):
        raise UsageError(f"unknown mode {mode!r}; known are: {', '.join(get_args(Mode))}")
    cache = Path(cache_dir) if cache_dir else None
    try:
        weights = resolve_weights(model, revision, trust_remote_code=trust_remote_code)
        row = tuned_in_both_modes(backend, weights, cache)
        folder = ArtifactStore(cache, on_step).get(backend, weights)
        return open_encoder(row, folder, mode, trust_remote_code=trust_remote_code)
    except OSError as error:  # a file can't be read, or the system is at a limit
        raise ArtifactError(
            f"{name} can't be opened ({error}); wanted files that can be read: mend what the error names"
        ) from error


def open_encoder(
    backend: Backend, folder: Path, mode: Mode | None = None, *, trust_remote_code: bool = False
) -> Encoder:
    """Open a backend on the folder that :meth:`ArtifactStore.get` returned.

    Without a mode, the replicas for several texts are opened by the first call with several.

    Raises:
        WeightsError: the model needs code of its own, which is not trusted.
        UnsupportedModelError: the backend can't give the embeddings that sentence-transformers gives.
        ArtifactError: the runtime can't open the folder, or gives other embeddings than when it was built.
    """
    limit_tokenizer_threads()
    with trusting(trust_remote_code):
        encoder = _with_ways(backend, folder, mode) if backend.has_modes else _opened(backend, folder)
    probes.check(encoder, backend, folder)
    return encoder


def _with_ways(backend: Backend, folder: Path, mode: Mode | None) -> Encoder:
    """Open a backend in a mode, or so that each call chooses one."""
    modes = (mode,) if mode else get_args(Mode)
    ways: dict[int, Replicas] = {}
    max_length = TextSettings.read(folder).max_length
    for one in modes:
        count, threads = replicas_and_threads(one)
        forwards = partial(_opened, backend.in_mode(one), folder, count, threads)
        # On one core the modes are the same.
        ways.setdefault(count, Replicas(backend.name, count, forwards, max_length))
    first, *_ = ways.values()
    first.open()
    batch_tokens = backend.in_mode(modes[-1]).batch_tokens
    return Pipeline.of_artifact(backend.name, folder, tuple(ways.values()), batch_tokens)


def _opened(backend: Backend, folder: Path, *arguments: int) -> Any:
    try:
        return pkgutil.resolve_name(backend.opener)(backend, folder, *arguments)
    except EmbedoptError:
        raise
    except Exception as error:  # each runtime raises its own errors for a file that it can't read
        wanted = "a complete, undamaged model: fetch it again, or correct --model"
        if backend.project:
            wanted = f"what opens: check [tool.embedopt.targets.{backend.name}] and embedopt's packages"
        raise ArtifactError(
            f"{backend.name} can't open {backend.project or folder}: {type(error).__name__}: "
            f"{first_line(error)}; wanted {wanted}"
        ) from error
