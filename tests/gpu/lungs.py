"""The trained network of lungs-ct in every form that PyTorch has, and a chest to see it on."""

from __future__ import annotations

import hashlib
import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ai_models.array.phantom import chest_phantom
from ai_models.card import Card, load_card
from ai_models.networks.lung_unet import LungUNet
from ai_models.types import Volume
from bench.inference import MODEL, torch_weights

FORMS = ("state_dict", "torchscript", "torch_export")
_FILES = {"state_dict": "w.safetensors", "torchscript": "w.ts", "torch_export": "w.pt2"}


@lru_cache
def chest() -> Volume:
    """Small enough for the processor to answer as well."""
    phantom = chest_phantom(11, (60, 160, 160), (4.0, 2.2, 2.2))
    return Volume(phantom.volume_hu, phantom.affine_lps)


def network() -> LungUNet:
    """With its trained weights."""
    from safetensors.torch import load

    module = LungUNet()
    module.load_state_dict(load(torch_weights()))
    return module.eval()


@lru_cache
def _content(form: str) -> bytes:
    if form == "state_dict":
        return torch_weights()
    buffer, example = io.BytesIO(), torch.zeros(2, 1, 64, 112, 144)
    with warnings.catch_warnings(), torch.inference_mode(False):
        warnings.simplefilter("ignore")
        if form == "torchscript":
            torch.jit.save(torch.jit.trace(network(), example), buffer)
        else:
            shapes = ({0: torch.export.Dim("batch", min=1, max=8)},)
            torch.export.save(
                torch.export.export(network(), (example,), dynamic_shapes=shapes), buffer
            )
    return buffer.getvalue()


def write_lungs(folder: Path, form: str = "state_dict", **runtime: Any) -> Card:
    """A model folder of lungs-ct, run by torch; ``runtime`` changes that part of the card."""
    content, path = _content(form), _FILES[form]
    values = yaml.safe_load((MODEL / "model.yaml").read_text())
    values["weights"] |= {"path": path, "sha256": hashlib.sha256(content).hexdigest()}
    values["runtime"] |= {"backend": form, **runtime}
    if form == "state_dict":
        values["runtime"]["network"] = {"name": "LungUNet"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    (folder / "model.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return load_card(folder)


def differing(one: Any, other: Any) -> str:
    """How far two arrays are from each other, in words."""
    most = float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max())
    return f"at most {most:.2e}"
