"""The fastest settings of a backend in a mode, as ``embedopt tune`` saved them, kept beside the artifacts.

A file holds the settings that differ from the row's. Its name has the digest of the conditions under which
they were the fastest, so a file that was saved on other hardware or with other libraries is not used.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from embedopt.errors import ArtifactError
from embedopt.files import explaining_failure, write_whole
from embedopt.inference.artifacts.store import cache_root, library_versions
from embedopt.inference.artifacts.weights import Weights, digest_of
from embedopt.inference.backend import Backend, Mode, Settings
from embedopt.inference.hardware import fitted, this_hardware

_SCHEMA = 1
_HINT = "give another cache with --cache-dir or EMBEDOPT_CACHE"


def tuned(backend: Backend, mode: Mode, weights: Weights, cache_dir: Path | None = None) -> Backend:
    """Return the row, fitted to this hardware, with the settings that were saved for it.

    Raises:
        ArtifactError: the saved file is damaged, or holds a setting or value that ``tune`` does not try.
    """
    backend = fitted(backend)
    if not _files(backend, mode, cache_dir):  # to look at the hardware takes 0.2 s
        return backend
    file = _file(backend, mode, weights, cache_dir)
    return backend.with_settings(_read(file, backend, mode)) if file.exists() else backend


def tuned_in_both_modes(backend: Backend, weights: Weights, cache_dir: Path | None = None) -> Backend:
    """Return the row with the saved settings of both modes; see :func:`tuned`."""
    latency, throughput = (tuned(backend, mode, weights, cache_dir) for mode in get_args(Mode))
    return replace(latency, throughput_settings=throughput.settings)


def save(
    backend: Backend, mode: Mode, weights: Weights, settings: Settings, cache_dir: Path | None = None
) -> Path | None:
    """Save the settings that :func:`tuned` returns from now on, and return the file that holds them.

    Args:
        backend: the row, fitted to this hardware.
        mode: mode in which the settings are the fastest.
        weights: model with which they are.
        settings: those that differ from the row's; if there are none, an earlier file is deleted and None is
            returned.
        cache_dir: None for the user's cache folder.

    Raises:
        OutputError: the cache can't be written.
    """
    file = _file(backend, mode, weights, cache_dir)
    if not settings:
        _delete(file)
        return None
    conditions = _conditions(backend, mode, weights)
    values = {"schema": _SCHEMA, "settings": dict(settings), "found_with": conditions}
    write_whole(file, json.dumps(values, indent=2), _HINT)
    return file


def forget(backend: Backend, mode: Mode, cache_dir: Path | None = None) -> tuple[Path, ...]:
    """Delete a backend's saved settings in a mode, for all hardware and models; return the deleted files.

    Raises:
        OutputError: the cache can't be written.
    """
    files = _files(backend, mode, cache_dir)
    for file in files:
        _delete(file)
    return files


def _delete(file: Path) -> None:
    with explaining_failure(file, _HINT):
        file.unlink(missing_ok=True)


def _files(backend: Backend, mode: Mode, cache_dir: Path | None) -> tuple[Path, ...]:
    return tuple(sorted(_folder(cache_dir).glob(f"{backend.name}-{mode}-*.json")))


def _file(backend: Backend, mode: Mode, weights: Weights, cache_dir: Path | None) -> Path:
    digest = digest_of(_conditions(backend, mode, weights))
    return _folder(cache_dir) / f"{backend.name}-{mode}-{digest[:16]}.json"


def _folder(cache_dir: Path | None) -> Path:
    return cache_root(cache_dir) / "tuned"


def _conditions(backend: Backend, mode: Mode, weights: Weights) -> Mapping[str, object]:
    """Return all that decides which settings are the fastest, as JSON."""
    return {
        "hardware": dataclasses.asdict(this_hardware()),
        "libraries": library_versions(backend.packages),
        "model": weights.digest,
        "defaults": dict(backend.settings),
        "tried": {name: list(values) for name, values in backend.tunable.get(mode, {}).items()},
    }


def _read(file: Path, backend: Backend, mode: Mode) -> Settings:
    try:
        values = json.loads(file.read_text(encoding="utf8"))
        schema, settings = values["schema"], dict(values["settings"])
    except OSError as error:
        raise _unusable(file, f"can't be read ({error.strerror})", backend) from None
    except (ValueError, KeyError, TypeError):
        raise _unusable(file, "is damaged", backend) from None
    if schema != _SCHEMA:
        raise _unusable(file, f"has schema {schema!r}, wanted {_SCHEMA}", backend)
    for name, value in settings.items():
        if value not in backend.tunable.get(mode, {}).get(name, ()):
            raise _unusable(file, f"has {name} = {value!r}, which tune does not try", backend)
    return settings


def _unusable(file: Path, fault: str, backend: Backend) -> ArtifactError:
    return ArtifactError(
        f"{file} {fault}; wanted settings that embedopt tune saved: "
        f"delete them with embedopt tune --backend {backend.name} --reset"
    )
