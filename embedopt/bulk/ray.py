"""The parts of a job on a Ray cluster: each actor encodes whole parts, this process notes what is done.

When an actor dies, Ray gives its part to another actor, which writes the same file: no text is lost or
doubled, and the order in which parts end does not matter. Only the numbers of parts travel: the actors read
texts and write vectors on storage that all nodes share. There is no read task, so actors may take all CPUs.
"""

import dataclasses
import io
import itertools
import logging
import os
import socket
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedopt.bulk.identity import identity_of, open_artifact
from embedopt.bulk.job import Job
from embedopt.bulk.manifest import DonePart, Identity, Manifest
from embedopt.bulk.part_encoder import PartEncoder, read_chunks
from embedopt.bulk.progress import Progress
from embedopt.bulk.sources import Part
from embedopt.errors import EmbedoptError, OutputError, UsageError, first_line
from embedopt.inference.artifacts.store import cache_root
from embedopt.inference.backend import Backend
from embedopt.inference.backends import declare, declared
from embedopt.inference.hardware import thread_count, usable_cores
from embedopt.schema import from_json, to_json

LOCAL = "local"
_CONNECT_S = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What each actor gets.

    Attributes:
        job: the job, with absolute paths for output and model.
        parts: the parts that are to be encoded.
        declared: rows that the project declares.
        carried: the columns that the output takes over from the input.
        identity: all that the vectors depend on, where the job was started.
        artifact: name and content of the artifact's folder, packed; None where the backend has none.
    """

    job: Job
    parts: Sequence[Part]
    declared: Sequence[Backend] = ()
    carried: pa.Schema
    identity: Identity
    artifact: tuple[str, bytes] | None


class Actor:
    """Encodes parts by their number, for Ray Data's ``map_batches``.

    An error of embedopt is returned in a row, since Ray would wrap one that is raised.
    """

    def __init__(self, work: Work) -> None:
        # Ray sets OMP_NUM_THREADS to the actor's CPUs; the tokenizer's threads have a variable of their own.
        os.environ["RAYON_NUM_THREADS"] = str(thread_count())
        self._work, self._encoder = work, None
        self._error = ""
        try:
            self._encoder = self._open()
        except EmbedoptError as error:
            self._error = str(error)

    def _open(self) -> PartEncoder:
        work, progress = self._work, Progress()
        declare(work.declared)
        if work.artifact is not None:
            unpack(*work.artifact, cache_root(work.job.embedder.cache_dir) / "artifacts")
        own = identity_of(work.job, progress)
        if not work.job.mixed and own != work.identity:
            differences = [
                f"{name} {own.get(name, 'none')}, not {value}"
                for name, value in work.identity.items()
                if own.get(name) != value
            ]
            raise OutputError(
                f"a node of the cluster would make other vectors: it has {'; '.join(differences)}; wanted "
                "the same on all nodes: make them alike, or add --mixed"
            )
        return PartEncoder(work.job, work.carried, own, progress)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Encode the parts whose numbers are in the column ``item``."""
        rows = [self._encode(self._work.parts[int(index)]) for index in batch["item"]]
        return {"done": [done for done, _ in rows], "error": [error for _, error in rows]}

    def _encode(self, part: Part) -> tuple[dict[str, Any], str]:
        if self._encoder is None:
            return {}, self._error
        columns, size = self._work.job.columns, self._work.job.chunk_rows
        chunks = itertools.islice(read_chunks(part.source, columns, part.start, size), -(-part.rows // size))
        try:
            return to_json(self._encoder.encode(part, chunks)), ""
        except EmbedoptError as error:
            return {}, str(error)


def encode_on_ray(
    address: str, job: Job, manifest: Manifest, todo: Sequence[Part], carried: pa.Schema, progress: Progress
) -> tuple[float, int]:
    """Encode parts on a cluster, one actor for each of its CPUs; return the seconds and the machines.

    Args:
        address: address of a running cluster, or ``local`` for one on this machine's cores.
        job: the job; its inputs, output and model are on storage that all nodes share.
        manifest: the manifest of the output folder.
        todo: the parts.
        carried: the columns that the output takes over from the input.
        progress: what shows the rows that are done.

    Raises:
        UsageError: there is no cluster at the address, or none can be started.
        EmbedoptError: an actor can't open the backend or encode a part.
    """
    import ray

    progress.step(f"starting Ray ({address})")
    work = Work(
        job=absolute_job(job),
        parts=[_absolute(part) for part in todo],
        declared=declared(),
        carried=carried,
        identity=manifest.identity,
        artifact=_packed_artifact(job, progress),
    )
    _connect(address)
    machines = sum(node["Alive"] for node in ray.nodes())
    started_s = time.monotonic()
    try:
        for row in _results(work):
            if row["error"]:
                raise EmbedoptError(row["error"])
            done = from_json(DonePart, row["done"])
            manifest.add(done)
            progress.step(done.part)
            progress.advance(done.rows + done.rejected)
    finally:
        ray.shutdown()
    return time.monotonic() - started_s, machines


def _connect(address: str) -> None:
    import ray

    # Ray shows only those of its messages that the user can act on.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"num_cpus": usable_cores(), "include_dashboard": False}
    try:
        _check_reachable(address)
        ray.init(address=address, **options)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        if address == LOCAL:
            raise UsageError(
                f"--ray {LOCAL}: Ray does not start on this machine: {first_line(error)}; wanted a "
                "machine that it can start on: mend the cause, or leave --ray out"
            ) from None
        raise UsageError(
            f"--ray {address}: no cluster answers ({first_line(error)}); wanted local or an address such as "
            "head:6379: start one with ray start --head"
        ) from None


def _check_reachable(address: str) -> None:
    """Raise OSError at once where nothing listens at ``HOST:PORT``; Ray would wait for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()


def _results(work: Work) -> Any:
    """Return the rows of the actors as they come."""
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    actors = min(int(ray.cluster_resources().get("CPU", 1)), len(work.parts))
    pool = ray.data.ActorPoolStrategy(
        min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=1
    )
    numbers = ray.data.from_items(list(range(len(work.parts))), override_num_blocks=len(work.parts))
    encoded = numbers.map_batches(
        Actor, fn_constructor_args=(work,), batch_size=1, batch_format="numpy", compute=pool, num_cpus=1
    )
    return encoded.iter_rows()


def absolute_job(job: Job) -> Job:
    """Return a job whose output, and model where it is a folder, have absolute paths."""
    model, folder = job.embedder.model, Path(job.embedder.model or "").expanduser()
    model = str(folder.absolute()) if model and folder.is_dir() else model
    embedder = dataclasses.replace(job.embedder, model=model)
    return dataclasses.replace(job, output=job.output.absolute(), embedder=embedder)


def _absolute(part: Part) -> Part:
    return dataclasses.replace(
        part, source=dataclasses.replace(part.source, path=part.source.path.absolute())
    )


def _packed_artifact(job: Job, progress: Progress) -> tuple[str, bytes] | None:
    """Return name and content of the artifact's folder."""
    backend, _, folder = open_artifact(job.embedder, progress)
    if backend.build is None:
        return None
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", strict_timestamps=False) as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    return folder.name, stream.getvalue()


def unpack(name: str, content: bytes, root: Path) -> None:
    """Put a packed artifact into a cache that does not have it; opening it checks its files."""
    folder, temporary = root / name, root / f"{name}.{os.getpid()}.tmp"
    if folder.exists():
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:  # names that leave the folder are cut
        archive.extractall(temporary)
    try:
        temporary.rename(folder)
    except OSError:  # another actor of the node was first
        if not folder.exists():
            raise
