"""ONNX Runtime on an exported graph whose one output is the embedding."""

from collections.abc import Mapping
from pathlib import Path

from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.pipeline import Pipeline
from embedopt.inference.spec import Backend, Mode
from embedopt.inference.threads import replicas_and_threads

MODEL_FILE = "model.onnx"


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

        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = threads
        disabled = [name for name in str(options.get("disabled_optimizers", "")).split(",") if name]
        for name, value in options.items():
            if name != "disabled_optimizers":
                session_options.add_session_config_entry(name, str(value))
        self._session = onnxruntime.InferenceSession(
            file,
            session_options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=disabled,
        )
        self._inputs = [value.name for value in self._session.get_inputs()]

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """See :class:`embedopt.inference.pipeline.Forward`."""
        feeds = dict(zip(self._inputs, (ids, mask), strict=True))
        embeddings: FloatArray = self._session.run(None, feeds)[0]
        return embeddings


def load(backend: Backend, folder: Path, mode: Mode) -> Pipeline:
    """Load an artifact of ``export.onnx_fp32`` or of a recipe made from it."""
    replicas, threads = replicas_and_threads(mode)
    forwards = [OnnxForward(folder / MODEL_FILE, backend.load_options, threads) for _ in range(replicas)]
    return Pipeline.of_artifact(backend, folder, forwards)
