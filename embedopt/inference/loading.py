"""Opens encoders by the name of a backend."""

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from embedopt.errors import ArtifactError, EmbedoptError, UsageError, first_line
from embedopt.inference.artifacts.source_model import trusting
from embedopt.inference.artifacts.store import ArtifactStore
from embedopt.inference.artifacts.weights import resolve_weights
from embedopt.inference.backend import Backend, Mode
from embedopt.inference.backends import DEFAULT, get_backend
from embedopt.inference.encoder import Encoder
from embedopt.inference.saved_settings import tuned


def load_encoder(
    name: str = DEFAULT,
    *,
    mode: Mode = "latency",
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
        mode: ``latency`` gives a call all cores; ``throughput`` puts a replica of the model on each core, up
            to ``OMP_NUM_THREADS`` of them, which encodes many texts faster and takes more memory. Backends on
            PyTorch or sentence-transformers are the same in both modes.
        model: None for all-MiniLM-L6-v2; else a local folder or a hub name.
        revision: branch, tag or commit of a hub name; None for its main branch.
        trust_remote_code: whether Python code that comes with the model may run.
        cache_dir: folder of the artifacts; None for ``$EMBEDOPT_CACHE`` or the user's cache folder.
        on_step: called with a line of text when a build starts, waits or ends.

    Raises:
        UsageError: there is no such backend or mode.
        MissingPackageError: the backend needs a runtime that is not installed.
        WeightsError: the model's files are missing or not the published ones, or it needs code of its own.
        ArtifactError: the artifact can't be built, stored or opened, or the saved settings are damaged.
    """
    backend = get_backend(name)
    if mode not in get_args(Mode):
        raise UsageError(f"unknown mode {mode!r}; known are: {', '.join(get_args(Mode))}")
    weights = resolve_weights(model, revision, trust_remote_code=trust_remote_code)
    cache = Path(cache_dir) if cache_dir else None
    row = tuned(backend, mode, weights, cache)
    folder = ArtifactStore(cache, on_step).get(backend, weights)
    return open_encoder(row, folder, mode, trust_remote_code=trust_remote_code)


def open_encoder(
    backend: Backend, folder: Path, mode: Mode = "latency", *, trust_remote_code: bool = False
) -> Encoder:
    """Open a backend on the folder that :meth:`ArtifactStore.get` returned.

    Raises:
        WeightsError: the model needs code of its own, which is not trusted.
        ArtifactError: the runtime can't open the folder.
    """
    opener: Callable[..., Encoder] = pkgutil.resolve_name(backend.opener)
    try:
        with trusting(trust_remote_code):
            return opener(backend, folder, mode) if backend.has_modes else opener(backend, folder)
    except EmbedoptError:
        raise
    except Exception as error:  # each runtime raises its own errors for a file that it can't read
        raise ArtifactError(
            f"{backend.name} can't open {folder}: {type(error).__name__}: {first_line(error)}; "
            "wanted a complete, undamaged model: fetch it again, or correct --model"
        ) from error
