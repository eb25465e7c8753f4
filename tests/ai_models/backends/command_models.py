"""Programs as models, small enough to be made in a test, each in a virtual environment."""

from __future__ import annotations

import copy
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from ai_models.backends.command import CommandBackend
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.weights import folder_sha256
from tests.ai_models.tiny_models import card_text, card_values

BEGIN = """
import json, os, sys, time
from pathlib import Path
source, target, device = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
told = json.loads((source / "input.json").read_text())
"""
BRIGHT = """
import nibabel, numpy as np
image = nibabel.load(source / "image-0.nii.gz")
labels = (image.get_fdata() > 0.5).astype(np.uint8)
nibabel.save(nibabel.Nifti1Image(labels, image.affine), target / "labels.nii.gz")
"""
TASKS: dict[str, dict[str, Any]] = {
    "classification": {
        "task": "classification",
        "output": {
            "activation": "none", "channels": 3,
            "scores": [{"name": "nodule", "channel": 0}, {"name": "effusion", "channel": 2}],
        },
    },
    "regression": {
        "task": "regression",
        "output": {"quantities": [
            {"name": "bone_age", "unit": "mo", "minimum": 0.0, "maximum": 240.0},
        ]},
    },
    "detection": {
        "task": "detection",
        "output": {"labels": card_values()["output"]["labels"]},
    },
    "text": {"task": "text", "output": {"prompt": "Describe it.", "max_tokens": 64}},
}


def make_environment(folder: Path) -> Path:
    """A virtual environment without pip that sees the packages of the tests; its Python."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60
    )
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "tests.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin/python"


def write_command(folder: Path, python: Path, body: str, **changes: object) -> Path:
    """A model folder whose program is ``BEGIN`` and then ``body``."""
    weights = folder / "weights"
    weights.mkdir(parents=True)
    (weights / "program.py").write_text(BEGIN + body)
    task = changes.pop("task", None)
    values = card_values(**{
        "weights__path": "weights", "weights__sha256": folder_sha256(weights),
        "trust__program": True, "runtime": {"backend": "command", "command": {
            "run": [str(python), "{folder}/weights/program.py", "{input}", "{output}", "{device}"],
        }},
        **copy.deepcopy(TASKS.get(str(task), {})), **changes,
    })
    (folder / "model.yaml").write_text(card_text(values))
    return folder


def open_command(folder: Path, device: str = "cpu") -> CommandBackend:
    """The loaded back-end of a trusted folder."""
    backend = CommandBackend(load_card(folder), device, Site(trusted_folders=(folder,)))
    backend.load()
    return backend
