"""A network of PyTorch as an ONNX file that takes what its card gives."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from ai_models.backends.signature import input_shape
from ai_models.card import Card, ClassificationCard, DetectionCard
from ai_models.training.export import INPUT_NAME, OPSET, OUTPUT_NAME, strip_origin
from ai_models.types import ModelError

# Of an axis that the card leaves open: in the example, and at most.
_OPEN, _MOST = 32, 4096
_MOST_AT_ONCE = 64


def export(network: nn.Module, card: Card, path: Path) -> None:
    """Write ``path``; axes that the card leaves open stay open, and so does the batch.

    Raises
    ------
    ModelError
        ``model.cannot_compress``: this network cannot be exported.
    """
    if isinstance(card, DetectionCard):
        raise ModelError(
            "the boxes of a detector are chosen by a program around the network, which is not "
            "exported", reason="model.cannot_compress",
        )
    is_sequence = isinstance(card, ClassificationCard) and card.output.per == "sequence"
    shape = input_shape(card)
    edges = [length or (_OPEN if place else 2) for place, length in enumerate(shape)]
    # A sequence is one input: its slices would be taken for a batch otherwise.
    example = torch.rand(
        1 if is_sequence else 2, *edges, generator=torch.Generator().manual_seed(0)
    )
    open_axes: dict[int, object] = {
        place + 1: torch.export.Dim(f"edge{place}", min=2, max=_MOST)
        for place, length in enumerate(shape) if length is None
    }
    if not is_sequence:
        open_axes[0] = torch.export.Dim("batch", min=1, max=_MOST_AT_ONCE)
    # fp32, whatever the network was left in.
    network = network.to("cpu", torch.float32).eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network, (example,), dynamo=True, opset_version=OPSET, input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME], dynamic_shapes=(open_axes,), verbose=False,
            )
        if program is None:
            raise RuntimeError("no program came of it")
        program.save(str(path), external_data=False)
    except Exception as error:  # the exporter raises what its many parts raise
        said = " ".join(str(error).split())[:300]
        raise ModelError(
            f"the network cannot be exported: {said}", reason="model.cannot_compress"
        ) from error
    strip_origin(path)
