"""What is to be encoded, into which folder and how, and all that its vectors depend on."""

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

from embedopt.bulk.embedder import DType
from embedopt.bulk.manifest import Identity
from embedopt.bulk.progress import Progress
from embedopt.bulk.readers import CHUNK_ROWS, Columns
from embedopt.bulk.sources import PART_ROWS
from embedopt.inference.artifacts.layout import MANIFEST
from embedopt.inference.artifacts.store import ArtifactStore, library_versions
from embedopt.inference.artifacts.weights import resolve_weights, sha256_of
from embedopt.inference.backends import DEFAULT_TO_STORE, get_backend
from embedopt.inference.hardware import this_hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be encoded, into which folder and how.

    Attributes:
        inputs: files, folders and patterns.
        output: folder of the Parquet files.
        columns: columns that are read.
        backend: name of the backend.
        model: None for all-MiniLM-L6-v2; else a local folder or a hub name.
        revision: branch, tag or commit of a hub name; None for its main branch.
        trust_remote_code: whether Python code that comes with the model may run.
        dtype: type of an embedding's components.
        batch_size: largest number of texts in a batch; None to let the backend choose.
        cache_dir: folder of the artifacts; None for ``$EMBEDOPT_CACHE`` or the user's cache folder.
        skip_bad_rows: whether rows that can't be encoded go to a rejects file, instead of ending the job.
        force: whether to encode everything again where the folder's vectors depend on something else.
        mixed: whether to keep those vectors and encode what is missing.
        ray: address of the Ray cluster that encodes; ``local`` for one on this machine, None for none.
        part_rows: rows of a part, a multiple of ``chunk_rows``.
        chunk_rows: rows that are in memory at a time.
    """

    inputs: tuple[str, ...]
    output: Path
    columns: Columns
    backend: str = DEFAULT_TO_STORE
    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: DType = "float32"
    batch_size: int | None = None
    cache_dir: Path | None = None
    skip_bad_rows: bool = False
    force: bool = False
    mixed: bool = False
    ray: str | None = None
    part_rows: int = PART_ROWS
    chunk_rows: int = CHUNK_ROWS


def identity_of(job: Job, progress: Progress) -> Identity:
    """Return all that the vectors and the layout of the output depend on but for the inputs, in words."""
    weights = resolve_weights(job.model, job.revision, trust_remote_code=job.trust_remote_code)
    backend = get_backend(job.backend)
    folder = ArtifactStore(job.cache_dir, progress.step).get(backend, weights)
    hardware = this_hardware()
    artifact = sha256_of(folder / MANIFEST) if backend.build else "none"
    libraries = {"embedopt": importlib.metadata.version("embedopt"), **library_versions(backend.packages)}
    return {
        "model": weights.name,
        "model sha256": weights.digest,
        "backend": backend.name,
        "recipe": json.dumps({"build": backend.build, **backend.build_options}),
        "artifact sha256": artifact,
        "hardware class": " | ".join((hardware.cpu, "+".join(hardware.instruction_sets) or "none")),
        "dtype": job.dtype,
        "batch size": str(job.batch_size),
        **{f"column {name}": json.dumps(value) for name, value in dataclasses.asdict(job.columns).items()},
        "rows of a part": str(job.part_rows),
        **{f"{name} version": version for name, version in libraries.items()},
    }
