"""What is to be encoded, into which folder and how, and all that its vectors depend on."""

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass, field
from pathlib import Path

from embedopt.bulk.embedder import EmbedderOptions
from embedopt.bulk.manifest import Identity
from embedopt.bulk.progress import Progress
from embedopt.bulk.readers import CHUNK_ROWS, Columns
from embedopt.bulk.sources import PART_ROWS
from embedopt.inference.artifacts.layout import MANIFEST
from embedopt.inference.artifacts.store import ArtifactStore, library_versions
from embedopt.inference.artifacts.weights import Weights, resolve_weights, sha256_of
from embedopt.inference.backend import Backend
from embedopt.inference.backends import get_backend
from embedopt.inference.hardware import replicas_and_threads, this_hardware
from embedopt.inference.saved_settings import tuned_in_both_modes


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be encoded, into which folder and how.

    Attributes:
        inputs: files, folders and patterns.
        output: folder of the Parquet files.
        columns: columns that are read.
        embedder: how texts become embeddings.
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
    embedder: EmbedderOptions = field(default_factory=EmbedderOptions)
    skip_bad_rows: bool = False
    force: bool = False
    mixed: bool = False
    ray: str | None = None
    part_rows: int = PART_ROWS
    chunk_rows: int = CHUNK_ROWS

    def open_artifact(self, progress: Progress) -> tuple[Backend, Weights, Path]:
        """Return the backend, the weights, and the folder of the artifact, which is built if need be."""
        options = self.embedder
        backend = get_backend(options.backend)
        weights = resolve_weights(
            options.model, options.revision, trust_remote_code=options.trust_remote_code
        )
        return backend, weights, ArtifactStore(options.cache_dir, progress.step).get(backend, weights)


def identity_of(job: Job, progress: Progress) -> Identity:
    """Return all that the vectors and the layout of the output depend on but for the inputs, in words."""
    backend, weights, folder = job.open_artifact(progress)
    hardware = this_hardware()
    libraries = {"embedopt": importlib.metadata.version("embedopt"), **library_versions(backend.packages)}
    return {
        "model": weights.name,
        "model sha256": weights.digest,
        "backend": backend.name,
        "recipe": json.dumps({"build": backend.build, **backend.build_options}),
        "artifact sha256": sha256_of(folder / MANIFEST) if backend.build else "none",
        "hardware class": " | ".join((hardware.cpu, "+".join(hardware.instruction_sets) or "none")),
        "dtype": job.embedder.dtype,
        "batch size": str(job.embedder.batch_size),
        **({} if job.embedder.prompt is None else {"prompt": json.dumps(job.embedder.prompt)}),
        **({} if backend.is_batch_invariant else _batches(job, backend, weights)),
        **{f"column {name}": json.dumps(value) for name, value in dataclasses.asdict(job.columns).items()},
        "rows of a part": str(job.part_rows),
        **{f"{name} version": version for name, version in libraries.items()},
    }


def _batches(job: Job, backend: Backend, weights: Weights) -> Identity:
    """Return all that decides which texts share a batch."""
    row = tuned_in_both_modes(backend, weights, job.embedder.cache_dir)
    return {
        "replicas": str(1 if job.ray else replicas_and_threads("throughput")[0]),
        "tokens of a batch": str(row.in_mode("throughput").batch_tokens),
        "rows of a chunk": str(job.chunk_rows),
    }
