"""ONNX Runtime on an exported graph whose one output is the embedding."""

from pathlib import Path

from embedopt.inference.encoder import FloatArray, IntArray
from embedopt.inference.pipeline import Pipeline, TextSettings
from embedopt.inference.spec import Backend
from embedopt.inference.threads import thread_count

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"


class OnnxForward:
    """One session. ``InferenceSession.run`` may be called from several threads."""

    def __init__(self, file: Path, session_config: dict[str, str], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        for name, value in session_config.items():
            options.add_session_config_entry(name, value)
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]

    def __call__(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """See :class:`embedopt.inference.pipeline.Forward`."""
        feeds = dict(zip(self._inputs, (ids, mask), strict=True))
        embeddings: FloatArray = self._session.run(None, feeds)[0]
        return embeddings


def load(backend: Backend, folder: Path) -> Pipeline:
    """Load an artifact of ``export.onnx_fp32`` or of a recipe made from it."""
    from tokenizers import Tokenizer

    session_config = {name: str(value) for name, value in backend.load_options.items()}
    return Pipeline(
        backend.name,
        Tokenizer.from_file(str(folder / TOKENIZER_FILE)),
        TextSettings.load(folder),
        OnnxForward(folder / MODEL_FILE, session_config, thread_count()),
    )
