"""What the node keeps of a result, read back into what builders of other forms need.

Whether a form is built with the job or years later, from the objects in memory or from their
files, it is built from what the kept objects say: so it is the same object each time. Its UIDs
derive from those of the kept objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset

from ai_models.types import Algorithm, Code, FloatArray, Label
from dicom_node.results.equipment import DEMONSTRATION, Equipment
from dicom_node.results.gate_geometry import planes_of_frames, source_grid
from dicom_node.results.identity import TrackedIdentity
from dicom_node.results.profile import REPORT_KINDS
from dicom_node.results.report_forms import in_words, is_named, items
from dicom_node.results.report_text import report_text, value_text
from dicom_node.results.request import Reference, ResultRequest
from dicom_node.results.segmentation_segments import finding_of
from sr_templates.codes import NOT_CHECKED

Kept = Sequence[tuple[str, Dataset]]
"""Kind and data set of each kept object, in the order in which they were made."""

_LANGUAGE = "121049"
_QUALITATIVE_EVALUATIONS = "C0034375"
_MEASUREMENT_GROUP = "125007"
_REFERENCED_SEGMENT = "121191"
_ALGORITHM_NAME, _ALGORITHM_VERSION = "111001", "111003"
_ALGORITHM_MANUFACTURER, _ALGORITHM_FAMILY = "122405", "111000"
_ALGORITHM_PARAMETERS = "111002"
_PROCESSING_EQUIPMENT = "109102"
_ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
# Saliency, class activation, gradient-weighted class activation (PS3.16 Annex D).
_SALIENCY = frozenset({"130404", "130402", "130403"})
_MODEL = re.compile(r"(?:model (?P<model>[^,]+), )?weights sha256 (?P<sha256>[0-9a-f]{64}\b)?")


def request_from(
    objects: Kept,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    equipment: Equipment,
) -> ResultRequest:
    """The request that ``objects`` were built from, as far as they tell.

    Labels are those that were found, and their values are segment numbers: those of the label
    map that ``gate.read_label_map`` returns. ``template`` and ``outputs`` are not in the objects
    and empty. The objects hold at least one report.
    """
    report = reports_of(objects)[0]
    algorithm = _algorithm(objects)
    labels: dict[Label, str] = {}
    for kind, segmentation in objects:
        if kind == "segmentation":
            labels = {_label(one): str(one.TrackingUID) for one in segmentation.SegmentSequence}
    identity = TrackedIdentity(
        input_digests={str(one.SOPInstanceUID): "kept" for _, one in objects},
        model_id=algorithm.model_id,
        model_version=algorithm.version,
        weights_sha256=algorithm.weights_sha256,
        tracking_uids={finding_of(label): uid for label, uid in labels.items()},
    )
    return ResultRequest(
        source_images=source_images,
        frame_numbers=frame_numbers,
        labels=tuple(labels),
        algorithm=algorithm,
        identity=identity,
        equipment=equipment,
        created_at=_created_at(report),
        template="",
        language=_language(report),
        predecessors=tuple(_predecessors(report)),
        is_final=report.get("PreliminaryFlag") == "FINAL",
        is_complete=report.get("CompletionFlag") == "COMPLETE",
    )


def reports_of(objects: Kept) -> list[Dataset]:
    """The reports among ``objects``."""
    return [dataset for kind, dataset in objects if kind in REPORT_KINDS]


def sentences_of(objects: Kept) -> list[str]:
    """What the reports tell their reader, each sentence once, in their language."""
    sentences = [one for report in reports_of(objects) for one in report_text(report).sentences]
    return list(dict.fromkeys(sentences))


def codes_in_words_of(objects: Kept) -> list[str]:
    """What the reports say in codes and numbers, as English sentences."""
    sentences = []
    for report in reports_of(objects):
        for section in report.ContentSequence:
            if is_named(section, _QUALITATIVE_EVALUATIONS):
                sentences += [
                    f"{item.ConceptNameCodeSequence[0].CodeMeaning}: "
                    f"{item.ConceptCodeSequence[0].CodeMeaning}"
                    for item in section.get("ContentSequence", [])
                    if item.ValueType == "CODE"
                ]
        sentences += [
            in_words(item) for item in items(report) if is_named(item, _MEASUREMENT_GROUP)
        ]
    return list(dict.fromkeys(sentences))


def quantities_of(objects: Kept) -> dict[int, str]:
    """Segment number to the first number that a report gives for that segment alone."""
    quantities: dict[int, str] = {}
    for report in reports_of(objects):
        for group in items(report):
            number = _segment_measured(group)
            numbers = [one for one in group.get("ContentSequence", []) if one.ValueType == "NUM"]
            if number is not None and numbers:
                quantities.setdefault(number, value_text(numbers[0]))
    return quantities


def saliency_of(
    objects: Kept, source_images: Sequence[Dataset], frame_numbers: Sequence[int]
) -> dict[str, FloatArray]:
    """Name to values ``(slices, rows, columns)`` of each map that shows where a model looked.

    Raises
    ------
    GateRefused
        ``gate.geometry``: a map does not lie on the source.
    """
    found = {}
    for kind, parametric_map in objects:
        if kind == "parametric map" and _quantity(parametric_map) in _SALIENCY:
            grid = source_grid(source_images, frame_numbers)
            frames = np.frombuffer(parametric_map.FloatPixelData, "<f4")
            rows, columns = int(parametric_map.Rows), int(parametric_map.Columns)
            values: FloatArray = np.zeros((len(frame_numbers), rows, columns), np.float32)
            planes = planes_of_frames(parametric_map, grid)
            values[planes] = frames.reshape(-1, rows, columns)
            found[_undemonstrated(str(parametric_map.ContentDescription))] = values
    return found


def _quantity(parametric_map: Dataset) -> str:
    shared = parametric_map.SharedFunctionalGroupsSequence[0]
    frame = parametric_map.PerFrameFunctionalGroupsSequence[0]
    groups = shared.get("RealWorldValueMappingSequence") or frame.RealWorldValueMappingSequence
    definition = groups[0].QuantityDefinitionSequence[0]
    return str(definition.ConceptCodeSequence[0].CodeValue)


def _segment_measured(group: Dataset) -> int | None:
    for item in group.get("ContentSequence", []):
        if is_named(item, _REFERENCED_SEGMENT):
            numbers = item.ReferencedSOPSequence[0].ReferencedSegmentNumber
            return int(numbers) if isinstance(numbers, int) else None
    return None


def _label(segment: Dataset) -> Label:
    from highdicom.color import CIELabColor

    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    lab = [int(value) for value in segment.RecommendedDisplayCIELabValue]
    red, green, blue = CIELabColor.from_dicom_value(lab).to_rgb(clip=True)
    return Label(
        value=int(segment.SegmentNumber),
        name=_undemonstrated(str(segment.get("SegmentDescription") or segment.SegmentLabel)),
        category=_code(segment.SegmentedPropertyCategoryCodeSequence[0]),
        type=_code(kind),
        color_rgb=(round(red), round(green), round(blue)),
        laterality=_first_code(kind, "SegmentedPropertyTypeModifierCodeSequence"),
        anatomic_region=_first_code(segment, "AnatomicRegionSequence"),
    )


def _algorithm(objects: Kept) -> Algorithm:
    """TID 4019 of the reports where there is one, the contributing equipment otherwise."""
    report = reports_of(objects)[0]
    equipment = next(
        item
        for item in report.ContributingEquipmentSequence
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == _PROCESSING_EQUIPMENT
    )
    description = str(equipment.get("ContributionDescription", ""))
    stated = _MODEL.search(description)
    parameters = _parameters(objects)
    tree = [item for one in reports_of(objects) for item in items(one)]
    texts = {
        name: next((str(one.TextValue) for one in tree if is_named(one, name)), "")
        for name in (_ALGORITHM_NAME, _ALGORITHM_VERSION, _ALGORITHM_MANUFACTURER)
    }
    family = next((one for one in tree if is_named(one, _ALGORITHM_FAMILY)), None)
    return Algorithm(
        model_id=parameters.pop("model", "") or (stated and stated["model"]) or "",
        name=texts[_ALGORITHM_NAME] or str(equipment.ManufacturerModelName),
        version=texts[_ALGORITHM_VERSION] or str(equipment.SoftwareVersions),
        manufacturer=texts[_ALGORITHM_MANUFACTURER] or str(equipment.Manufacturer),
        weights_sha256=_digest(parameters.pop("weights_sha256", "")) or _digest(
            stated["sha256"] if stated else ""
        ),
        family=_code(family.ConceptCodeSequence[0]) if family else _ARTIFICIAL_INTELLIGENCE,
        demonstration=description.startswith(DEMONSTRATION),
        parameters=parameters,
    )


def _digest(stated: str | None) -> str:
    """The digest of weights, empty where the object says that nobody checked them."""
    return "" if stated in (None, NOT_CHECKED) else str(stated)


def _parameters(objects: Kept) -> dict[str, str]:
    """The parameters that stand in the first group of the first report that has any."""
    for report in reports_of(objects):
        for group in items(report):
            stated = [
                str(one.TextValue).partition("=")
                for one in group.get("ContentSequence", [])
                if is_named(one, _ALGORITHM_PARAMETERS)
            ]
            if stated:
                return {key: value for key, equals, value in stated if equals and " " not in key}
    return {}


def _created_at(dataset: Dataset) -> datetime:
    """The wall clock of the object, as ``finish.local_time`` takes it: without a zone."""
    text = f"{dataset.InstanceCreationDate}{dataset.InstanceCreationTime}"
    whole, _, fraction = text.partition(".")
    return datetime.strptime(f"{whole}.{fraction or '0'}", "%Y%m%d%H%M%S.%f")  # noqa: DTZ007


def _language(report: Dataset) -> str:
    for item in report.ContentSequence:
        if is_named(item, _LANGUAGE):
            return str(item.ConceptCodeSequence[0].CodeValue).partition("-")[0]
    return "en"


def _predecessors(report: Dataset) -> Iterator[Reference]:
    for study in report.get("PredecessorDocumentsSequence", []):
        for series in study.ReferencedSeriesSequence:
            for one in series.ReferencedSOPSequence:
                yield Reference(
                    str(one.ReferencedSOPClassUID),
                    str(one.ReferencedSOPInstanceUID),
                    str(series.SeriesInstanceUID),
                    str(study.StudyInstanceUID),
                )


def _undemonstrated(text: str) -> str:
    return text.removeprefix(f"{DEMONSTRATION} - ")


def _first_code(item: Dataset, keyword: str) -> Code | None:
    found = item.get(keyword)
    return _code(found[0]) if found else None


def _code(item: Dataset) -> Code:
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))
