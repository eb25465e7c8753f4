"""NIfTI volumes and PNG images as a model takes them."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np

from ai_models.training.settings import TrainingError
from ai_models.types import Affine, Image, LabelMap, Volume

# NIfTI points to the right and the front, DICOM to the left and the back.
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LEAST_VOXEL_MM3 = 1e-9
# A CT of 2048 slices; a packed file of a few bytes may say any number.
_MOST_VOXELS = 2**29
_LONGEST_BEFORE_VOXELS = 2**24


def is_nifti(path: Path) -> bool:
    """By its name."""
    return path.name.endswith((".nii", ".nii.gz"))


def is_png(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() == ".png"


def read_volume(path: Path, unit: str) -> Volume:
    """A volume ``(slices, rows, columns)`` with its place in LPS; values as they are, scaled.

    Raises
    ------
    TrainingError
        The file is no volume.
    """
    array, affine = _read(path)
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise TrainingError(f"{path} holds values that are no numbers (NaN, infinite): set them")
    fits = float(np.abs(values).max(initial=0.0)) < 32767
    if unit == "HU" and fits and np.array_equal(values, values.round()):
        return Volume(values.astype(np.int16), affine, unit)
    return Volume(values, affine, unit)


def read_labels(path: Path) -> tuple[LabelMap, Affine]:
    """A label map of whole numbers 0 to 255, and its affine in LPS."""
    array, affine = _read(path)
    rounded = np.rint(array)
    if not np.array_equal(rounded, array) or rounded.min() < 0 or rounded.max() > 255:
        raise TrainingError(f"{path.name}: labels are whole numbers from 0 to 255")
    return rounded.astype(np.uint8), affine


def _read(path: Path) -> tuple[Any, Affine]:
    import nibabel

    try:
        _check_size(path)
        image: Any = nibabel.load(path)
        array = np.asarray(image.dataobj)
    except TrainingError:
        raise
    except Exception as error:  # nibabel raises what zlib, numpy and its own readers do
        raise TrainingError(f"{path} cannot be read: {error}") from error
    array = array.reshape(array.shape[:3]) if array.ndim == 4 and array.shape[3] == 1 else array
    if array.ndim != 3:
        raise TrainingError(f"{path.name} has the shape {array.shape}: a volume is expected")
    if array.dtype.kind not in "iuf" or not array.size:
        raise TrainingError(f"{path}: a volume of real numbers is expected, not {array.dtype} "
                            f"{array.shape}")
    affine = (_TO_LPS @ image.affine)[:, [2, 1, 0, 3]]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < _LEAST_VOXEL_MM3:
        raise TrainingError(f"{path} does not say where its voxels lie (its affine is singular)")
    return np.ascontiguousarray(array.transpose(2, 1, 0)), np.asarray(affine, dtype=np.float64)


def _check_size(path: Path) -> None:
    """Refuse what would fill the memory, by what the first bytes say; no more is unpacked.

    The fields are ``dim`` and ``vox_offset`` of nifti1.h and nifti2.h. Readers take all that lies
    before the voxels for extensions of the header.
    """
    import nibabel

    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        start = file.read(nibabel.Nifti2Header.sizeof_hdr)
    kind: Any = nibabel.Nifti1Header
    if b"n+2" in start[4:8]:
        kind = nibabel.Nifti2Header
    header = kind(start[: kind.sizeof_hdr], check=False)
    voxels = math.prod(int(one) for one in header.get_data_shape())
    if voxels > _MOST_VOXELS or int(header["vox_offset"]) > _LONGEST_BEFORE_VOXELS:
        raise TrainingError(
            f"{path} says that it holds {voxels} voxels after {int(header['vox_offset'])} bytes of "
            f"header: at most {_MOST_VOXELS} after {_LONGEST_BEFORE_VOXELS} are read"
        )


def read_png(path: Path) -> Image:
    """A grey image as it is displayed: 0 black, 1 white; how large a pixel is, is not known."""
    import PIL.Image

    with PIL.Image.open(path) as opened:
        deep = opened.mode.startswith("I")
        array = np.asarray(opened if deep else opened.convert("L"), dtype=np.float32)
    return Image(array / (65535.0 if deep else 255.0), None)
