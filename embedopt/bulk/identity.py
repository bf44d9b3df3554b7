"""All that the vectors of a job depend on, in words."""

import dataclasses
import importlib.metadata
import json
from pathlib import Path

from embedopt.bulk.job import EmbedderOptions, Job
from embedopt.bulk.manifest import Identity
from embedopt.bulk.progress import Progress
from embedopt.inference.artifacts.layout import MANIFEST
from embedopt.inference.artifacts.store import ArtifactStore, library_versions
from embedopt.inference.artifacts.weights import Weights, resolve_weights, sha256_of
from embedopt.inference.backend import Backend
from embedopt.inference.backends import get_backend
from embedopt.inference.hardware import replicas_and_threads, this_hardware
from embedopt.inference.saved_settings import tuned_in_both_modes


def open_artifact(options: EmbedderOptions, progress: Progress) -> tuple[Backend, Weights, Path]:
    """Return the backend, the weights, and the folder of the artifact, which is built if it is missing."""
    backend = get_backend(options.backend)
    weights = resolve_weights(options.model, options.revision, trust_remote_code=options.trust_remote_code)
    return backend, weights, ArtifactStore(options.cache_dir, progress.step).get(backend, weights)


def identity_of(job: Job, progress: Progress) -> Identity:
    """Return all that the output depends on except the inputs, in words."""
    backend, weights, folder = open_artifact(job.embedder, progress)
    hardware = this_hardware()
    libraries = {"embedopt": importlib.metadata.version("embedopt"), **library_versions(backend.packages)}
    return {
        "model": weights.name,
        "model sha256": weights.digest,
        "backend": backend.name,
        "recipe": json.dumps({"build": backend.build, **backend.build_options}),
        "artifact sha256": sha256_of(folder / MANIFEST) if backend.build else "none",
        "CPU": " | ".join((hardware.cpu, "+".join(hardware.instruction_sets) or "none")),
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
        **({"declared as": json.dumps(dict(row.open_options))} if row.project else {}),
    }
