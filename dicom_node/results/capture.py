"""One picture as a Secondary Capture Image object (PS3.3 A.8.1)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dicom_node.results.drawing import Pixels
from dicom_node.results.equipment import DEMONSTRATION, authored, describe
from dicom_node.results.finish import finish_picture, local_time
from dicom_node.results.request import ResultRequest
from dicom_node.results.slice_source import (
    patient_orientation,
    pixel_aspect_ratio,
    pixel_spacing,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_FROM_SOURCE = (
    "PixelSpacingCalibrationType",
    "PixelSpacingCalibrationDescription",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "RecognizableVisualFeatures",
)
_SHORT_TEXT = 1024


@dataclass(frozen=True)
class Picture:
    """What one capture shows.

    Attributes
    ----------
    pixels
        ``(rows, columns, 3)`` uint8.
    purpose
        ``contours``, ``saliency`` or ``notice``: pictures of one purpose are one series.
    number
        Instance Number, from 1.
    derivation
        What was done to the source.
    image, frame
        The source image and, if it is multi-frame, its 1-based frame; a page of text has none.
    """

    pixels: Pixels
    purpose: str
    number: int
    derivation: str
    image: Dataset | None = None
    frame: int | None = None


def build_capture(
    request: ResultRequest, picture: Picture, first: Dataset, series_number: int
) -> Dataset:
    """The object of ``picture``; ``first`` is the first source image, normalised.

    Burned In Annotation is NO: nothing drawn identifies the patient (PS3.3 C.7.6.1); what is in
    the source's own pixels already stays and is said. Recognizable Visual Features is what the
    source says, absent where it does not know.
    """
    moment = local_time(request.created_at, first)
    capture = _construct(request, picture, first, series_number, moment)
    capture.copy_patient_and_study_information(first)
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.DateOfSecondaryCapture = moment.date()
    capture.TimeOfSecondaryCapture = moment.time()
    capture.BurnedInAnnotation = "YES" if first.get("BurnedInAnnotation") == "YES" else "NO"
    capture.DerivationDescription = _derivation(request, picture)
    capture.PatientOrientation = []
    if picture.image is not None:
        _describe_source(capture, picture, picture.image)
    return finish_picture(capture, first, request.equipment, moment)


def _construct(
    request: ResultRequest,
    picture: Picture,
    first: Dataset,
    series_number: int,
    moment: datetime,
) -> Any:
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    kind, equipment = f"secondary capture.{picture.purpose}", request.equipment
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.sc.SCImage(
            pixel_array=picture.pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            study_instance_uid=first.StudyInstanceUID,
            series_instance_uid=request.identity.uid(f"{kind}.series"),
            series_number=series_number,
            sop_instance_uid=request.identity.uid(f"{kind}.instance.{_subject(picture)}"),
            instance_number=picture.number,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            series_description=describe(
                f"AI {picture.purpose} {request.algorithm.model_id}", request.algorithm
            ),
            content_date=moment.date(),
            content_time=moment.time(),
            **authored(request.algorithm, equipment, moment),
            patient_id=first.PatientID,
            patient_name=first.PatientName,
            patient_birth_date=first.PatientBirthDate,
            patient_sex=first.PatientSex,
            accession_number=first.AccessionNumber,
            study_id=first.StudyID,
            study_date=first.StudyDate,
            study_time=first.StudyTime,
            referring_physician_name=first.ReferringPhysicianName,
        )


def _subject(picture: Picture) -> str:
    """What tells this picture from the others of its series: several may be of one image."""
    image = "" if picture.image is None else str(picture.image.SOPInstanceUID)
    return f"{image}:{picture.frame or ''}:{picture.number}"


def _derivation(request: ResultRequest, picture: Picture) -> str:
    mark = f"{DEMONSTRATION}. " if request.algorithm.demonstration else ""
    algorithm = f"{request.algorithm.name} {request.algorithm.version}".replace("\\", "/")
    return f"{mark}AI result, not verified: {algorithm}. {picture.derivation}"[:_SHORT_TEXT]


def _describe_source(capture: Any, picture: Picture, image: Dataset) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    for keyword in _FROM_SOURCE:
        if keyword in image:
            setattr(capture, keyword, image[keyword].value)
    if spacing := pixel_spacing(image, picture.frame):
        capture.PixelSpacing = spacing
    elif ratio := pixel_aspect_ratio(image):
        # What is shown with square pixels would be shown narrower or flatter than its source.
        capture.PixelAspectRatio = ratio
    # That is an attribute of the series here, and paired organs need it.
    if image.get("ImageLaterality") in ("L", "R"):
        capture.Laterality = image.ImageLaterality
    capture.PatientOrientation = patient_orientation(image, picture.frame)
    source = Dataset()
    source.ReferencedSOPClassUID = image.SOPClassUID
    source.ReferencedSOPInstanceUID = image.SOPInstanceUID
    if picture.frame is not None:
        source.ReferencedFrameNumber = picture.frame
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = [
        _code(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    capture.SourceImageSequence = [source]
    if picture.purpose == "contours":
        capture.DerivationCodeSequence = [_code(codes.DCM.SegmentationImageDerivation)]


def _code(code: Any) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(*code[:3])
