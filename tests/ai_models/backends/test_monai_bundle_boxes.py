from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.spatial.array import Orientation, Spacing

from ai_models.backends.monai_bundle import MonaiBundleBackend
from ai_models.backends.monai_bundle_boxes import boxes_on_input
from ai_models.backends.protocol import NetworkInput
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.backends.folder_models import write_card, write_monai_bundle
from tests.ai_models.tiny_models import LUNG, STRUCTURE

# A detector that answers the box of all that is bright, as MONAI's own do: corners are the lowest
# index of a voxel less a half and the highest more a half, in index coordinates.
DETECTOR = """
import torch
class BoxOfBright:
    inferer = None
    target_box_key, target_label_key, pred_score_key = "box", "label", "label_scores"
    def __init__(self, network):
        self.network = network
    def eval(self):
        return self
    def __call__(self, images, use_inferer):
        bright = torch.nonzero(self.network(images[0][None])[0, 1] > 0).float()
        box = torch.cat([bright.min(0).values - 0.5, bright.max(0).values + 0.5])
        return [{"box": box[None], "label": torch.tensor([0]), "label_scores": torch.tensor([0.9])}]
"""


def block(low: tuple[int, int, int], high: tuple[int, int, int]) -> np.ndarray:
    array = np.full((1, 20, 24, 28), -500, dtype=np.float32)
    array[0, low[0]:high[0], low[1]:high[1], low[2]:high[2]] = 500
    return array


def detection_bundle(folder: Path) -> Path:
    changes: dict[str, object] = {
        "runtime__backend": "monai_bundle", "input__axes": ["R", "A", "S"], "task": "detection",
        "trust__config_exec": True, "trust__remote_code": True, "output": {"labels": [
            {"value": 1, "name": "Bright", "category": STRUCTURE, "type": LUNG,
             "color_rgb": [255, 0, 0]},
        ]},
    }
    write_monai_bundle(folder, configuration={
        "detector": {"_target_": "scripts.detector.BoxOfBright", "network": "@network_def"},
    }, **changes)
    (folder / "bundle" / "scripts").mkdir()
    (folder / "bundle" / "scripts" / "detector.py").write_text(DETECTOR)
    return write_card(folder, "bundle", **changes)


@pytest.mark.parametrize("columns", [
    np.diag([-2.0, -2.0, 2.0]),
    np.diag([2.0, -2.0, -2.0]),
    np.array([[0.0, 0, 2], [0, 2, 0], [2, 0, 0]]),
])
def test_a_box_comes_back_on_the_edges_of_the_voxels_of_the_input(
    tmp_path: Path, columns: np.ndarray
) -> None:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, (30, -20, 50)
    backend = MonaiBundleBackend(
        load_card(detection_bundle(tmp_path)), "cpu", Site(trusted_folders=(tmp_path,))
    )
    backend.load()
    low, high = (3, 8, 10), (9, 12, 25)
    boxes = backend.predict(NetworkInput(block(low, high), affine, (2.0, 2.0, 2.0))).boxes
    assert boxes is not None and boxes.dtype == np.float32
    assert np.allclose(boxes, [[*low, *high, 0.9, 1]], atol=1e-4)


def test_a_box_at_another_spacing_and_orientation_is_scaled_and_turned() -> None:
    affine = torch.diag(torch.tensor([-1.0, 1.0, -3.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.zeros(1, 20, 24, 12), affine=affine)
    prepared = Compose([Orientation("RAS"), Spacing((2.0, 2.0, 2.0))])(image)
    inverse = np.linalg.inv(prepared.affine.numpy()) @ affine.numpy()
    corners = [inverse[:3, :3] @ np.array(corner) + inverse[:3, 3]
               for corner in ([3.5, 4.5, 1.5], [9.5, 12.5, 5.5])]
    box = np.concatenate([np.min(corners, axis=0), np.max(corners, axis=0)])
    found = {"boxes": torch.tensor(box)[None], "labels": torch.tensor([2]),
             "scores": torch.tensor([0.5])}
    answer = boxes_on_input(found, prepared, image, first_label=1)
    assert np.allclose(answer, [[4, 5, 2, 10, 13, 6, 0.5, 2]], atol=1e-4)


def test_what_lies_outside_is_cut_off_and_what_is_wholly_outside_is_dropped() -> None:
    image = MetaTensor(torch.zeros(1, 8, 8, 8), affine=torch.eye(4))
    found = {
        "boxes": torch.tensor([[-4.0, 1, 1, 2, 3, 3], [20.0, 1, 1, 22, 3, 3]]),
        "labels": torch.tensor([0, 0]), "scores": torch.tensor([0.5, 0.6]),
    }
    answer = boxes_on_input(found, image, image, first_label=0)
    assert np.allclose(answer, [[0, 1.5, 1.5, 2.5, 3.5, 3.5, 0.5, 1]])


def test_nothing_found_is_no_box() -> None:
    image = MetaTensor(torch.zeros(1, 8, 8, 8), affine=torch.eye(4))
    found = {"boxes": torch.zeros(0, 6), "labels": torch.zeros(0), "scores": torch.zeros(0)}
    assert boxes_on_input(found, image, image, first_label=0).shape == (0, 8)


def test_boxes_of_other_dimensions_are_refused() -> None:
    image = MetaTensor(torch.zeros(1, 8, 8, 8), affine=torch.eye(4))
    found = {"boxes": torch.zeros(2, 4), "labels": torch.zeros(2), "scores": torch.zeros(2)}
    with pytest.raises(ModelError) as raised:
        boxes_on_input(found, image, image, first_label=0)
    assert raised.value.reason == "model.wrong_output"
