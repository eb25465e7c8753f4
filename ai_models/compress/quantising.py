"""ONNX files with fewer bits: weights of 16, weights and sums of 8.

By ONNX Runtime's own tools. Static quantisation learns the range of every tensor from inputs that
are shown to it; dynamic looks at each input anew, and does so for matrix products only.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ai_models.training.export import strip_origin
from ai_models.types import FloatArray, ModelError

_CONVOLUTIONS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_PRODUCTS = ("MatMul", "Gemm", "LSTM")


def to_fp16(source: Path, target: Path) -> None:
    """The same network with weights and sums of 16 bits; it takes and answers 32 as before."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    smaller = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
    onnx.save(smaller, str(target))
    strip_origin(target)


def to_int8_static(source: Path, target: Path, windows: Iterable[FloatArray]) -> None:
    """Convolutions and products in 8 bits, each channel of weights with a scale of its own.

    ``windows`` are inputs ``(batch, channels, *spatial)`` such as the network will see.

    Raises
    ------
    ModelError
        ``model.cannot_compress``: there is no input, or ONNX Runtime cannot quantise the file.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    _check_has(source, _CONVOLUTIONS, "int8-static")
    shown = list(windows)
    if not shown:
        raise ModelError("int8-static needs inputs to learn from", reason=_REASON)
    with tempfile.TemporaryDirectory(prefix="quantise-") as scratch:
        ready = _made_ready(source, Path(scratch))
        try:
            quantize_static(
                str(ready), str(target), _Shown(ready, shown), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_CONVOLUTIONS), per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            )
        except Exception as error:  # its tools raise what numpy, onnx and protobuf raise
            raise _cannot(error) from error
    strip_origin(target)


def to_int8_dynamic(source: Path, target: Path) -> None:
    """Matrix products and LSTM in 8 bits.

    Raises
    ------
    ModelError
        ``model.cannot_compress``: the network has none.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _check_has(source, _PRODUCTS, "int8-dynamic")
    with tempfile.TemporaryDirectory(prefix="quantise-") as scratch:
        ready = _made_ready(source, Path(scratch))
        try:
            quantize_dynamic(
                str(ready), str(target), op_types_to_quantize=list(_PRODUCTS), per_channel=True,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:  # its tools raise what numpy, onnx and protobuf raise
            raise _cannot(error) from error
    strip_origin(target)


def parameter_count(path: Path) -> int:
    """Numbers that the network learned: without scales and zero points of its quantisation."""
    count = 0
    for tensor in onnx.load(str(path)).graph.initializer:
        if tensor.name.endswith(("_scale", "_zero_point", "_scale_inverted")):
            continue
        # Shapes and indices are whole numbers of 64 bits.
        if tensor.data_type != onnx.TensorProto.INT64:
            count += int(np.prod(tensor.dims, dtype=np.int64))
    return count


class _Shown:
    """What ONNX Runtime asks for one input after the other."""

    def __init__(self, path: Path, windows: list[FloatArray]) -> None:
        self._name = onnx.load(str(path), load_external_data=False).graph.input[0].name
        self._rest: Iterator[FloatArray] = iter(windows)

    def get_next(self) -> dict[str, Any] | None:
        """The next input by its name; ``None`` behind the last."""
        window = next(self._rest, None)
        return None if window is None else {self._name: np.ascontiguousarray(window, np.float32)}

    def set_range(self, start_index: int, end_index: int) -> None:
        """Asked for where inputs are shown in parts: here they never are."""

    def __len__(self) -> int:
        return 1


def _made_ready(source: Path, scratch: Path) -> Path:
    """With shapes inferred and constants folded, as far as this file allows it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = scratch / "ready.onnx"
    logging.getLogger().setLevel(logging.ERROR)
    try:
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
    except Exception:  # noqa: BLE001 - of axes left open it may fail, with an error of any type
        return source
    return ready


def _check_has(source: Path, kinds: tuple[str, ...], variant: str) -> None:
    found = {node.op_type for node in onnx.load(str(source), load_external_data=False).graph.node}
    if not found & set(kinds):
        raise ModelError(
            f"{variant}: the network has none of {', '.join(kinds)}", reason=_REASON
        )


def _cannot(error: Exception) -> ModelError:
    said = " ".join(str(error).split())[:300]
    return ModelError(f"ONNX Runtime cannot quantise the network: {said}", reason=_REASON)


_REASON = "model.cannot_compress"
