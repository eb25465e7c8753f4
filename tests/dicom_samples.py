"""Small valid synthetic series as pydicom data sets, for every test of the project.

Arrays are ``(slices, rows, columns)``, positions and directions LPS millimetres,
``spacing_mm`` is ``(slice, row, column)``. Each call makes new UIDs unless they are given.

    datasets = ct_series((12, 64, 48))
    paths = write_series(datasets, tmp_path)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

Array = npt.NDArray[np.generic]
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SPACING_MM = (2.5, 0.75, 0.5)
ORIGIN_MM = (-10.0, -20.0, 30.0)


def phantom_hu(shape: tuple[int, int, int] = (8, 32, 40)) -> npt.NDArray[np.int16]:
    """Air with a soft-tissue block and one bright voxel, asymmetric along all three axes."""
    slices, rows, columns = shape
    array = np.full(shape, -1000, np.int16)
    array[:, rows // 8 : rows // 2, columns // 4 : columns - columns // 8] = 40
    array[: max(1, slices // 3), rows // 8 : rows // 4, columns // 4 : columns // 3] = -850
    array[marker_index(shape)] = 2000
    return array


def marker_index(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Index (slice, row, column) of the bright voxel of :func:`phantom_hu`."""
    return (shape[0] // 4, shape[1] // 3, (shape[2] * 2) // 3)


def slice_normal(orientation: Sequence[float]) -> npt.NDArray[np.float64]:
    """Unit normal: cross product of the row direction and the column direction."""
    return np.cross(np.asarray(orientation[:3], float), np.asarray(orientation[3:], float))


def ct_series(
    shape: tuple[int, int, int] = (8, 32, 40),
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    orientation: Sequence[float] = AXIAL,
    origin_mm: Sequence[float] = ORIGIN_MM,
    *,
    values_hu: Array | None = None,
    slice_step_mm: Sequence[float] | None = None,
    **attributes: Any,
) -> list[Dataset]:
    """CT Image Storage, one data set per slice, stored as HU + 1024 with intercept -1024.

    ``slice_step_mm`` is the vector from one slice to the next (default: along the normal);
    give another one for a tilted gantry. ``attributes`` are set on every data set last.
    """
    stored = (phantom_hu(shape) if values_hu is None else np.asarray(values_hu)) + 1024
    datasets = _classic(
        stored.astype(np.int16), spacing_mm, orientation, origin_mm, slice_step_mm, CTImageStorage
    )
    for dataset in datasets:
        dataset.Modality = "CT"
        dataset.BodyPartExamined = "CHEST"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.RescaleIntercept = "-1024"
        dataset.RescaleSlope = "1"
        dataset.RescaleType = "HU"
        dataset.KVP = "120"
        dataset.AcquisitionNumber = 1
    return with_attributes(datasets, **attributes)


def mr_series(
    shape: tuple[int, int, int] = (8, 32, 40),
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    orientation: Sequence[float] = SAGITTAL,
    origin_mm: Sequence[float] = ORIGIN_MM,
    *,
    values: Array | None = None,
    **attributes: Any,
) -> list[Dataset]:
    """MR Image Storage, one data set per slice, no modality LUT."""
    stored = phantom_hu(shape) + 1000 if values is None else np.asarray(values)
    datasets = _classic(
        stored.astype(np.int16), spacing_mm, orientation, origin_mm, None, MRImageStorage
    )
    for dataset in datasets:
        dataset.Modality = "MR"
        dataset.BodyPartExamined = "BRAIN"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        dataset.ScanningSequence = "GR"
        dataset.SequenceVariant = "SP"
        dataset.ScanOptions = ""
        dataset.MRAcquisitionType = "3D"
        dataset.EchoTime = "3"
        dataset.EchoTrainLength = 1
        dataset.MagneticFieldStrength = "3"
    return with_attributes(datasets, **attributes)


def enhanced_series(
    shape: tuple[int, int, int] = (8, 32, 40),
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    orientation: Sequence[float] = AXIAL,
    origin_mm: Sequence[float] = ORIGIN_MM,
    *,
    modality: str = "CT",
    values_hu: Array | None = None,
    frame_order: Sequence[int] | None = None,
    **attributes: Any,
) -> Dataset:
    """One Enhanced CT or MR object; frame ``n`` holds slice ``frame_order[n]``."""
    stored = (phantom_hu(shape) if values_hu is None else np.asarray(values_hu)) + 1024
    order = list(range(shape[0])) if frame_order is None else list(frame_order)
    sop_class = EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage
    dataset = _base(sop_class)
    dataset.Modality = modality
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.PositionReferenceIndicator = ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber = 1
    _set_pixels(dataset, stored.astype(np.int16)[order])
    dataset.SharedFunctionalGroupsSequence = [_shared_groups(spacing_mm, orientation)]
    step = slice_normal(orientation) * spacing_mm[0]
    dimension = Dataset()
    dimension.DimensionIndexPointer = 0x00200032
    dimension.FunctionalGroupPointer = 0x00209113
    dataset.DimensionIndexSequence = [dimension]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_group(np.asarray(origin_mm, float) + step * index, index) for index in order
    ]
    return with_attributes([dataset], **attributes)[0]


