"""Masks of a Segmentation by readers that are not ours, and the model's own, on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.predictor import Predictor
from dicom_node.imaging.volume import LoadedVolume, VolumeLimits, load_volume
from tests.conformance import validators

LabelMap = npt.NDArray[np.uint8]
LABELS = {1: "Right", 2: "Left"}


def load(paths: Sequence[Path]) -> LoadedVolume:
    """The series as the node loads it for ``lungs-ct``."""
    return load_volume(paths, VolumeLimits(min_slices=lungs_card().input.min_slices))


def lungs_card() -> Card:
    """The card of the built-in model."""
    return Catalog([]).get("lungs-ct")


def by_model(loaded: LoadedVolume) -> LabelMap:
    """What the network says, before any DICOM object: (source slices, rows, columns)."""
    predictor = Predictor(lungs_card(), "cpu")
    predictor.load()
    try:
        return loaded.to_source_grid(predictor.predict(loaded.volume).label_map)
    finally:
        predictor.close()


def by_highdicom(path: Path, source_images: Sequence[Dataset]) -> LabelMap:
    """Label map (source slices, rows, columns) as highdicom decodes a Segmentation.

    Segments are told apart by what they are called, not by their number.
    """
    segmentation = highdicom.seg.segread(path)
    pixels = segmentation.get_pixels_by_source_instance(
        source_sop_instance_uids=[str(image.SOPInstanceUID) for image in source_images],
        assert_missing_frames_are_empty=True,
    )
    label_map = np.zeros(pixels.shape[:3], np.uint8)
    for position, number in enumerate(segmentation.segment_numbers):
        label_map[pixels[..., position] > 0] = _label(segmentation, number)
    return label_map


def by_dcmqi(path: Path, source_images: Sequence[Dataset], directory: Path) -> LabelMap:
    """The same by dcmqi, whose own grid is laid over the source's in the patient (LPS)."""
    directory.mkdir(parents=True, exist_ok=True)
    segmentation = highdicom.seg.segread(path)
    to_index = np.linalg.inv(source_affine(source_images))
    shape = (len(source_images), int(source_images[0].Rows), int(source_images[0].Columns))
    label_map = np.zeros(shape, np.uint8)
    for number, (mask, affine) in validators.masks_by_dcmqi(path, directory).items():
        voxels = np.argwhere(mask)
        exact = voxels @ (to_index @ affine)[:3, :3].T + (to_index @ affine)[:3, 3]
        index = np.rint(exact).astype(int)
        assert np.abs(exact - index).max() < 0.05, "dcmqi's voxels lie between those of the source"
        label_map[tuple(index.T)] = _label(segmentation, number)
    return label_map


def source_affine(source_images: Sequence[Dataset]) -> npt.NDArray[np.float64]:
    """Index (slice, row, column) to LPS mm, from the headers alone (PS3.3 C.7.6.2.1.1)."""
    first, last = source_images[0], source_images[-1]
    orientation = np.array([float(v) for v in first.ImageOrientationPatient])
    position = np.array([float(v) for v in first.ImagePositionPatient])
    end = np.array([float(v) for v in last.ImagePositionPatient])
    affine = np.eye(4)
    affine[:3, 0] = (end - position) / max(1, len(source_images) - 1)
    affine[:3, 1] = orientation[3:] * float(first.PixelSpacing[0])
    affine[:3, 2] = orientation[:3] * float(first.PixelSpacing[1])
    affine[:3, 3] = position
    return affine


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Dice coefficient; 1 for two empty masks."""
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else 1.0


def _label(segmentation: highdicom.seg.Segmentation, number: int) -> int:
    said = str(segmentation.get_segment_description(number).SegmentLabel)
    (value,) = [value for value, side in LABELS.items() if side in said]
    return value
