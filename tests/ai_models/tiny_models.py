"""Model folders small enough to be made in a test: networks whose answer is known beforehand."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml

LUNG = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
STRUCTURE = {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}
VALUES: dict[str, Any] = {
    "id": "bright",
    "version": "1.0",
    "name": "Bright things",
    "task": "segmentation",
    "intended_use": "tests",
    "demonstration": True,
    "manufacturer": "tests",
    "licence": "Apache-2.0",
    "evidence": {"validated_on": "nothing"},
    "input": {
        "modality": ["CT"],
        "axes": ["S", "P", "L"],
        "spacing_mm": [2.0, 2.0, 2.0],
        "intensity": {"unit": "HU", "clip": [-1000, 1000], "scale_to": [0, 1]},
    },
    "output": {
        "labels": [
            {"value": 1, "name": "Bright", "category": STRUCTURE, "type": LUNG,
             "color_rgb": [255, 0, 0]},
        ],
    },
    "weights": {"path": "weights.onnx", "sha256": "0" * 64, "licence": "none", "source": "test"},
    "runtime": {"backend": "onnx", "roi": [16, 16, 16], "overlap": 0.25, "batch": 2},
    "report": "lungs",
}


def card_values(**changes: object) -> dict[str, Any]:
    """A valid card; a change is named by its key path with double underscores."""
    values = copy.deepcopy(VALUES)
    for name, value in changes.items():
        *parents, key = name.split("__")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = value
    return values


def fitting(**changes: Any) -> dict[str, Any]:
    """Changes, and what must change with them: windows by task and kind, a program for a text."""
    if "runtime" in changes or "runtime__roi" in changes:
        return changes
    task, entry = changes.get("task", "segmentation"), changes.get("input", {})
    if task == "text":
        program = {"backend": "command", "command": {"run": ["program"]}}
        return {"runtime": program, "trust": {"program": True}, **changes}
    if task not in ("segmentation", "detection") or {"size", "input__size"} & {*entry, *changes}:
        return {"runtime__roi": None, **changes}
    is_image = changes.get("input__kind", entry.get("kind")) == "image"
    return {"runtime__roi": [16, 16] if is_image else [16, 16, 16], **changes}


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def card_text(values: object) -> str:
    """A card as YAML, without aliases, which cards must not have."""
    return yaml.dump(values, Dumper=_PlainDumper, sort_keys=False)


def write_model(folder: Path, weights: bytes, **changes: object) -> Path:
    """Write a model folder whose card has the right SHA-256 of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    values = card_values(weights__sha256=hashlib.sha256(weights).hexdigest())
    changed = card_values(**changes)
    if "weights__sha256" not in changes:
        changed["weights"]["sha256"] = values["weights"]["sha256"]
    (folder / changed["weights"]["path"]).write_bytes(weights)
    (folder / "model.yaml").write_text(card_text(changed))
    return folder


def threshold_onnx(
    threshold: float, *, channels: int = 2, gain: float = 40.0, batch: int | str = "batch",
    roi: tuple[int, int, int] = (16, 16, 16), convolutions: int = 0,
) -> bytes:
    """ONNX bytes: channel 0 answers 0, every other channel ``gain * (x - threshold)``.

    ``convolutions`` puts so many 3x3x3 layers with fixed weights before it, for a network whose
    answer depends on the neighbourhood (or simply takes long).
    """
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    nodes, constants, tensor = [], [], "image"
    for number in range(convolutions):
        weights = random.normal(0, 0.3, (1, 1, 3, 3, 3)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"k{number}"))
        nodes.append(helper.make_node(
            "Conv", [tensor, f"k{number}"], [f"t{number}"], pads=[1] * 6, kernel_shape=[3] * 3))
        tensor = f"t{number}"
    slope = np.full((channels, 1, 1, 1, 1), gain, dtype=np.float32)
    slope[0] = 0
    constants.append(numpy_helper.from_array(slope, "slope"))
    constants.append(numpy_helper.from_array(-slope.reshape(-1) * np.float32(threshold), "shift"))
    nodes.append(helper.make_node("Conv", [tensor, "slope", "shift"], ["logits"]))
    graph = helper.make_graph(
        nodes, "threshold",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, *roi])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, channels, *roi])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())