def radiograph(
    pixels: Array | None = None,
    *,
    modality: str = "DX",
    photometric_interpretation: str = "MONOCHROME2",
    **attributes: Any,
) -> Dataset:
    """One CR, DX or MG image (unsigned 12 of 16 bits); a ramp with a bright corner by default."""
    if pixels is None:
        pixels = np.add.outer(np.arange(48) * 16, np.arange(64) * 32).astype(np.uint16)
        pixels[:6, :4] = 4095
    classes = {
        "CR": ComputedRadiographyImageStorage,
        "MG": DigitalMammographyXRayImageStorageForPresentation,
    }
    dataset = _base(classes.get(modality, DigitalXRayImageStorageForPresentation))
    dataset.Modality = modality
    dataset.InstanceNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality = "U"
    _set_pixels(dataset, np.asarray(pixels, np.uint16))
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PhotometricInterpretation = photometric_interpretation
    dataset.PixelSpacing = ["0.2", "0.15"]
    dataset.WindowCenter, dataset.WindowWidth = "2048", "4096"
    return with_attributes([dataset], **attributes)[0]


def localizer(of: Dataset, **attributes: Any) -> Dataset:
    """A coronal CT localizer in the series of ``of``."""
    scout = copy.deepcopy(of)
    scout.SOPInstanceUID = generate_uid()
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = list(CORONAL)
    scout.InstanceNumber = 1000
    _set_pixels(scout, np.zeros((20, 16), np.int16))
    scout.file_meta.MediaStorageSOPInstanceUID = scout.SOPInstanceUID
    return with_attributes([scout], **attributes)[0]


def with_attributes(datasets: list[Dataset], **attributes: Any) -> list[Dataset]:
    """Set DICOM attributes by keyword on every data set; ``None`` deletes the attribute."""
    for dataset in datasets:
        for keyword, value in attributes.items():
            if value is not None:
                setattr(dataset, keyword, value)
            elif keyword in dataset:
                delattr(dataset, keyword)
    return datasets


