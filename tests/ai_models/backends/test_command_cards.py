"""The cards of well-known programs, and their scripts, with stand-ins for the programs.

A stand-in answers as the package does (TotalSegmentator 2.18, lungmask 0.2.22), from the names that
the script gives it; what it knows of anatomy is a threshold.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from ai_models.backends.protocol import NetworkInput
from ai_models.card import load_card
from ai_models.weights import folder_sha256
from tests.ai_models.backends.command_models import make_environment, open_command
from tests.ai_models.tiny_models import card_text

ROOT = Path(__file__).parents[3]
AFFINE = np.array([[0, 0, 1.5, -90], [0, 1.5, 0, -80], [1.5, 0, 0, -300], [0, 0, 0, 1.0]])
TOTALSEGMENTATOR = {
    "totalsegmentator/__init__.py": "",
    "totalsegmentator/map_to_binary.py": """
class_map = {"total": dict(enumerate(
    ["lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right",
     "lung_middle_lobe_right", "lung_lower_lobe_right", "trachea", "spleen"], start=10))}
""",
    "totalsegmentator/python_api.py": """
import json, os
from pathlib import Path
import nibabel, numpy as np
from totalsegmentator.map_to_binary import class_map
def totalsegmentator(input, output=None, ml=False, task="total", roi_subset=None, device="gpu",
                     quiet=False, skip_saving=False):
    home = Path(os.environ["HOME"]) / ".totalsegmentator/config.json"
    assert json.loads(home.read_text())["send_usage_stats"] is False
    assert Path(os.environ["TOTALSEG_WEIGHTS_PATH"], "Dataset291").is_dir()
    assert ml and output is None and device == "cpu" and "spleen" not in roi_subset
    answer = np.zeros(input.shape, dtype=np.uint8)
    for number, name in class_map["total"].items():
        if name in roi_subset:
            answer[number] = number
    return nibabel.Nifti1Image(answer, input.affine)
""",
}
LUNGMASK = {
    "lungmask/__init__.py": """
import numpy as np
class LMInferer:
    def __init__(self, modelname="R231", modelpath=None, force_cpu=False, tqdm_disable=False):
        assert open(modelpath, "rb").read() == b"weights" and force_cpu
    def apply(self, image):
        assert image.dtype == np.float32 and image.min() < -900
        labels = np.zeros(image.shape, dtype=np.uint8)
        labels[:, :, :20], labels[:, :, 20:] = 1, 2   # columns grow from right to left
        return labels * (image < -500)
""",
}


def folder_of(card: str, tmp_path: Path, script: str, package: dict[str, str]) -> Path:
    folder = tmp_path / "model"
    python = make_environment(folder / "environment")
    (packages,) = python.parents[1].glob("lib/python3*/site-packages")
    for name, text in package.items():
        (packages / name).parent.mkdir(exist_ok=True)
        (packages / name).write_text(text)
    (folder / "weights/models/Dataset291").mkdir(parents=True)
    (folder / "weights/unet_r231-d5d2fc3d.pth").write_bytes(b"weights")
    shutil.copy(ROOT / "deploy/model-wrappers" / script, folder / "weights")
    values = yaml.safe_load((ROOT / "docs/cards" / card).read_text())
    values["weights"]["sha256"] = folder_sha256(folder / "weights")
    (folder / "model.yaml").write_text(card_text(values))
    return folder


def volume() -> NetworkInput:
    array = np.full((1, 20, 30, 40), -1000.0, dtype=np.float32)
    array[:, :, :10] = 40.0
    return NetworkInput(array, AFFINE, (1.5, 1.5, 1.5), -1024.0)


def test_totalsegmentator_gives_the_structures_of_the_card_and_reports_to_nobody(
    tmp_path: Path,
) -> None:
    folder = folder_of(
        "totalsegmentator.yaml", tmp_path, "run_totalsegmentator.py", TOTALSEGMENTATOR
    )
    label_map = open_command(folder).predict(volume()).label_map
    assert label_map is not None
    assert list(label_map[10:17, 0, 0]) == [4, 5, 1, 2, 3, 6, 0]
    open_command(folder).predict(volume())


def test_lungmask_gives_right_and_left(tmp_path: Path) -> None:
    folder = folder_of("lungmask.yaml", tmp_path, "run_lungmask.py", LUNGMASK)
    label_map = open_command(folder).predict(volume()).label_map
    assert label_map is not None
    assert list(label_map[5, 20, [0, 39]]) == [1, 2]
    assert label_map[5, 5, 0] == 0
    right = load_card(folder).labels[0]
    assert right.laterality is not None
    assert (right.value, right.laterality.meaning) == (1, "Right")


@pytest.mark.parametrize("name", ["totalsegmentator", "lungmask", "huggingface"])
def test_the_card_is_a_card(tmp_path: Path, name: str) -> None:
    shutil.copy(ROOT / "docs/cards" / f"{name}.yaml", tmp_path / "model.yaml")
    assert load_card(tmp_path).demonstration
