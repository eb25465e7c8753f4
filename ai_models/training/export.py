"""ONNX export of a trained network, with its parity to PyTorch and its SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

OPSET = 20
INPUT_NAME, OUTPUT_NAME = "image", "logits"


def export_onnx(
    network: nn.Module, roi: Sequence[int], path: Path, channels: int = 1
) -> dict[str, object]:
    """Write ``path`` with a dynamic batch of windows ``(batch, channels, *roi)`` and check it.

    Returns the SHA-256, the size in bytes and the largest difference to PyTorch, in logits and in
    voxels whose class differs, on a random image.
    """
    network = (
        network.float()
        .eval()
        .to(  # type: ignore[call-overload]
            memory_format=torch.contiguous_format
        )
    )
    example = torch.rand(2, channels, *roi, generator=torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(str(path), external_data=False)
    strip_origin(path)
    return _parity(network, example, path) | {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size_bytes": path.stat().st_size,
        "opset": OPSET,
        "input": INPUT_NAME,
        "output": OUTPUT_NAME,
    }


def strip_origin(path: Path) -> None:
    """Remove what the exporter notes about where it ran: stack traces with paths of the machine."""
    import onnx

    model = onnx.load(str(path))
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info,
                 *graph.initializer, *model.functions):  # fmt: skip
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
    onnx.save(model, str(path))


def _parity(network: nn.Module, example: torch.Tensor, path: Path) -> dict[str, object]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: example.numpy()})[0])
    with torch.inference_mode():
        expected = network(example).numpy()
    return {
        "largest_logit_difference": float(np.abs(found - expected).max()),
        "voxels_of_another_class": int((found.argmax(1) != expected.argmax(1)).sum()),
    }
