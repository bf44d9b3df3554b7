"""ONNX Runtime, on an exported graph whose one output is the embedding."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from embedopt.inference.artifacts.layout import MODEL_FILE
from embedopt.inference.artifacts.store import disk_bytes
from embedopt.inference.backend import Backend, Settings
from embedopt.inference.encoder import FloatArray, IntArray

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

_DISABLED = "disabled_optimizers"
# Replicas that share a session share its memory arena: a buffer that one core has just written goes to
# another, and in about half of the processes a forward of all-MiniLM-L6-v2 takes 17 to 35 % longer. Larger
# models share one all the same: a copy of their packed weights for each core would take too much memory.
_SHARED_FROM_BYTES = 500_000_000


class OnnxForward:
    """One session on a graph.

    Args:
        file: the exported graph.
        options: session configuration entries by name; ``disabled_optimizers`` is a comma-separated list of
            graph optimisers to leave out.
        threads: number of threads that a call uses.
    """

    def __init__(self, file: Path, options: Settings, threads: int) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(
            file,
            session_options(options, threads),
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[name for name in str(options.get(_DISABLED, "")).split(",") if name],
        )

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """See :class:`embedopt.inference.replicas.Forward`."""
        embeddings: FloatArray = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return embeddings


def session_options(options: Settings, threads: int) -> "SessionOptions":
    """Return a session's options without ``disabled_optimizers``, an argument of the session itself."""
    import onnxruntime

    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = threads
    for name, value in options.items():
        if name != _DISABLED:
            session.add_session_config_entry(name, str(value))
    return session


def open_forwards(backend: Backend, folder: Path, replicas: int, threads: int) -> list[OnnxForward]:
    """Open an artifact of ``export.onnx_fp32``, or one that a recipe of ours made from it.

    Each replica has a session of its own; those of a large model share one, and so its weights. Each call
    runs on the thread that makes it.
    """
    assert replicas == 1 or threads == 1
    sessions = replicas if disk_bytes(folder) < _SHARED_FROM_BYTES else 1
    settings = (folder / MODEL_FILE, backend.open_options, threads)
    with ThreadPoolExecutor(sessions) as pool:
        opened = [*pool.map(lambda _: OnnxForward(*settings), range(sessions))]
    return opened * (replicas // sessions)
