"""What ONNX Runtime answers of an exported network."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch


def by_onnx_runtime(network: torch.nn.Module, image: torch.Tensor, folder: Path) -> np.ndarray:
    """Export to ``folder`` with the shape of ``image``, and run that on ``image``."""
    import onnxruntime

    path = folder / "network.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image,), str(path), dynamo=True, opset_version=20, input_names=["image"],
            output_names=["logits"], external_data=False, verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(None, {"image": image.numpy()})[0]
    return answer
