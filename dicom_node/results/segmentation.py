"""A label map as a DICOM Segmentation (PS3.3 A.51): BINARY, uncompressed, on the source grid.

One frame per segment per slice in which it occurs. Only labels that occur become segments, and
they are numbered from 1 without a gap in the order of their label values (PS3.3 C.8.20.2);
``segment_numbers`` says which label became which segment.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ai_models.types import Algorithm, Code, Label, LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results.equipment import (
    DEMONSTRATION,
    Equipment,
    algorithm_equipment,
    describe,
    long_string,
)
from dicom_node.results.finish import finish, local_time
from dicom_node.results.headers import normalise
from dicom_node.results.identity import ResultIdentity

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def segment_numbers(label_map: LabelMap, labels: Sequence[Label]) -> dict[int, int]:
    """Label value to segment number, for the labels that occur in ``label_map``.

    Raises
    ------
    GateRefused
        ``gate.labels``: the map holds a value that no label describes.
    """
    present = np.zeros(256, bool)
    for plane in label_map:
        present |= np.bincount(plane[plane > 0], minlength=256) > 0
    values = {int(value) for value in np.flatnonzero(present)}
    undescribed = values - {label.value for label in labels}
    if undescribed:
        raise GateRefused(
            f"the label map holds values without a label: {sorted(undescribed)}",
            reason="gate.labels",
        )
    return {value: number for number, value in enumerate(sorted(values), start=1)}


def tracking_uid(identity: ResultIdentity, series_instance_uid: str, label: Label) -> str:
    """Tracking UID of a label's finding, the same in the segmentation and in every report."""
    laterality = label.laterality.value if label.laterality else ""
    finding = f"{label.type.scheme}:{label.type.value}:{laterality}:{label.value}"
    return identity.tracking_uid(series_instance_uid, finding)


def build_segmentation(
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: tuple[Label, ...],
    algorithm: Algorithm,
    identity: ResultIdentity,
    *,
    series_number: int,
    equipment: Equipment,
    created_at: datetime,
) -> Dataset | None:
    """Build the Segmentation of ``label_map``.

    Parameters
    ----------
    source_images
        Headers of the source in slice order, pixel data not needed; one data set for an
        enhanced multi-frame source.
    frame_numbers
        1-based frame of each slice of ``label_map``; all 1 for single-frame sources.
    label_map
        ``(slices, rows, columns)`` uint8 on the grid of the source.
    created_at
        Becomes content, series and instance creation time (see ``finish.local_time``).

    Returns
    -------
    Dataset or None
        ``None`` when no label occurs: an empty Segmentation says nothing and breaks viewers.

    Raises
    ------
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``).
    GateRefused
        ``gate.labels``: undescribed values; ``gate.shape``: the map is not on the source grid.
    """
    numbers = segment_numbers(label_map, labels)
    if not numbers:
        return None
    sources, _ = normalise(source_images)
    pixels = _in_source_frames(_renumbered(label_map, numbers), sources, frame_numbers)
    by_value = {label.value: label for label in labels}
    series_uid = str(sources[0].SeriesInstanceUID)
    descriptions = [
        _describe_segment(
            number, by_value[value], algorithm, tracking_uid(identity, series_uid, by_value[value])
        )
        for value, number in numbers.items()
    ]
    moment = local_time(created_at, sources[0])
    segmentation = _construct(
        sources, pixels, descriptions, algorithm, identity, series_number, equipment, moment
    )
    _set_dimension_organization(segmentation, identity.uid("segmentation.dimensions"))
    return finish(segmentation, sources[0], equipment, moment)


def _construct(
    sources: Sequence[Dataset],
    pixels: LabelMap,
    descriptions: Sequence[Any],
    algorithm: Algorithm,
    identity: ResultIdentity,
    series_number: int,
    equipment: Equipment,
    moment: datetime,
) -> Any:
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type="BINARY",
            segment_descriptions=descriptions,
            series_instance_uid=identity.uid("segmentation.series"),
            series_number=series_number,
            sop_instance_uid=identity.uid("segmentation.instance"),
            instance_number=1,
            manufacturer=equipment.manufacturer,
            manufacturer_model_name=equipment.model_name,
            software_versions=equipment.software_versions,
            device_serial_number=equipment.device_serial_number,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=True,
            content_label="AI_SEGMENTATION",
            content_description=describe(algorithm.name, algorithm),
            content_creator_name=_person_name(equipment.model_name),
            series_description=describe(f"Segmentation {algorithm.model_id}", algorithm),
            content_date=moment.date(),
            content_time=moment.time(),
            series_date=moment.date(),
            series_time=moment.time(),
            specific_character_set="ISO_IR 192",
            contributing_equipment=[algorithm_equipment(algorithm)],
        )


def _set_dimension_organization(segmentation: Any, organization_uid: str) -> None:
    segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization_uid
    for index in segmentation.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization_uid


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


def tracking_identifier(label: Label, algorithm: Algorithm) -> str:
    """Readable tracking identifier, the same in the segmentation and in every report."""
    return long_string(f"{algorithm.model_id} {label.name}")


def _parameters(algorithm: Algorithm) -> dict[str, str]:
    parameters = {"weights_sha256": algorithm.weights_sha256, **algorithm.parameters}
    return {key: value.replace("\\", "/") for key, value in parameters.items()}


def _concept(code: Code) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _person_name(model_name: str) -> str:
    return "".join(c for c in long_string(model_name) if c not in "^=\\") + "^AI"


def _renumbered(label_map: LabelMap, numbers: dict[int, int]) -> LabelMap:
    if all(value == number for value, number in numbers.items()):
        return label_map
    table = np.zeros(256, np.uint8)
    for value, number in numbers.items():
        table[value] = number
    renumbered: LabelMap = table[label_map]
    return renumbered


def _in_source_frames(
    label_map: LabelMap, sources: Sequence[Dataset], frame_numbers: Sequence[int]
) -> LabelMap:
    """``label_map`` with one plane per source frame, in the order of the source's own frames."""
    first = sources[0]
    frames = int(first.get("NumberOfFrames") or 1)
    slices = len(frame_numbers)
    grid = (slices, int(first.Rows), int(first.Columns))
    expected = len(sources) if len(sources) > 1 or frames == 1 else slices
    if label_map.shape != grid or slices != expected or max(frame_numbers) > frames:
        raise GateRefused(
            f"the label map is {label_map.shape} where the source has {grid}", reason="gate.shape"
        )
    if len(sources) > 1 or frames == 1:
        return label_map
    ordered: LabelMap = np.zeros((frames, *grid[1:]), np.uint8)
    ordered[np.asarray(frame_numbers) - 1] = label_map
    return ordered
