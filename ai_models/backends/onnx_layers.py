"""An ONNX file that shows one of its layers: one more output, for ``monitor.layer`` of its card."""

from __future__ import annotations

import importlib
from typing import Any

from ai_models.types import ModelError


def layers_of(content: bytes) -> tuple[str, ...]:
    """Names of all tensors that are computed in an ONNX file, in the order of its nodes."""
    model = _read(content)
    return tuple(name for node in model.graph.node for name in node.output if name)


def with_output(content: bytes, layer: str) -> bytes:
    """The same network with this tensor as its last output; other bytes, so another SHA-256.

    Raises
    ------
    ModelError
        ``model.wrong_layer``: there is no such tensor; ``model.load_failed``;
        ``model.backend_missing``: the onnx package is not installed.
    """
    model = _read(content)
    if any(one.name == layer for one in model.graph.output):
        return content
    computed = [name for node in model.graph.node for name in node.output if name]
    if layer not in computed:
        raise ModelError(
            f"no tensor {layer}; there are {', '.join(computed[-12:])}", reason="model.wrong_layer"
        )
    model.graph.output.append(_onnx().ValueInfoProto(name=layer))
    changed: bytes = model.SerializeToString()
    return changed


def _read(content: bytes) -> Any:
    try:
        return _onnx().load_from_string(content)
    except ModelError:
        raise
    except Exception as error:  # protobuf has its own types for what is no such file
        raise ModelError(f"no ONNX file: {error}", reason="model.load_failed") from error


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ModelError(
            "the onnx package is not installed", reason="model.backend_missing"
        ) from error
