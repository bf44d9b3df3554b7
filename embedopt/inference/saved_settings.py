"""The settings that ``embedopt tune`` found to be the fastest here, kept beside the artifacts.

A file holds the settings that differ from the row's. Its name holds the digest of all that they were found
with, so that what was found elsewhere, or with other libraries, is not used.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from embedopt.errors import ArtifactError
from embedopt.inference.artifacts.store import cache_root, library_versions
from embedopt.inference.artifacts.weights import Weights, digest_of
from embedopt.inference.backends import Backend, Mode, Settings
from embedopt.inference.hardware import this_hardware

_SCHEMA = 1


def tuned(backend: Backend, mode: Mode, weights: Weights, cache_dir: Path | None = None) -> Backend:
    """Return the row with the settings that were saved for it on this hardware; the row itself without any.

    Raises:
        ArtifactError: the saved file is damaged, or names a setting or value that ``tune`` does not try.
    """
    if not _files(backend, mode, cache_dir):  # the hardware is not looked at, which takes its time
        return backend
    file = _file(backend, mode, weights, cache_dir)
    return backend.with_settings(_read(file, backend, mode)) if file.exists() else backend


def save(
    backend: Backend, mode: Mode, weights: Weights, settings: Settings, cache_dir: Path | None = None
) -> Path | None:
    """Keep the settings that :func:`tuned` uses from now on, and return the file that holds them.

    Without any, the row stays as it is: there is no file, and an earlier one is deleted.

    Args:
        backend: the row as it is in the table.
        mode: that they were found in.
        weights: of the model that they were found with.
        settings: those that differ from the row's.
        cache_dir: None for the user's.

    Raises:
        ArtifactError: the cache can't be written.
    """
    file = _file(backend, mode, weights, cache_dir)
    values = {
        "schema": _SCHEMA,
        "settings": dict(settings),
        "found_with": _found_with(backend, mode, weights),
    }
    if not settings:
        with _writing(file.parent):
            file.unlink(missing_ok=True)
        return None
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with _writing(file.parent):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(values, indent=2), encoding="utf8")
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    return file


def forget(backend: Backend, mode: Mode, cache_dir: Path | None = None) -> tuple[Path, ...]:
    """Delete what was saved for a backend in a mode, for any hardware and model, and return the files.

    Raises:
        ArtifactError: the cache can't be written.
    """
    files = _files(backend, mode, cache_dir)
    for file in files:
        with _writing(file.parent):
            file.unlink(missing_ok=True)
    return files


def _files(backend: Backend, mode: Mode, cache_dir: Path | None) -> tuple[Path, ...]:
    return tuple(sorted(_folder(cache_dir).glob(f"{backend.name}-{mode}-*.json")))


def _file(backend: Backend, mode: Mode, weights: Weights, cache_dir: Path | None) -> Path:
    digest = digest_of(_found_with(backend, mode, weights))
    return _folder(cache_dir) / f"{backend.name}-{mode}-{digest[:16]}.json"


def _folder(cache_dir: Path | None) -> Path:
    return cache_root(cache_dir) / "tuned"


def _found_with(backend: Backend, mode: Mode, weights: Weights) -> Mapping[str, object]:
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
        raise _damaged(file, f"can't be read ({error.strerror})", backend) from None
    except (ValueError, KeyError, TypeError):
        raise _damaged(file, "is damaged", backend) from None
    if schema != _SCHEMA:
        raise _damaged(file, f"has schema {schema!r}, wanted {_SCHEMA}", backend)
    for name, value in settings.items():
        if value not in backend.tunable[mode].get(name, ()):
            raise _damaged(file, f"has {name} = {value!r}, which tune does not try", backend)
    return settings


def _damaged(file: Path, what: str, backend: Backend) -> ArtifactError:
    return ArtifactError(
        f"{file} {what}; wanted settings that embedopt tune saved: "
        f"forget them with embedopt tune --backend {backend.name} --reset"
    )


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ArtifactError(
            f"{folder} can't be written ({reason}); wanted a folder for tuned settings: "
            "give another cache with --cache-dir or EMBEDOPT_CACHE"
        ) from error
