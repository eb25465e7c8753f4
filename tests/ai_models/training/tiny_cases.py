"""Cases small enough to be learned in a test: bright balls in noise, as NIfTI and as a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import yaml

from tests.ai_models.tiny_models import LUNG, STRUCTURE

EDGE = 24


def ball(seed: int, *, there: bool = True) -> tuple[Any, Any, float]:
    """HU and mask ``(EDGE, EDGE, EDGE)`` and the radius in voxels."""
    rng = np.random.default_rng(seed)
    radius = rng.uniform(4.0, 7.0)
    centre = rng.uniform(8, EDGE - 8, 3)
    distance = np.linalg.norm(np.indices((EDGE,) * 3).T - centre, axis=-1).T
    mask = (distance <= radius) & there
    hu = rng.normal(-800, 60, mask.shape) + 800.0 * mask
    return hu.round().astype(np.int16), mask.astype(np.uint8), float(radius)


def write_nifti(path: Path, array: Any) -> None:
    """Array ``(slices, rows, columns)`` with axes to S, P and L, 2 mm apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)


def nifti_folder(folder: Path, count: int) -> Path:
    for seed in range(count):
        hu, mask, _ = ball(seed)
        write_nifti(folder / "images" / f"case{seed}.nii.gz", hu)
        write_nifti(folder / "labels" / f"case{seed}.nii.gz", mask)
    return folder


def table(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path = folder / "cases.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def scored_table(folder: Path, count: int) -> Path:
    """Every second case has a ball; its radius is a quantity."""
    rows = []
    for seed in range(count):
        hu, _, radius = ball(seed, there=seed % 2 == 0)
        write_nifti(folder / f"case{seed}.nii.gz", hu)
        rows.append({"image": f"case{seed}.nii.gz", "patient": f"p{seed // 2 * 2}",
                     "there": 1 - seed % 2, "radius": radius * 2.0,
                     "sex": "FM"[seed % 3 == 0], "age": "067Y"})
    return table(folder, rows)


def recipe(path: Path, *, task: str = "segmentation", **training: Any) -> Path:
    """A recipe whose network learns a ball in seconds."""
    card: dict[str, Any] = {
        "id": "ball", "version": "0.1", "name": "Balls", "task": task, "intended_use": "tests",
        "demonstration": True, "manufacturer": "tests", "licence": "Apache-2.0",
        "input": {"modality": ["CT"], "axes": ["S", "P", "L"], "spacing_mm": [2.0, 2.0, 2.0],
                  "intensity": {"unit": "HU", "clip": [-1000, 200], "scale_to": [0, 1]}},
        "output": {}, "runtime": {"backend": "state_dict"}, "report": "structures",
    }
    label = {"value": 1, "name": "Ball", "category": STRUCTURE, "type": LUNG,
             "color_rgb": [255, 0, 0]}
    network: dict[str, Any] = {"name": "monai.UNet", "arguments": {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8],
        "strides": [2]}}
    if task == "segmentation":
        card["output"] = {"labels": [label]}
        card["runtime"]["roi"] = [16, 16, 16]
    elif task == "detection":
        card["output"] = {"labels": [label], "min_score": 0.1}
        card["runtime"]["roi"] = [24, 24, 24]
        network = {"name": "RetinaNet", "arguments": {
            "widths": [8, 8, 16], "levels": 1, "features": 8, "scales": [1],
            "anchors": [[10, 10, 10], [14, 14, 14]]}}
    else:
        del card["input"]["spacing_mm"]
        card["input"]["size"] = {"edges": [24, 24, 24], "fit": "pad"}
        network = {"name": "monai.DenseNet", "arguments": {
            "spatial_dims": 3, "in_channels": 1, "out_channels": 1, "init_features": 4,
            "growth_rate": 4, "block_config": [1, 1]}}
        if task == "classification":
            card["output"] = {"activation": "sigmoid", "channels": 1,
                              "scores": [{"name": "there", "channel": 0}]}
        else:
            card["output"] = {"quantities": [{"name": "radius", "unit": "mm", "factor": 10.0,
                                              "minimum": -100, "maximum": 100}]}
    card["runtime"]["network"] = network
    document = {"card": card, "training": {
        "steps": 40, "batch": 2, "rate": 0.01, "validate_every": 20, "checkpoint_every": 10,
        "augmentation": {"elastic_probability": 0.2}, **training}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
