"""ONNX to INT8: one function a recipe, each from one artifact's folder to another's."""

import shutil
from pathlib import Path

from embedopt.inference.artifacts import MANIFEST
from embedopt.inference.encoders.onnxruntime import MODEL_FILE
from embedopt.inference.export import quiet


def dynamic_int8(source: Path, target: Path, *, per_channel: bool) -> None:
    """Quantise weights to signed 8 bits now and activations to unsigned 8 bits at run time.

    Activations share one scale per tensor, so an embedding depends on its batch mates.

    Args:
        source: an artifact of ``export.onnx_fp32``.
        target: an empty folder.
        per_channel: one weight scale for each output channel instead of one for the matrix.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _copy_all_but_the_graph(source, target)
    with quiet():
        quantize_dynamic(
            source / MODEL_FILE, target / MODEL_FILE, weight_type=QuantType.QInt8, per_channel=per_channel
        )


def blockwise_int8(source: Path, target: Path, *, block_size: int) -> None:
    """Quantise weights and, in the kernel, activations to 8 bits with a scale for each block of a row.

    A row's scales depend on that row alone, so an embedding is the same in any batch.
    """
    import onnx

    _copy_all_but_the_graph(source, target)
    with quiet():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        # Accuracy level 4 is the kernel that multiplies in int8.
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source / MODEL_FILE), bits=8, block_size=block_size, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(target / MODEL_FILE))


def sentence_transformers_int8(source: Path, target: Path, *, quantization_config: str) -> None:
    """Quantise with sentence-transformers' own function, as its users do."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend import export_dynamic_quantized_onnx_model

    with quiet():
        model_kwargs = {"file_name": "onnx/model.onnx", "provider": "CPUExecutionProvider"}
        model = SentenceTransformer(str(source), device="cpu", backend="onnx", model_kwargs=model_kwargs)
        export_dynamic_quantized_onnx_model(model, quantization_config, str(target))
    _copy_all_but_the_graph(source, target)


def _copy_all_but_the_graph(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.onnx", MANIFEST), dirs_exist_ok=True)
