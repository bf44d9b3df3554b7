"""The library's front door."""

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from embedopt.errors import ArtifactError, EmbedoptError, UsageError, first_line
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backends import DEFAULT, Backend, Mode, get_backend
from embedopt.inference.encoder import Encoder
from embedopt.inference.saved_settings import tuned


def load_encoder(
    name: str = DEFAULT,
    *,
    mode: Mode = "latency",
    model: str | None = None,
    cache_dir: Path | str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Encoder:
    """Load a backend with the settings that ``embedopt tune`` saved for this hardware, or else the row's own.

    Its artifact is built first where the cache has none.

    Args:
        name: a row of :data:`embedopt.inference.backends.BACKENDS`.
        mode: ``latency`` for all cores on one call, ``throughput`` for a replica of the model on each core,
            as far as ``OMP_NUM_THREADS`` allows, which encodes many texts faster and takes more memory. The
            backends of other runtimes than ONNX Runtime have one mode only.
        model: None for all-MiniLM-L6-v2; else a local folder or a hub name.
        cache_dir: where artifacts are kept; None for ``$EMBEDOPT_CACHE`` or the user's cache folder.
        on_step: told in words what is being built.

    Raises:
        UsageError: there is no such backend or mode.
        MissingPackageError: the backend needs a runtime that is not installed.
        WeightsError: the model's files are missing or not the published ones.
        ArtifactError: the artifact can't be built or stored, or the saved settings are damaged.
    """
    backend = get_backend(name)
    if mode not in get_args(Mode):
        raise UsageError(f"unknown mode {mode!r}; known are: {', '.join(get_args(Mode))}")
    weights, cache = resolve_weights(model), Path(cache_dir) if cache_dir else None
    row = tuned(backend, mode, weights, cache)
    return open_encoder(row, ArtifactStore(cache, on_step).get(backend, weights), mode)


def open_encoder(backend: Backend, folder: Path, mode: Mode = "latency") -> Encoder:
    """Load a backend from the folder that :meth:`ArtifactStore.get` returned.

    Raises:
        ArtifactError: its runtime can't load what is in the folder.
    """
    load: Callable[..., Encoder] = pkgutil.resolve_name(backend.load)
    try:
        return load(backend, folder, mode) if backend.has_modes else load(backend, folder)
    except EmbedoptError:
        raise
    except Exception as error:  # each runtime has errors of its own for a file that it can't read
        raise ArtifactError(
            f"{backend.name} can't load {folder}: {type(error).__name__}: {first_line(error)}; "
            "wanted a complete, undamaged model: fetch it again, or correct --model"
        ) from error
