"""Volumes and images that were generated, as DICOM series: no patient is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ai_models.card_input import ClinicalEntry
from ai_models.types import Image, Volume
from dicom_node.results.identity import derived_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128", "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1", "MG": "1.2.840.10008.5.1.4.1.1.1.2",
}
VOLUMES, IMAGES = ("CT", "MR", "PT"), ("DX", "CR", "MG")
"""Modalities that can be written."""
_MR = {
    "ScanningSequence": "GR", "SequenceVariant": "SP", "ScanOptions": "", "MRAcquisitionType": "3D",
    "EchoTime": 3.0, "EchoTrainLength": 1, "MagneticFieldStrength": 3.0,
}
_WHITEST = 4095
_SUV_STEP = 0.001
_BEGAN = datetime(2026, 1, 1, 12, 0)  # noqa: DTZ001 - what a scanner's clock shows


@dataclass(frozen=True)
class Description:
    """What a generated series says of itself.

    ``origin`` and ``seed`` make its UIDs: the same ones give the same series; another ``role``
    gives another series of the same study and frame of reference. ``attributes`` are set last, by
    keyword.
    """

    origin: str
    seed: int
    modality: str
    patient_name: str
    patient_id: str
    study: str
    series: str
    body_part: str = "CHEST"
    attributes: dict[str, Any] | None = None
    role: str = ""


def write_series(source: Volume | Image, folder: Path, told: Description) -> list[Path]:
    """Write a volume slice by slice, or one image, as what ``told.modality`` stores."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Image):
        return [_save(_image(source, told), folder, 0, told)]
    return [
        _save(_slice(source, index, told), folder, index, told)
        for index in range(len(source.array))
    ]


def write_phases(
    phases: Sequence[Volume], times_s: Sequence[float], folder: Path, told: Description
) -> list[Path]:
    """Write volumes on one grid as one series in temporal positions."""
    from pydicom.uid import UID

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for position, phase in enumerate(phases):
        count = len(phase.array)
        for index in range(count):
            dataset = _slice(phase, index, told)
            number = position * count + index
            uid = UID(_uid("instance", told, number))
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            dataset.InstanceNumber = number + 1
            dataset.TemporalPositionIdentifier = position + 1
            dataset.NumberOfTemporalPositions = len(phases)
            if times_s:
                at = _BEGAN + timedelta(seconds=times_s[position])
                dataset.AcquisitionDate, dataset.AcquisitionTime = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
            paths.append(_save(dataset, folder, number, told))
    return paths


def attributes_of(
    entries: Sequence[ClinicalEntry], values: Mapping[str, float | None]
) -> dict[str, Any]:
    """What headers say of a patient of whom a card is to be told ``values``, by keyword."""
    attributes: dict[str, Any] = {}
    for entry in entries:
        value = values.get(entry.name)
        if value is None:
            continue
        words = [word for word, number in entry.values.items() if number == value]
        if entry.keyword == "PatientAge":
            attributes[entry.keyword] = f"{min(max(round(value), 0), 120):03d}Y"
        else:
            attributes[entry.keyword] = words[0] if words else _decimal(value)
    return attributes


def _save(dataset: Dataset, folder: Path, index: int, told: Description) -> Path:
    for keyword, value in (told.attributes or {}).items():
        setattr(dataset, keyword, value)
    path = folder / f"{index:04d}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def _dataset(index: int, told: Description) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    uid, sop_class_uid = _uid("instance", told, index), _CLASSES[told.modality]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid("study", told), _uid("series", told)
    dataset.PatientName, dataset.PatientID = told.patient_name, told.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20260101"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber, dataset.StudyID, dataset.ReferringPhysicianName = "", "1", ""
    dataset.StudyDescription, dataset.SeriesDescription = told.study, told.series
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = told.modality, 1, index + 1
    dataset.Manufacturer, dataset.ManufacturerModelName = "DICOM Node project", told.study
    dataset.BodyPartExamined = told.body_part
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    return dataset


def _uid(what: str, told: Description, *more: int) -> str:
    own = [told.role] if told.role and what in ("series", "instance") else []
    return derived_uid(told.origin, what, told.seed, *own, *more)


def _slice(volume: Volume, index: int, told: Description) -> Dataset:
    dataset, affine, spacing_mm = _dataset(index, told), volume.affine_lps, volume.spacing_mm
    dataset.FrameOfReferenceUID = _uid("frame of reference", told)
    dataset.PositionReferenceIndicator, dataset.PatientPosition = "", "HFS"
    dataset.ImagePositionPatient = [
        _decimal(value) for value in (affine @ [index, 0, 0, 1])[:3]
    ]
    dataset.ImageOrientationPatient = [
        _decimal(value) for axis in (2, 1) for value in affine[:3, axis] / spacing_mm[axis]
    ]
    dataset.PixelSpacing = [_decimal(spacing_mm[1]), _decimal(spacing_mm[2])]
    dataset.SliceThickness = _decimal(spacing_mm[0])
    is_suv = volume.unit == "SUVbw"
    slope = _SUV_STEP if is_suv else 1.0
    values = np.rint(volume.array[index].astype(np.float64) / slope).astype(np.int32)
    if told.modality == "CT":
        dataset.ImageType, dataset.KVP = ["DERIVED", "PRIMARY", "AXIAL"], None
        dataset.AcquisitionNumber = 1
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = -500, 1500
        values = values + 1024
    else:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M" if told.modality == "MR" else "AXIAL"]
        dataset.WindowCenter, dataset.WindowWidth = 500, 1000
        for keyword, value in (_MR if told.modality == "MR" else {}).items():
            setattr(dataset, keyword, value)
        if told.modality == "PT":
            dataset.RescaleIntercept, dataset.RescaleSlope = 0, _decimal(slope)
            dataset.Units = "GML" if is_suv else "BQML"
            if is_suv:
                dataset.SUVType = "BW"
    _set_pixels(dataset, np.clip(values, -32768, 32767).astype("<i2"))
    return dataset


def _image(image: Image, told: Description) -> Dataset:
    dataset = _dataset(0, told)
    dataset.ImageType, dataset.ViewPosition = ["ORIGINAL", "PRIMARY"], "PA"
    dataset.PatientOrientation, dataset.ImageLaterality = ["L", "F"], "U"
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
    dataset.WindowCenter, dataset.WindowWidth = (_WHITEST + 1) // 2, _WHITEST + 1
    if image.pixel_spacing_mm is not None:
        dataset.PixelSpacing = [_decimal(step) for step in image.pixel_spacing_mm]
    _set_pixels(dataset, np.rint(image.array * _WHITEST).astype("<u2"))
    return dataset


def _set_pixels(dataset: Dataset, stored: np.ndarray[Any, Any]) -> None:
    dataset.Rows, dataset.Columns = stored.shape
    content = stored.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW"


def _decimal(value: float) -> float:
    """A number that DS can hold in its 16 characters."""
    return float(f"{float(value):.9g}")
