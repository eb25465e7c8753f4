"""Training data of the lung network: cached phantoms and the CT series that a folder offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.array.lungs_reference import lungs_reference, to_canonical
from ai_models.array.phantom import chest_phantom, random_variation
from ai_models.array.resample import Regridding, plan_regridding, to_model_grid

SPACING_MM = 2.5
AXES = ("S", "P", "L")
PHANTOM_SHAPE = (128, 168, 168)
LOW_HU, HIGH_HU = -1024.0, 600.0

FloatArray = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]
LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RealCT:
    """One CT that may be used: where it lies, what it is for, and under which licence."""

    name: str
    pattern: str
    use: str
    licence: str
    source: str


_TOTALSEGMENTATOR = "series/ct_totalsegmentator/tests/reference_files/"
_TS_SOURCE = "TotalSegmentator test files (Wasserthal et al., Radiology AI 2023)"
REAL_CTS = (
    RealCT(
        "rider-pilot",
        "series/ct_chest_rider_pilot/*.dcm",
        "training",
        "CC BY 3.0",
        "RIDER Pilot, The Cancer Imaging Archive (Clark et al., J Digit Imaging 2013)",
    ),
    RealCT(
        "ts-aorta",
        _TOTALSEGMENTATOR + "aorta_report/test_result/models/ct_cropped.nii.gz",
        "training",
        "Apache-2.0",
        _TS_SOURCE,
    ),
    RealCT(
        "ts-pulmonary",
        _TOTALSEGMENTATOR + "pulmonary_report/models/ct_cropped.nii.gz",
        "training",
        "Apache-2.0",
        _TS_SOURCE,
    ),
    RealCT(
        "ts-example",
        _TOTALSEGMENTATOR + "example_ct.nii.gz",
        "training",
        "Apache-2.0",
        _TS_SOURCE,
    ),
    RealCT(
        "lungmask-slice",
        "dicom/lungmask/tests/testdata/0.dcm",
        "held out",
        "Apache-2.0",
        "lungmask test data (Hofmanninger et al., Eur Radiol Exp 2020)",
    ),
)


def read_ct(root: Path, ct: RealCT) -> tuple[npt.NDArray[np.int16], Affine] | None:
    """Volume in HU ``(slices, rows, columns)`` and its LPS affine; None where it is absent."""
    paths = sorted(root.glob(ct.pattern))
    if not paths:
        return None
    return _read_nifti(paths[0]) if paths[0].name.endswith(".nii.gz") else _read_dicom(paths)


def _read_nifti(path: Path) -> tuple[npt.NDArray[np.int16], Affine]:
    import nibabel

    image: Any = nibabel.load(path)
    array = np.rint(np.asarray(image.dataobj, dtype=np.float32)).astype(np.int16)
    affine_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    return np.ascontiguousarray(array.transpose(2, 1, 0)), affine_lps[:, [2, 1, 0, 3]]


def _read_dicom(paths: list[Path]) -> tuple[npt.NDArray[np.int16], Affine]:
    import pydicom

    slices = [pydicom.dcmread(path, force=True) for path in paths]
    slices.sort(key=lambda item: float(item.ImagePositionPatient[2]))
    planes = [
        s.pixel_array.astype(np.float32) * float(s.RescaleSlope) + float(s.RescaleIntercept)
        for s in slices
    ]
    first = slices[0]
    across, down = np.array(first.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    start = np.array(first.ImagePositionPatient, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(across, down) * float(first.SliceThickness)
    if len(slices) > 1:
        stop = np.array(slices[-1].ImagePositionPatient, dtype=np.float64)
        affine[:3, 0] = (stop - start) / (len(slices) - 1)
    affine[:3, 1] = down * float(first.PixelSpacing[0])
    affine[:3, 2] = across * float(first.PixelSpacing[1])
    affine[:3, 3] = start
    return np.clip(np.rint(np.stack(planes)), -32768, 32767).astype(np.int16), affine


def scaled(volume_hu: npt.NDArray[np.generic]) -> FloatArray:
    """HU to the network's range: -1024 becomes 0 and 600 becomes 1, both clipped."""
    clipped = np.clip(np.asarray(volume_hu, dtype=np.float32), LOW_HU, HIGH_HU)
    return ((clipped - LOW_HU) / (HIGH_HU - LOW_HU)).astype(np.float32)


def regridding(shape: tuple[int, int, int], affine_lps: Affine) -> Regridding:
    """Between a CT grid and the network's: axes to superior, posterior, left, SPACING_MM."""
    return plan_regridding(shape, affine_lps, AXES, (SPACING_MM, SPACING_MM, SPACING_MM))


def training_phantom(seed: int) -> tuple[npt.NDArray[np.int16], LabelMap]:
    """A varied phantom on the network's grid, canonical axes."""
    rng = np.random.default_rng(seed)
    phantom = chest_phantom(
        seed, PHANTOM_SHAPE, (SPACING_MM,) * 3, **{**random_variation(rng), "feet_first": False}
    )
    volume, _ = to_canonical(phantom.volume_hu, phantom.affine_lps)
    labels, _ = to_canonical(phantom.label_map, phantom.affine_lps)
    return np.ascontiguousarray(volume), np.ascontiguousarray(labels)


def cached_phantom(folder: Path, seed: int) -> tuple[npt.NDArray[np.int16], LabelMap]:
    """:func:`training_phantom`, kept in ``folder``."""
    path = folder / f"phantom-{seed:05d}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return stored["volume"], stored["labels"]
    volume, labels = training_phantom(seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, volume=volume, labels=labels)
    return volume, labels


def real_training_pair(
    volume_hu: npt.NDArray[np.int16], affine_lps: Affine
) -> tuple[npt.NDArray[np.int16], LabelMap]:
    """A real CT and its classical reference on the network's grid."""
    reference = lungs_reference(volume_hu, affine_lps)
    plan = regridding((volume_hu.shape[0], volume_hu.shape[1], volume_hu.shape[2]), affine_lps)
    volume = np.rint(to_model_grid(volume_hu, plan, lowest=LOW_HU)).astype(np.int16)
    shares = [to_model_grid((reference == k).astype(np.float32), plan, 0.0) for k in (1, 2)]
    labels = np.zeros(volume.shape, dtype=np.uint8)
    for label, share in enumerate(shares, start=1):
        labels[share >= 0.5] = label
    return volume, labels
