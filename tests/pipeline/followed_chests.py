"""A drawn chest with bright balls of known volume, examined twice: another day, table and scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from ai_models.array.phantom import chest_phantom
from ai_models.array.phantom_canvas import Canvas
from tests.ai_models.tiny_models import STRUCTURE, threshold_onnx, write_model
from tests.dicom_samples import ct_series

BALL_HU, LUNG_HU = 2800.0, -850.0
PRESENT = date(2026, 3, 1)
NODULE = {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}


@dataclass(frozen=True)
class Ball:
    """Centre in mm of the drawn chest (x, y, z in LPS), and volume."""

    centre_mm: tuple[float, float, float]
    volume_ml: float

    @property
    def radius_mm(self) -> float:
        return float((3000 * self.volume_ml / (4 * np.pi)) ** (1 / 3))


def examination(
    balls: Sequence[Ball], days_before: int = 0, *, patient_id: str = "FOLLOWED",
    motion: npt.NDArray[np.float64] | None = None, shape: tuple[int, int, int] = (52, 112, 112),
    **attributes: Any,
) -> list[Dataset]:
    """A CT series of the chest with ``balls``; ``motion`` (4x4) moves the patient."""

    def paint(canvas: Canvas, _random: np.random.Generator, _labels: npt.NDArray[Any]) -> None:
        for one in balls:
            canvas.paint_capsule(one.centre_mm, one.centre_mm, one.radius_mm, BALL_HU)

    chest = chest_phantom(
        3, shape, (2.5, 2.8, 2.8), paint=paint, noise_hu=5.0, blur_px=0.0, nodules=0,
        lung_hu=LUNG_HU,
    )
    affine = chest.affine_lps if motion is None else motion @ chest.affine_lps
    along, down, across = (affine[:3, column] / np.linalg.norm(affine[:3, column])
                           for column in (2, 1, 0))
    day = (PRESENT - timedelta(days=days_before)).strftime("%Y%m%d")
    said = {
        "PatientID": patient_id, "StudyDate": day, "SeriesDate": day, "AcquisitionDate": day,
        "ContentDate": day, **attributes,
    }
    return ct_series(
        chest.volume_hu.shape, (2.5, 2.8, 2.8), tuple(np.concatenate([along, down]).tolist()),
        tuple(affine[:3, 3].tolist()), values_hu=chest.volume_hu,
        slice_step_mm=tuple((across * 2.5).tolist()), **said,
    )


def another_table() -> npt.NDArray[np.float64]:
    """A patient who lies a little differently, on a table that counts from elsewhere."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", (1.5, -2.0, 2.5), degrees=True).as_matrix()
    motion[:3, 3] = (12.0, -9.0, 60.0)
    return motion


def write_balls_model(folder: Path, **changes: Any) -> Path:
    """A model that finds the balls: whatever is brighter than halfway from lung to ball."""
    threshold = ((BALL_HU + LUNG_HU) / 2 + 1000) / 4000
    label = {"value": 1, "name": "Nodule", "category": STRUCTURE, "type": NODULE,
             "color_rgb": [255, 0, 0]}
    return write_model(
        folder, threshold_onnx(threshold, roi=(64, 64, 64)),
        **{
            "id": "balls", "version": "1.0", "input__intensity__clip": [-1000, 3000],
            "input__spacing_mm": [2.5, 2.8, 2.8], "output__labels": [label],
            "output__instances": True, "runtime__roi": [64, 64, 64], "report": "lung_nodules",
            **changes,
        },
    )
