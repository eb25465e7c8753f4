"""Two small CT series that have nothing in common: the images of the conformance statement.

One has every attribute of patient, study and equipment that a scanner may fill in, the other the
fewest that a series must have. Nobody was examined for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Vector = tuple[float, float, float]

_FULL: dict[str, Any] = {
    "PatientName": "Sample^Full", "PatientID": "FULL-1", "IssuerOfPatientID": "Site A",
    "PatientBirthDate": "19700102", "PatientSex": "F", "PatientAge": "056Y",
    "PatientSize": "1.71", "PatientWeight": "64.5", "OtherPatientNames": "Other^Full",
    "EthnicGroup": "None given", "PatientComments": "Sample comment",
    "AdditionalPatientHistory": "Sample history", "PatientSpeciesDescription": "Human",
    "AccessionNumber": "ACC-1", "StudyID": "STUDY-1", "StudyDate": "20260203",
    "StudyTime": "101112", "StudyDescription": "Sample study", "SeriesDescription": "Thin",
    "ReferringPhysicianName": "Referring^A", "PhysiciansOfRecord": "Record^A",
    "NameOfPhysiciansReadingStudy": "Reading^A", "PerformingPhysicianName": "Performing^A",
    "OperatorsName": "Operator^A", "SeriesDate": "20260204", "SeriesTime": "111213",
    "AcquisitionDate": "20260205", "AcquisitionTime": "121314", "ContentDate": "20260206",
    "ContentTime": "131415", "TimezoneOffsetFromUTC": "+0100", "ProtocolName": "Sample protocol",
    "BodyPartExamined": "CHEST", "Laterality": "R", "PatientPosition": "HFS",
    "PositionReferenceIndicator": "SN", "InstitutionName": "Sample institution",
    "InstitutionAddress": "Sample street", "InstitutionalDepartmentName": "Sample department",
    "StationName": "SAMPLESTATION", "DeviceSerialNumber": "SCANNER-1",
    "SoftwareVersions": "Scanner 1", "Manufacturer": "Sample maker",
    "ManufacturerModelName": "Sample scanner", "LossyImageCompression": "01",
    "LossyImageCompressionRatio": "9.5", "LossyImageCompressionMethod": "ISO_10918_1",
    "ClinicalTrialSponsorName": "Sample sponsor", "ClinicalTrialProtocolID": "TRIAL-1",
    "ClinicalTrialSubjectID": "SUBJECT-1", "WindowCenter": "40", "WindowWidth": "400",
    "SeriesNumber": 3, "AcquisitionNumber": 5, "RescaleIntercept": -1024, "RescaleSlope": 1,
    "RescaleType": "HU",
}  # fmt: skip
_BARE: dict[str, Any] = {
    "PatientName": "", "PatientID": "BARE-2", "PatientBirthDate": "", "PatientSex": "",
    "AccessionNumber": "", "StudyID": "", "StudyDate": "", "StudyTime": "",
    "ReferringPhysicianName": "", "Manufacturer": "", "PositionReferenceIndicator": "",
    "SeriesNumber": None, "AcquisitionNumber": None, "RescaleIntercept": -1000, "RescaleSlope": 2,
}  # fmt: skip


def full_series() -> list[Dataset]:
    """Axial slices with every attribute that results may take over."""
    place = _Place(4, (24, 32), (0.75, 0.5), (-11.0, -22.0, 33.0), (0.0, 0.0, 1.5), (0.0, 1.0, 0.0))
    images = _series("2.25.1", place, _FULL)
    for image in images:
        image.RequestAttributesSequence = [_item(ScheduledProcedureStepID="STEP-1",
                                                 RequestedProcedureID="PROCEDURE-1")]
        image.ProcedureCodeSequence = [_code("24627-2", "LN", "Chest CT")]
    return images


def bare_series() -> list[Dataset]:
    """Coronal slices with the fewest attributes with which a CT series can carry a result."""
    place = _Place(5, (28, 400), (0.625, 0.8), (-7.0, -8.0, 9.0), (0.0, 2.5, 0.0), (0.0, 0.0, -1.0))
    return _series("2.25.2", place, _BARE)


@dataclass(frozen=True)
class _Place:
    """The grid of a series in the patient (LPS); its rows run along x.

    ``matrix`` and ``pixel_spacing_mm`` are (rows, columns), ``column_direction`` is a unit vector.
    """

    slices: int
    matrix: tuple[int, int]
    pixel_spacing_mm: tuple[float, float]
    origin_mm: Vector
    slice_step_mm: Vector
    column_direction: Vector


def _series(root: str, place: _Place, attributes: dict[str, Any]) -> list[Dataset]:
    import numpy as np

    origin_mm, step_mm = np.asarray(place.origin_mm), np.asarray(place.slice_step_mm)
    images = []
    for index in range(place.slices):
        image = _item(
            StudyInstanceUID=f"{root}.1", SeriesInstanceUID=f"{root}.2",
            FrameOfReferenceUID=f"{root}.3", SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
            SOPInstanceUID=f"{root}.4.{index}", Modality="CT", InstanceNumber=index + 1,
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            ImagePositionPatient=[float(value) for value in origin_mm + index * step_mm],
            ImageOrientationPatient=[1.0, 0.0, 0.0, *place.column_direction],
            PixelSpacing=list(place.pixel_spacing_mm), SliceThickness=float(step_mm.max()),
            SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
            Rows=place.matrix[0], Columns=place.matrix[1], BitsAllocated=16, BitsStored=16,
            HighBit=15, PixelRepresentation=1, KVP="120",
        )  # fmt: skip
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        image.PixelData = np.full(place.matrix, 200, "<i2").tobytes()
        image.file_meta = _file_meta(str(image.SOPInstanceUID))
        images.append(image)
    return images


def _file_meta(sop_instance_uid: str) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _item(**attributes: Any) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
