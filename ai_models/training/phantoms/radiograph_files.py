"""Pictures as radiographs in DICOM: what a detector (DX) or an imaging plate (CR) would have sent.

    write_radiograph(folder, PhantomStudy("hand-1"), HAND, displayed)

What is written is displayed again as it was given, whatever photometric interpretation is asked
for: the file is a way to the node, not one more change of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
)

from ai_models.training.phantoms.dicom_files import PhantomStudy

Photometric = Literal["MONOCHROME1", "MONOCHROME2"]

# PS3.16 CID 4009 and CID 4010.
_REGIONS = {
    "CHEST": ("816094009", "Chest"),
    "HAND": ("85562004", "Hand"),
    "WRIST": ("74670003", "Wrist joint"),
}
_VIEWS = {
    "PA": ("272479007", "postero-anterior"),
    "AP": ("399348003", "antero-posterior"),
}


@dataclass(frozen=True)
class RadiographHeader:
    """What a radiograph is of, and how it was taken.

    Attributes
    ----------
    modality
        ``DX`` (PS3.3 A.26) or ``CR`` (PS3.3 A.2).
    body_part, view, laterality
        Body Part Examined (0018,0015), View Position (0018,5101); Image Laterality (0020,0062):
        ``L``, ``R``, ``U`` of what is not paired.
    photometric
        Whether the lowest stored value is white (``MONOCHROME1``) or black.
    imager_spacing_mm
        Of rows and columns at the detector.
    magnification
        How many times larger the patient is on the detector: Pixel Spacing (0028,0030) is smaller
        by it (PS3.3 10.7.1.3); 0: Pixel Spacing is not given.
    is_for_presentation
        Of DX: Presentation Intent Type (0008,0068); ``FOR PROCESSING`` has no window.
    orientation
        Patient Orientation (0020,0020): directions of rows and columns.
    bits
        Bits Stored (0028,0101), 8 to 16.
    """

    modality: Literal["DX", "CR"] = "DX"
    body_part: str = "CHEST"
    view: str = "PA"
    laterality: str = "U"
    photometric: Photometric = "MONOCHROME2"
    imager_spacing_mm: tuple[float, float] = (0.2, 0.2)
    magnification: float = 1.05
    is_for_presentation: bool = True
    orientation: tuple[str, str] = ("L", "F")
    manufacturer: str = "Phantom Works"
    model: str = "Any"
    bits: int = 12
    kvp: float = 60.0

    @property
    def sop_class(self) -> UID:
        """By modality and intent."""
        if self.modality == "CR":
            return ComputedRadiographyImageStorage
        return (DigitalXRayImageStorageForPresentation if self.is_for_presentation
                else DigitalXRayImageStorageForProcessing)


CHEST = RadiographHeader(kvp=120.0)
HAND = RadiographHeader(body_part="HAND", laterality="L", orientation=("L", "H"))
"""Left, from its back: the fingers, which hang down, are at the top, the thumb at the right."""
WRIST = replace(HAND, body_part="WRIST")


def stored_values(
    displayed: npt.NDArray[np.floating[Any]], header: RadiographHeader
) -> npt.NDArray[np.uint16]:
    """Pixels ``(rows, columns)`` that are displayed as ``displayed``, 0 to 1, white high."""
    highest = (1 << header.bits) - 1
    white = np.rint(np.clip(displayed, 0.0, 1.0) * highest).astype(np.uint16)
    if header.photometric == "MONOCHROME1":
        return np.asarray(highest - white, dtype=np.uint16)
    return np.asarray(white)


def write_radiograph(
    folder: Path, study: PhantomStudy, header: RadiographHeader,
    displayed: npt.NDArray[np.floating[Any]], *, number: int = 1,
) -> Path:
    """Write one radiograph; returns its path.

    Parameters
    ----------
    displayed
        ``(rows, columns)``, 0 to 1, white high.
    number
        Series Number (0020,0011): radiographs of one study are series of their own.

    Raises
    ------
    ValueError
        ``displayed`` has not two axes, or the header has other than 8 to 16 bits.
    """
    if displayed.ndim != 2 or not 8 <= header.bits <= 16:
        raise ValueError(f"{displayed.ndim} axes and {header.bits} bits: 2 and 8 to 16 expected")
    one = _identified(study, header, number)
    _equipment(one, header)
    _anatomy(one, header)
    _pixels(one, header, stored_values(displayed, header))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{header.modality.lower()}-{number:02d}.dcm"
    one.save_as(path, enforce_file_format=True)
    return path


def _identified(study: PhantomStudy, header: RadiographHeader, number: int) -> Dataset:
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SpecificCharacterSet = "ISO_IR 192"
    one.SOPClassUID = header.sop_class
    one.SOPInstanceUID = study.uid(header.modality, number, 1)
    one.StudyInstanceUID = study.uid()
    one.SeriesInstanceUID = study.uid(header.modality, number)
    one.PatientName = f"Phantom^{study.name}"
    one.PatientID = f"PHANTOM-{study.name}"
    one.PatientBirthDate = ""
    one.PatientSex = study.sex
    if study.age_y is not None:
        one.PatientAge = f"{study.age_y:03d}Y"
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = study.day
    one.StudyTime = one.SeriesTime = one.AcquisitionTime = one.ContentTime = "120000"
    one.StudyID, one.AccessionNumber, one.ReferringPhysicianName = "1", "", ""
    one.Modality = header.modality
    one.SeriesNumber, one.InstanceNumber, one.AcquisitionNumber = number, 1, 1
    one.StudyDescription, one.SeriesDescription = "Phantom", f"{header.body_part} {header.view}"
    return one


def _equipment(one: Dataset, header: RadiographHeader) -> None:
    """General Equipment (C.7.5.1), and DX Detector (C.8.11.4) or CR Image (C.8.1.2)."""
    one.Manufacturer, one.ManufacturerModelName = header.manufacturer, header.model
    one.DeviceSerialNumber, one.SoftwareVersions = "1", "1"
    one.KVP = f"{header.kvp:g}"
    one.ImagerPixelSpacing = [f"{mm:.6g}" for mm in header.imager_spacing_mm]
    if header.magnification:
        one.PixelSpacing = [f"{mm / header.magnification:.6g}" for mm in header.imager_spacing_mm]
        one.PixelSpacingCalibrationType = "GEOMETRY"
        one.PixelSpacingCalibrationDescription = "from distances of the generator"
    if header.modality == "DX":
        if header.magnification:
            one.EstimatedRadiographicMagnificationFactor = f"{header.magnification:g}"
        one.PresentationIntentType = (
            "FOR PRESENTATION" if header.is_for_presentation else "FOR PROCESSING"
        )
        one.DetectorType, one.DetectorConfiguration = "SCINTILLATOR", "AREA"
        one.PositionerType = "COLUMN"
        one.AcquisitionContextSequence = []


def _anatomy(one: Dataset, header: RadiographHeader) -> None:
    """What is seen, from where (PS3.3 C.8.11.2, C.8.11.5)."""
    one.BodyPartExamined, one.ViewPosition = header.body_part, header.view
    one.PatientOrientation = list(header.orientation)
    if header.modality != "DX":
        if header.laterality != "U":
            one.Laterality = header.laterality
        return
    one.ImageLaterality = header.laterality
    region = _REGIONS.get(header.body_part)
    one.AnatomicRegionSequence = [] if region is None else [_coded(*region)]
    if header.view in _VIEWS:
        view = _coded(*_VIEWS[header.view])
        view.ViewModifierCodeSequence = []
        one.ViewCodeSequence = [view]


def _coded(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code


def _pixels(one: Dataset, header: RadiographHeader, stored: npt.NDArray[np.uint16]) -> None:
    """Image Pixel and how it is shown: the window has every stored value (C.11.2.1.2)."""
    one.ImageType = ["ORIGINAL", "PRIMARY"]
    if header.modality == "DX":
        one.ImageType = ["ORIGINAL", "PRIMARY", ""]
    one.Rows, one.Columns = stored.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, header.photometric
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, header.bits, header.bits - 1
    one.PixelRepresentation = 0
    one.BurnedInAnnotation, one.LossyImageCompression = "NO", "00"
    if header.modality == "DX":
        # White is much absorbed: with MONOCHROME2 values grow as less of the beam arrives.
        is_first = header.photometric == "MONOCHROME1"
        one.PixelIntensityRelationship = "LOG"
        one.PixelIntensityRelationshipSign = 1 if is_first else -1
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = "1", "0", "US"
        one.PresentationLUTShape = "INVERSE" if is_first else "IDENTITY"
    if header.modality == "CR" or header.is_for_presentation:
        values = 1 << header.bits
        one.WindowCenter, one.WindowWidth = f"{values / 2:g}", f"{values}"
    one.PixelData = np.ascontiguousarray(stored).astype("<u2").tobytes()
