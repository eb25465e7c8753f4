"""A label map as an RT Structure Set (PS3.3 A.19): contours in the patient, one region per label.

For destinations that take no Segmentation. Contours run along the voxel edges, so that filling
them gives the label map back; holes are keyholes (see ``keyholes``). The object is encoded in
Implicit VR: in Explicit VR no contour may be longer than 64 KiB of text (PS3.5 7.1.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import mask_of
from ai_models.types import Algorithm, Code, Label, LabelMap
from dicom_node.results.equipment import algorithm_equipment, describe, long_string
from dicom_node.results.finish import finish, local_time
from dicom_node.results.keyholes import polygons
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation import segment_numbers, tracking_identifier
from dicom_node.results.slice_planes import SlicePlanes, slice_planes
from dicom_node.results.sop_classes import RT_STRUCTURE_SET

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset

# PS3.3 C.8.8.5 wants a class for the study; this one is retired and what everybody writes.
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_CONTOUR_DATA = 0x30060050
# CID 7150 of today, and what SRT T-D000A of its older editions became in SNOMED CT ("Body
# structure"), which 3D Slicer and dcmqi still write: cards may have either.
_ANATOMICAL_STRUCTURE = ("91723000", "123037004")
_SH_LIMIT = 16


def build_structure_set(
    request: ResultRequest, label_map: LabelMap, *, series_number: int
) -> Dataset | None:
    """Build the RT Structure Set of ``label_map``.

    Regions are numbered as the segments of the Segmentation are, each with its code, colour and
    the algorithm that drew it; nobody has approved them.

    Parameters
    ----------
    label_map
        ``(slices, rows, columns)`` on the grid of the source.

    Returns
    -------
    Dataset or None
        ``None`` when no label occurs.

    Raises
    ------
    UnsuitableInput
        ``input.no_frame_of_reference``: a projection image or a cine loop lies nowhere; or the
        source headers cannot carry a result (see ``headers.normalise``).
    GateRefused
        ``gate.labels``: the map holds a value that no label describes.
    """
    numbers = segment_numbers(label_map, request.labels)
    if not numbers:
        return None
    sources, _ = request.normalised()
    planes = slice_planes(sources, request.frame_numbers)
    moment = local_time(request.created_at, sources[0])
    images = [_image(request, sources, index) for index in range(len(label_map))]
    built = _header(request, sources[0], series_number, moment)
    built.ReferencedFrameOfReferenceSequence = [_frame_of_reference(sources[0], images)]
    labels = {label.value: label for label in request.labels}
    regions = [(number, labels[value]) for value, number in numbers.items()]
    uid = str(sources[0].FrameOfReferenceUID)
    built.StructureSetROISequence = [_region(*region, uid, request.algorithm) for region in regions]
    built.ROIContourSequence = [
        _region_contours(number, label, _contours(mask_of(label_map, label.value), planes, images))
        for number, label in regions
    ]
    built.RTROIObservationsSequence = [
        _observation(*region, request.algorithm) for region in regions
    ]
    return finish(built, sources[0], request.equipment, moment)


def _header(request: ResultRequest, source: Dataset, series_number: int, moment: datetime) -> Any:
    import highdicom as hd
    from pydicom.uid import ImplicitVRLittleEndian

    algorithm, equipment = request.algorithm, request.equipment
    header: Any = hd.SOPClass(
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=request.identity.uid("structure set.series"),
        series_number=series_number,
        sop_instance_uid=request.identity.uid("structure set.instance"),
        sop_class_uid=RT_STRUCTURE_SET,
        instance_number=1,
        modality="RTSTRUCT",
        manufacturer=equipment.manufacturer,
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_versions,
        device_serial_number=equipment.device_serial_number,
        transfer_syntax_uid=ImplicitVRLittleEndian,
        patient_id=source.PatientID,
        patient_name=source.PatientName,
        patient_birth_date=source.PatientBirthDate,
        patient_sex=source.PatientSex,
        accession_number=source.AccessionNumber,
        study_id=source.StudyID,
        study_date=source.StudyDate,
        study_time=source.StudyTime,
        referring_physician_name=source.ReferringPhysicianName,
        series_description=describe(f"Structure set {algorithm.model_id}", algorithm),
        series_date=moment.date(),
        series_time=moment.time(),
        specific_character_set="ISO_IR 192",
    )
    header.copy_patient_and_study_information(source)
    header.ContributingEquipmentSequence = [algorithm_equipment(algorithm)]
    header.OperatorsName = ""
    header.FrameOfReferenceUID = source.FrameOfReferenceUID
    header.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    header.StructureSetLabel = long_string(algorithm.model_id)[:_SH_LIMIT]
    header.StructureSetName = describe(algorithm.name, algorithm)
    header.StructureSetDescription = describe("computed, approved by nobody", algorithm)
    header.StructureSetDate = moment.strftime("%Y%m%d")
    header.StructureSetTime = moment.strftime("%H%M%S.%f")
    header.ApprovalStatus = "UNAPPROVED"
    return header


def _image(request: ResultRequest, sources: Sequence[Dataset], slice_index: int) -> Dataset:
    """Reference to the image, or to the frame of it, that shows one slice."""
    from pydicom.dataset import Dataset

    source = sources[slice_index] if len(sources) > 1 else sources[0]
    image = Dataset()
    image.ReferencedSOPClassUID = source.SOPClassUID
    image.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if int(source.get("NumberOfFrames") or 1) > 1:
        image.ReferencedFrameNumber = int(request.frame_numbers[slice_index])
    return image


def _frame_of_reference(source: Dataset, images: Sequence[Dataset]) -> Dataset:
    from pydicom.dataset import Dataset

    series, study, frame_of_reference = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ContourImageSequence = list(images)
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = source.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference.FrameOfReferenceUID = source.FrameOfReferenceUID
    frame_of_reference.RTReferencedStudySequence = [study]
    return frame_of_reference


def _region(number: int, label: Label, uid: str, algorithm: Algorithm) -> Dataset:
    from pydicom.dataset import Dataset

    derivation = Dataset()
    derivation.AlgorithmFamilyCodeSequence = [_code(algorithm.family)]
    derivation.AlgorithmName = long_string(algorithm.name)
    derivation.AlgorithmVersion = long_string(algorithm.version)
    region = Dataset()
    region.ROINumber = number
    region.ReferencedFrameOfReferenceUID = uid
    region.ROIName = long_string(label.name)
    region.ROIDescription = describe(tracking_identifier(label, algorithm), algorithm)
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    region.ROIGenerationDescription = long_string(f"{algorithm.name} {algorithm.version}")
    region.ROIDerivationAlgorithmIdentificationSequence = [derivation]
    return region


def _observation(number: int, label: Label, algorithm: Algorithm) -> Dataset:
    from pydicom.dataset import Dataset

    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.SegmentedPropertyCategoryCodeSequence = [_code(label.category)]
    identification = _code(label.type)
    if label.laterality is not None:
        identification.SegmentedPropertyTypeModifierCodeSequence = [_code(label.laterality)]
    observation.RTROIIdentificationCodeSequence = [identification]
    is_organ = label.category.value in _ANATOMICAL_STRUCTURE
    observation.RTROIInterpretedType = "ORGAN" if is_organ else ""
    observation.ROIInterpreter = ""
    return observation


def _region_contours(number: int, label: Label, contours: Iterator[Dataset]) -> Dataset:
    from pydicom.dataset import Dataset

    region = Dataset()
    region.ReferencedROINumber = number
    region.ROIDisplayColor = list(label.color_rgb)
    region.ContourSequence = list(contours)
    for position, contour in enumerate(region.ContourSequence, start=1):
        contour.ContourNumber = position
    return region


def _contours(
    mask: npt.NDArray[np.bool_], planes: SlicePlanes, images: Sequence[Dataset]
) -> Iterator[Dataset]:
    """Contours of a ``(slices, rows, columns)`` mask, slice by slice."""
    from pydicom.dataset import Dataset

    for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        for points in polygons(mask[index]):
            contour = Dataset()
            contour.ContourImageSequence = [images[index]]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour[_CONTOUR_DATA] = _contour_data(planes.to_patient_mm(index, points))
            yield contour


def _contour_data(points_mm: npt.NDArray[np.float64]) -> RawDataElement:
    """``(n, 3)`` LPS as it is encoded, to the micrometre: decimal strings one by one are slow."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    text = "\\".join([f"{value:.3f}" for value in points_mm.ravel().tolist()])
    value = (text + " " * (len(text) % 2)).encode("ascii")
    return RawDataElement(Tag(_CONTOUR_DATA), "DS", len(value), value, 0, True, True)


def _code(code: Code) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item
