"""The library's front door."""

import pkgutil
from collections.abc import Callable
from pathlib import Path

from embedopt.inference.artifacts import ArtifactStore
from embedopt.inference.encoder import Encoder
from embedopt.inference.spec import Backend, get_backend
from embedopt.inference.weights import resolve_weights


def load_encoder(
    name: str = "onnx-int8",
    *,
    model: str | None = None,
    cache_dir: Path | str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Encoder:
    """Load a backend, building its artifact first where the cache has none.

    Args:
        name: a row of :data:`embedopt.inference.spec.BACKENDS`.
        model: None for all-MiniLM-L6-v2; else a local folder or a hub name.
        cache_dir: where artifacts are kept; None for ``$EMBEDOPT_CACHE`` or the user's cache folder.
        on_step: told in words what is being built.

    Raises:
        UsageError: there is no such backend.
        WeightsError: the model's files are missing or not the published ones.
        ArtifactError: the artifact can't be built or stored.
    """
    backend = get_backend(name)
    store = ArtifactStore(Path(cache_dir) if cache_dir else None, on_step)
    return open_encoder(backend, store.get(backend, resolve_weights(model)))


def open_encoder(backend: Backend, folder: Path) -> Encoder:
    """Load a backend from the folder that :meth:`ArtifactStore.get` returned."""
    encoder: Encoder = pkgutil.resolve_name(backend.load)(backend, folder)
    return encoder
