"""The segments of a Segmentation (PS3.3 C.8.20.2): their numbers, codes, colours and tracking.

Only labels that occur become segments, and they are numbered from 1 without a gap in the order of
their label values. Number, codes and tracking of a label are the same in every form of one result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ai_models.array.labels import values_in
from ai_models.types import Algorithm, Code, Label, LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results.equipment import DEMONSTRATION, long_string
from dicom_node.results.identity import ResultIdentity
from sr_templates.codes import NOT_CHECKED


def segment_numbers(label_map: LabelMap, labels: Sequence[Label]) -> dict[int, int]:
    """Label value to segment number, for the labels that occur in ``label_map``.

    Raises
    ------
    GateRefused
        ``gate.labels``: the map holds a value that no label describes.
    """
    return numbered(values_in(label_map), labels)


def numbered(values: Sequence[int], labels: Sequence[Label]) -> dict[int, int]:
    """Label value to segment number for the ``values`` that occur; errors as above."""
    undescribed = set(values) - {label.value for label in labels}
    if undescribed:
        raise GateRefused(
            f"the label map holds values without a label: {sorted(undescribed)}",
            reason="gate.labels",
        )
    return {value: number for number, value in enumerate(sorted(values), start=1)}


def tracking_uid(identity: ResultIdentity, series_instance_uid: str, label: Label) -> str:
    """Tracking UID of a label's finding, the same in the segmentation and in every report."""
    return identity.tracking_uid(series_instance_uid, finding_of(label))


def finding_of(label: Label) -> str:
    """What tells the finding of a label from those of the other labels of a model."""
    laterality = label.laterality.value if label.laterality else ""
    return f"{label.type.scheme}:{label.type.value}:{laterality}:{label.value}"


def kind_of(label: Label) -> str:
    """What a finding must share with one of another examination to be the same."""
    laterality = label.laterality.value if label.laterality else ""
    return f"{label.type.scheme}:{label.type.value}:{laterality}"


def tracking_identifier(label: Label, algorithm: Algorithm) -> str:
    """Readable tracking identifier, the same in the segmentation and in every report."""
    return long_string(f"{algorithm.model_id} {label.name}")


def describe_segments(
    numbers: Mapping[int, int],
    labels: Sequence[Label],
    algorithm: Algorithm,
    identity: ResultIdentity,
    series_instance_uid: str,
) -> list[Any]:
    """Items of the Segment Sequence for ``numbers`` (label value to segment number), in order."""
    by_value = {label.value: label for label in labels}
    return [
        _describe_segment(
            number,
            by_value[value],
            algorithm,
            tracking_uid(identity, series_instance_uid, by_value[value]),
        )
        for value, number in numbers.items()
    ]


def _describe_segment(number: int, label: Label, algorithm: Algorithm, uid: str) -> Any:
    import highdicom as hd
    from highdicom.color import CIELabColor

    name = f"{DEMONSTRATION} - {label.name}" if algorithm.demonstration else label.name
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=long_string(label.name),
        segmented_property_category=_concept(label.category),
        segmented_property_type=_concept(label.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=long_string(algorithm.name),
            family=_concept(algorithm.family),
            version=long_string(algorithm.version),
            source=long_string(algorithm.manufacturer),
            parameters=_parameters(algorithm),
        ),
        tracking_uid=uid,
        tracking_id=tracking_identifier(label, algorithm),
        anatomic_regions=[_concept(label.anatomic_region)] if label.anatomic_region else None,
        display_color=CIELabColor.from_rgb(*label.color_rgb),
    )
    description.SegmentDescription = name[:1024]
    if label.laterality is not None:
        item = description.SegmentedPropertyTypeCodeSequence[0]
        item.SegmentedPropertyTypeModifierCodeSequence = [_concept(label.laterality)]
    return description


def _parameters(algorithm: Algorithm) -> dict[str, str]:
    weights = algorithm.weights_sha256 or NOT_CHECKED
    parameters = {"weights_sha256": weights, **algorithm.parameters}
    return {key: value.replace("\\", "/") for key, value in parameters.items()}


def _concept(code: Code) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)
