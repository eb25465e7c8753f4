"""Phantoms as DICOM files: what a scanner would have sent.

Every identifier follows from the seed and what it stands for, so that the same phantom is the same
study; patients are called ``Phantom^...`` and were never born.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from ai_models.training.phantoms.scanners import Scanner

Affine = npt.NDArray[np.float64]
_NAMESPACE = uuid.UUID("6d0b6a0e-6f0e-5d0e-9a53-0b7cf3f1a2d4")


@dataclass(frozen=True)
class PhantomStudy:
    """Whom and what a series is of.

    Attributes
    ----------
    name
        What the phantom is, and its seed: ``nodules-90001``. All identifiers follow from it.
    day
        Study Date (0008,0020), ``YYYYMMDD``.
    sex, age_y, weight_kg
        Of the patient; None leaves the element empty.
    """

    name: str
    day: str = "20260105"
    sex: str = "O"
    age_y: int | None = 60
    weight_kg: float | None = 70.0

    def uid(self, *of: object) -> UID:
        """A UID that follows from this study and ``of`` (PS3.5 B.2: ``2.25.`` and a UUID)."""
        text = "/".join(str(part) for part in (self.name, *of))
        return UID(f"2.25.{uuid.uuid5(_NAMESPACE, text).int}")

    @property
    def frame_of_reference_uid(self) -> UID:
        """Of all series of this study: the patient did not move between them."""
        return self.uid("frame")


@dataclass(frozen=True)
class SeriesHeader:
    """What is the same in all images of one series.

    Attributes
    ----------
    number
        Series Number (0020,0011); with the study it makes the UIDs.
    description
        Series Description (0008,103E).
    modality, sop_class
        ``CT`` and its storage class, and so on.
    elements
        Further elements by keyword, of the whole series.
    """

    number: int
    description: str
    modality: str = "CT"
    sop_class: UID = CTImageStorage
    elements: Mapping[str, Any] = field(default_factory=dict)


def ct_header(scanner: Scanner, number: int = 1) -> SeriesHeader:
    """Of a CT by ``scanner`` (PS3.3 A.3)."""
    return SeriesHeader(
        number, f"Chest {scanner.name}",
        elements={
            "Manufacturer": scanner.manufacturer,
            "ManufacturerModelName": scanner.model,
            "ConvolutionKernel": scanner.kernel,
            "SliceThickness": scanner.slice_thickness_mm,
            "KVP": "120",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "RescaleType": "HU",
            "BodyPartExamined": "CHEST",
        },
    )


def write_slices(
    folder: Path, study: PhantomStudy, header: SeriesHeader, stored: npt.NDArray[np.integer[Any]],
    affine_lps: Affine, *, slope: float = 1.0, intercept: float = 0.0, first_number: int = 1,
    elements: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write one file for each slice; returns their paths in the order of the slices.

    Parameters
    ----------
    stored
        ``(slices, rows, columns)``, int16 or uint16: the value is ``slope * stored + intercept``.
    affine_lps
        Index (slice, row, column) to mm in LPS.
    first_number
        Instance Number (0020,0013) of the first slice: a second phase of a series goes on counting.
    elements
        Further elements by keyword, of these slices only.

    Raises
    ------
    ValueError
        ``stored`` has not three axes or not 16 bits.
    """
    if stored.ndim != 3 or stored.dtype.itemsize != 2:
        raise ValueError(f"{stored.ndim} axes of {stored.dtype}: slices of 16 bits expected")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, plane in enumerate(stored):
        number = first_number + index
        dataset = _image(study, header, number)
        for keyword, value in {**header.elements, **(elements or {})}.items():
            setattr(dataset, keyword, value)
        _place(dataset, affine_lps, index)
        _pixels(dataset, plane)
        dataset.RescaleSlope, dataset.RescaleIntercept = _decimal(slope), _decimal(intercept)
        paths.append(folder / f"{header.modality.lower()}-{header.number:02d}-{number:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_ct(
    folder: Path, study: PhantomStudy, scanner: Scanner, volume_hu: npt.NDArray[np.generic],
    affine_lps: Affine, number: int = 1,
) -> list[Path]:
    """A CT series in HU ``(slices, rows, columns)``, stored from -1024 on as scanners do."""
    stored = np.clip(np.rint(volume_hu) + 1024.0, 0, 4095).astype(np.int16)
    return write_slices(
        folder, study, ct_header(scanner, number), stored, affine_lps, intercept=-1024.0
    )


def _decimal(value: float) -> str:
    return f"{value:.10g}"


def _image(study: PhantomStudy, header: SeriesHeader, number: int) -> Dataset:
    """Identifiers, patient and equipment; every type 1 and 2 element of a plain image."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SpecificCharacterSet = "ISO_IR 192"
    one.SOPClassUID = header.sop_class
    one.SOPInstanceUID = study.uid(header.modality, header.number, number)
    one.StudyInstanceUID = study.uid()
    one.SeriesInstanceUID = study.uid(header.modality, header.number)
    one.FrameOfReferenceUID = study.frame_of_reference_uid
    one.PatientName = f"Phantom^{study.name}"
    one.PatientID = f"PHANTOM-{study.name}"
    one.PatientBirthDate = ""
    one.PatientSex = study.sex
    if study.age_y is not None:
        one.PatientAge = f"{study.age_y:03d}Y"
    if study.weight_kg is not None:
        one.PatientWeight = _decimal(study.weight_kg)
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = study.day
    one.StudyTime = one.SeriesTime = one.AcquisitionTime = one.ContentTime = "120000"
    one.StudyID, one.AccessionNumber, one.ReferringPhysicianName = "1", "", ""
    one.Modality = header.modality
    one.SeriesNumber, one.InstanceNumber, one.AcquisitionNumber = header.number, number, 1
    one.StudyDescription, one.SeriesDescription = "Phantom", header.description
    one.PatientPosition, one.PositionReferenceIndicator = "HFS", ""
    one.Manufacturer = "Phantom Works"
    return one


def _place(one: Dataset, affine_lps: Affine, index: int) -> None:
    """Position and directions (PS3.3 C.7.6.2.1.1) of slice ``index``."""
    down, across = affine_lps[:3, 1], affine_lps[:3, 2]
    row_step, column_step = float(np.linalg.norm(down)), float(np.linalg.norm(across))
    position = affine_lps[:3, 3] + index * affine_lps[:3, 0]
    one.ImagePositionPatient = [_decimal(float(mm)) for mm in position]
    one.ImageOrientationPatient = [
        _decimal(float(part)) for part in (*(across / column_step), *(down / row_step))
    ]
    one.PixelSpacing = [_decimal(row_step), _decimal(column_step)]
    one.SliceLocation = _decimal(float(position[2]))


def _pixels(one: Dataset, plane: npt.NDArray[np.integer[Any]]) -> None:
    one.Rows, one.Columns = plane.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
    one.PixelRepresentation = 1 if np.issubdtype(plane.dtype, np.signedinteger) else 0
    one.PixelData = np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder("<")).tobytes()
