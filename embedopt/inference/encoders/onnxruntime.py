"""ONNX Runtime on an exported graph whose one output is the embedding."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from embedopt.inference.backends import Backend, Mode
from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.pipeline import Pipeline
from embedopt.inference.threads import replicas_and_threads

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

MODEL_FILE = "model.onnx"
_DISABLED = "disabled_optimizers"


class OnnxForward:
    """One session.

    Args:
        file: the exported graph.
        options: session configuration entries by name; ``disabled_optimizers`` is a comma-separated list of
            graph optimisers to leave out.
        threads: that one call uses.
    """

    def __init__(self, file: Path, options: Mapping[str, str | int | bool], threads: int) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(
            file,
            session_options(options, threads),
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[name for name in str(options.get(_DISABLED, "")).split(",") if name],
        )
        self._inputs = [value.name for value in self._session.get_inputs()]

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """See :class:`embedopt.inference.pipeline.Forward`."""
        feeds = dict(zip(self._inputs, (ids, mask), strict=True))
        embeddings: FloatArray = self._session.run(None, feeds)[0]
        return embeddings


def session_options(options: Mapping[str, str | int | bool], threads: int) -> "SessionOptions":
    """Return the options of a session but for ``disabled_optimizers``, which the session itself takes."""
    import onnxruntime

    found = onnxruntime.SessionOptions()
    found.intra_op_num_threads = threads
    for name, value in options.items():
        if name != _DISABLED:
            found.add_session_config_entry(name, str(value))
    return found


def load(backend: Backend, folder: Path, mode: Mode) -> Pipeline:
    """Load an artifact of ``export.onnx_fp32`` or of a recipe made from it."""
    replicas, threads = replicas_and_threads(mode)
    forwards = [OnnxForward(folder / MODEL_FILE, backend.load_options, threads) for _ in range(replicas)]
    return Pipeline.of_artifact(backend, folder, forwards)