def write_series(
    datasets: Sequence[Dataset], directory: Path, *, transfer_syntax_uid: str | None = None
) -> list[Path]:
    """Write Part 10 files, one path each.

    Compresses when RLE, JPEG-LS or JPEG 2000 is named (JPEG 2000 needs at least 32 x 32 pixels).
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(datasets):
        path = directory / f"{number:04d}.dcm"
        write_instance(dataset, path, transfer_syntax_uid=transfer_syntax_uid)
        paths.append(path)
    return paths


def write_instance(dataset: Dataset, path: Path, *, transfer_syntax_uid: str | None = None) -> Path:
    """Write one Part 10 file; the data set itself is left as it was."""
    written = copy.deepcopy(dataset)
    syntax = UID(transfer_syntax_uid or ExplicitVRLittleEndian)
    if syntax in _NATIVE:
        written.file_meta.TransferSyntaxUID = syntax
        written.save_as(path, enforce_file_format=True)
        return path
    written.compress(syntax, generate_instance_uid=False)
    written.save_as(path, enforce_file_format=True)
    return path


_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")


def _base(sop_class_uid: UID) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Synthetic^Phantom"
    dataset.PatientID = "SYN-1"
    dataset.PatientBirthDate = "19600101"
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.StudyID = "1"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20261122"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "101500"
    dataset.AccessionNumber = "A1"
    dataset.ReferringPhysicianName = ""
    dataset.Manufacturer = "DICOM Node tests"
    dataset.SeriesNumber = 3
    dataset.PatientPosition = "HFS"
    return dataset


def _classic(
    stored: npt.NDArray[np.int16],
    spacing_mm: Sequence[float],
    orientation: Sequence[float],
    origin_mm: Sequence[float],
    slice_step_mm: Sequence[float] | None,
    sop_class_uid: UID,
) -> list[Dataset]:
    normal = slice_normal(orientation)
    step = normal * spacing_mm[0] if slice_step_mm is None else np.asarray(slice_step_mm, float)
    first = _base(sop_class_uid)
    first.FrameOfReferenceUID = generate_uid()
    first.PositionReferenceIndicator = ""
    datasets = []
    for index, pixels in enumerate(stored):
        dataset = copy.deepcopy(first)
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = index + 1
        dataset.ImageOrientationPatient = [_ds(value) for value in orientation]
        position = np.asarray(origin_mm, float) + step * index
        dataset.ImagePositionPatient = [_ds(value) for value in position]
        dataset.PixelSpacing = [_ds(spacing_mm[1]), _ds(spacing_mm[2])]
        dataset.SliceThickness = _ds(spacing_mm[0])
        _set_pixels(dataset, pixels)
        datasets.append(dataset)
    return datasets


def _ds(value: float) -> str:
    for digits in range(14, 3, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{float(value):.3g}"


def _set_pixels(dataset: Dataset, pixels: Array) -> None:
    """Set the Image Pixel module for 16-bit monochrome pixels, one frame or (frames, r, c)."""
    if pixels.ndim == 3:
        dataset.NumberOfFrames = pixels.shape[0]
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1 if pixels.dtype.kind == "i" else 0
    raw = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW"


def _shared_groups(spacing_mm: Sequence[float], orientation: Sequence[float]) -> Dataset:
    groups, measures, plane, transform = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [_ds(spacing_mm[1]), _ds(spacing_mm[2])]
    measures.SliceThickness = _ds(spacing_mm[0])
    measures.SpacingBetweenSlices = _ds(spacing_mm[0])
    plane.ImageOrientationPatient = [_ds(value) for value in orientation]
    transform.RescaleIntercept, transform.RescaleSlope = "-1024", "1"
    transform.RescaleType = "HU"
    groups.PixelMeasuresSequence = DicomSequence([measures])
    groups.PlaneOrientationSequence = DicomSequence([plane])
    groups.PixelValueTransformationSequence = DicomSequence([transform])
    return groups


def _frame_group(position: npt.NDArray[np.float64], index: int) -> Dataset:
    group, plane, content = Dataset(), Dataset(), Dataset()
    plane.ImagePositionPatient = [_ds(value) for value in position]
    content.DimensionIndexValues = [index + 1]
    content.StackID = "1"
    content.InStackPositionNumber = index + 1
    group.PlanePositionSequence = DicomSequence([plane])
    group.FrameContentSequence = DicomSequence([content])
    return group
