"""A MeshNet of TensorFlow.js as a model folder: ``python -m ai_models.training.import_meshnet``.

Reads a layers model (``model.json`` and one binary file of little-endian float32) of Conv3D and
activation layers, and writes ``weights.safetensors`` and a ``model.yaml`` whose labels are those of
a colour table (``labels``, ``R``, ``G``, ``B``; the first is the background). The card it writes is
for T1-weighted MR at 1 mm, 256 voxels on every edge, index axes to Left, Inferior and Anterior.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.torch import save as save_safetensors

from ai_models.card import CARD_NAME
from ai_models.networks.meshnet import MeshNet
from ai_models.training.brain_structures import structure

_EDGE = 256


def read_layers_model(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Arguments of `MeshNet` and its ``state_dict``.

    Raises
    ------
    ValueError
        The file is no chain of convolutions and activations that `MeshNet` can be.
    """
    document = json.loads(path.read_text())
    group, = document["weightsManifest"]
    content = b"".join((path.parent / name).read_bytes() for name in group["paths"])
    values = np.frombuffer(content, "<f4")
    stored: dict[str, npt.NDArray[np.float32]] = {}
    start = 0
    for entry in group["weights"]:
        if entry["dtype"] != "float32":
            raise ValueError(f"{entry['name']} is {entry['dtype']}, float32 expected")
        size = int(np.prod(entry["shape"]))
        stored[entry["name"]] = values[start : start + size].reshape(entry["shape"])
        start += size
    if start != len(values):
        raise ValueError(f"{len(values) - start} values are left over")
    layers = document["modelTopology"]["model_config"]["config"]["layers"]
    convolutions = [one["config"] for one in layers if one["class_name"] == "Conv3D"]
    activations = {
        one["config"]["activation"] for one in layers if one["class_name"] == "Activation"
    }
    others = {one["class_name"] for one in layers} - {"InputLayer", "Conv3D", "Activation"}
    if others or len(activations) != 1:
        raise ValueError(f"layers {sorted(others)}, activations {sorted(activations)}")
    return _arguments(convolutions, activations.pop()), _state(convolutions, stored)


def _arguments(convolutions: list[dict[str, Any]], activation: str) -> dict[str, Any]:
    *hidden, last = convolutions
    return {
        "in_channels": 1,
        "channels": hidden[0]["filters"],
        "classes": last["filters"],
        "dilations": [one["dilation_rate"][0] for one in hidden],
        "activation": activation,
        "normalised": hidden[0]["name"].endswith("_gn"),
    }


def _state(
    convolutions: list[dict[str, Any]], stored: dict[str, npt.NDArray[np.float32]]
) -> dict[str, torch.Tensor]:
    state = {}
    step = 3 if convolutions[0]["name"].endswith("_gn") else 2
    for position, one in enumerate(convolutions):
        # (k, k, k, in, out) to (out, in, k, k, k)
        kernel = stored[f"{one['name']}/kernel"].transpose(4, 3, 0, 1, 2)
        name = f"layers.{position * step}"
        state[f"{name}.weight"] = torch.from_numpy(np.array(kernel, order="C"))
        bias = stored.get(f"{one['name']}/bias")
        # A bias before a normalisation by channel would change nothing, and may be left out.
        state[f"{name}.bias"] = (
            torch.zeros(kernel.shape[0]) if bias is None else torch.from_numpy(bias.copy())
        )
    return state


def write_model(
    source: Path, colours: Path, folder: Path, *, model_id: str, quantiles: tuple[float, float]
) -> Path:
    """Write weights and card to ``folder``; returns the folder.

    ``quantiles`` (0 to 100) are the intensities that become 0 and 1.

    Raises
    ------
    ValueError
        As `read_layers_model`; or the colour table does not fit.
    """
    arguments, state = read_layers_model(source)
    network = MeshNet(**arguments)
    network.load_state_dict(state, strict=True)
    table = json.loads(colours.read_text())
    if len(table["labels"]) != arguments["classes"]:
        raise ValueError(f"{len(table['labels'])} labels for {arguments['classes']} classes")
    content = save_safetensors(state)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(content)
    card = _card(arguments, table, hashlib.sha256(content).hexdigest(), model_id, quantiles)
    (folder / CARD_NAME).write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True))
    return folder


def _card(
    arguments: dict[str, Any], table: dict[str, Any], sha256: str, model_id: str,
    quantiles: tuple[float, float],
) -> dict[str, Any]:
    return {
        "id": model_id,
        "version": "1.0.0",
        "name": f"MeshNet, {arguments['classes']} classes",
        "task": "segmentation",
        "intended_use": "Research on T1-weighted MR of adult heads. Not for diagnosis.",
        "demonstration": True,
        "manufacturer": "brainchop",
        "licence": "MIT",
        "evidence": {"validated_on": "not validated by this node"},
        "input": {
            "modality": ["MR"],
            "body_part": ["HEAD", "BRAIN"],
            "min_slices": 40,
            "axes": ["L", "I", "A"],
            "spacing_mm": [1.0, 1.0, 1.0],
            "size": {"edges": [_EDGE] * 3, "fit": "crop"},
            "intensity": {
                "unit": "arbitrary", "clip_percentiles": list(quantiles), "scale_to": [0.0, 1.0],
            },
        },
        "output": {
            "activation": "softmax",
            "labels": [
                _label(value, name, [table[one][value] for one in "RGB"])
                for value, name in enumerate(table["labels"]) if value
            ],
        },
        "weights": {
            "path": "weights.safetensors", "sha256": sha256, "licence": "MIT",
            "source": "github.com/neuroneural/brainchop, converted from TensorFlow.js",
        },
        "runtime": {
            "backend": "state_dict",
            "network": {"name": "MeshNet", "arguments": arguments},
            "deadline_s": 1800.0,
        },
        "report": "structures",
    }


def _label(value: int, name: str, colour: list[int]) -> dict[str, Any]:
    code = structure(name)
    return {
        "value": value,
        "name": name.replace("-", " "),
        "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
        "type": {"value": code.value, "scheme": code.scheme, "meaning": code.meaning},
        # Black is no colour on a black image.
        "color_rgb": [max(1, channel) for channel in colour],
    }


def main() -> None:
    """Convert one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", type=Path, help="model.json")
    parser.add_argument("colours", type=Path, help="colormap.json")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--id", default="brain-structures")
    parser.add_argument("--quantiles", nargs=2, type=float, default=(0.0, 99.9))
    options = parser.parse_args()
    low, high = options.quantiles
    write_model(
        options.model, options.colours, options.folder, model_id=options.id, quantiles=(low, high)
    )
    print(options.folder)


if __name__ == "__main__":
    main()
