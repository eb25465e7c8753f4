"""A template and measurements as the content tree of a Measurement Report (PS3.16 TID 1500).

Volumetric groups (TID 1411) refer to segments, planar groups (TID 1410) to a polygon on one
image; a report holds groups of one kind only, because viewers drop a report that mixes them.
Sentences stand as Comments in the report's Qualitative Evaluations (TID 1500 rows 12 and 14).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ai_models.types import Algorithm, Code
from sr_templates import codes
from sr_templates.image_library import image_library
from sr_templates.template import MeasurementTemplate, ReportTemplate, TemplateError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class SegmentReference:
    """Segments of one Segmentation, and the series that it was made from."""

    sop_class_uid: str
    sop_instance_uid: str
    segment_numbers: tuple[int, ...]
    source_series_instance_uid: str


@dataclass(frozen=True)
class PlanarRegion:
    """A closed polygon on one image.

    ``points`` is ``(n, 2)``, (column, row) with the corner of the first pixel at 0, 0 and its
    centre at 0.5, 0.5; the last point equals the first (PS3.3 C.18.6.1.2).
    """

    points: npt.NDArray[np.float64]
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True)
class Finding:
    """One measurement group. ``measurements`` maps a template's names to numbers."""

    name: str
    category: Code
    type: Code
    laterality: Code | None
    tracking_identifier: str
    tracking_uid: str
    measurements: Mapping[str, float]
    where: SegmentReference | PlanarRegion
    anatomic_region: Code | None = None


@dataclass(frozen=True)
class Observer:
    """The device that made the report (PS3.16 TID 1004)."""

    uid: str
    name: str
    manufacturer: str
    model_name: str
    serial_number: str


@dataclass(frozen=True)
class ReportContent:
    """What one report says."""

    template: ReportTemplate
    rows: tuple[MeasurementTemplate, ...]
    findings: tuple[Finding, ...]
    algorithm: Algorithm
    observer: Observer
    modality: str
    comments: tuple[str, ...] = field(default=())


def build_content(content: ReportContent, first_image: Dataset) -> Dataset:
    """Root container of the report.

    Parameters
    ----------
    content
        What it says; without findings it is the explicit negative answer.
    first_image
        Header of one analysed image: the Image Library describes what it shares with the others,
        and ``image_library.add_images`` adds them to the finished document.

    Raises
    ------
    KeyError
        A finding lacks a measurement that the template asks for.
    TemplateError
        The template names no procedure for this modality.
    ValueError
        The findings are of both kinds.
    """
    import highdicom as hd

    if len({type(finding.where) for finding in content.findings}) > 1:
        raise ValueError("a report must not mix volumetric and planar groups")
    root = hd.sr.ContainerContentItem(
        name=codes.concept(content.template.title), template_id="1500"
    )
    items: list[Any] = list(
        hd.sr.LanguageOfContentItemAndDescendants(codes.concept(content.template.language))
    )
    items += list(_observation_context(content.observer))
    items.append(_code_item(codes.PROCEDURE_REPORTED, _procedure(content), "HAS CONCEPT MOD"))
    items.append(image_library(first_image))
    if content.findings:
        items.append(_imaging_measurements(content))
    items.append(_qualitative_evaluations(content))
    root.ContentSequence = hd.sr.ContentSequence(items)
    tree: Dataset = root
    return tree


def _procedure(content: ReportContent) -> Code:
    procedure = content.template.procedure_reported.get(content.modality)
    if procedure is None:
        raise TemplateError(
            f"template {content.template.name} names no procedure for modality {content.modality}"
        )
    return procedure


def _observation_context(observer: Observer) -> Any:
    import highdicom as hd

    attributes = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=observer.uid,
        name=observer.name,
        manufacturer_name=observer.manufacturer,
        model_name=observer.model_name,
        serial_number=observer.serial_number,
    )
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(codes.concept(codes.DEVICE), attributes)
    )


def _imaging_measurements(content: ReportContent) -> Any:
    import highdicom as hd

    container = hd.sr.ContainerContentItem(
        name=codes.concept(codes.IMAGING_MEASUREMENTS), relationship_type="CONTAINS"
    )
    groups: list[Any] = []
    for finding in content.findings:
        groups.extend(_group(finding, content))
    container.ContentSequence = hd.sr.ContentSequence(groups)
    return container


def _group(finding: Finding, content: ReportContent) -> Any:
    import highdicom as hd

    site = codes.concept(finding.anatomic_region or finding.type)
    laterality = codes.concept(finding.laterality) if finding.laterality else None
    common: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=finding.tracking_uid, identifier=finding.tracking_identifier
        ),
        "finding_category": codes.concept(finding.category),
        "finding_type": codes.concept(finding.type),
        "finding_sites": [hd.sr.FindingSite(site, laterality=laterality)],
        "algorithm_id": _algorithm(content.algorithm),
        "measurements": [_measurement(row, finding.measurements) for row in content.rows],
    }
    if isinstance(finding.where, SegmentReference):
        return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_segment(finding.where), **common
        )
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=_region(finding.where), **common
    )


def _segment(where: SegmentReference) -> Any:
    import highdicom as hd

    numbers: Any = list(where.segment_numbers)
    return hd.sr.ReferencedSegment(
        sop_class_uid=where.sop_class_uid,
        sop_instance_uid=where.sop_instance_uid,
        segment_number=numbers if len(numbers) > 1 else numbers[0],
        source_series=hd.sr.SourceSeriesForSegmentation(where.source_series_instance_uid),
    )


def _region(where: PlanarRegion) -> Any:
    import highdicom as hd

    frames = None if where.frame_number is None else [where.frame_number]
    return hd.sr.ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=where.points,
        source_image=hd.sr.SourceImageForRegion(
            where.sop_class_uid, where.sop_instance_uid, referenced_frame_numbers=frames
        ),
    )


def _algorithm(algorithm: Algorithm) -> Any:
    import highdicom as hd

    parameters = [f"model={algorithm.model_id}", f"weights_sha256={algorithm.weights_sha256}"]
    parameters += [f"{key}={value}" for key, value in sorted(algorithm.parameters.items())]
    return hd.sr.AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=parameters,
        family=codes.concept(algorithm.family),
        manufacturer=algorithm.manufacturer,
    )


def _measurement(row: MeasurementTemplate, measurements: Mapping[str, float]) -> Any:
    import highdicom as hd

    return hd.sr.Measurement(
        name=codes.concept(row.concept),
        value=round(float(measurements[row.measurement]), row.decimals),
        unit=codes.concept(row.unit),
        derivation=codes.concept(row.derivation) if row.derivation else None,
    )


def _qualitative_evaluations(content: ReportContent) -> Any:
    import highdicom as hd

    container = hd.sr.ContainerContentItem(
        name=codes.concept(codes.QUALITATIVE_EVALUATIONS), relationship_type="CONTAINS"
    )
    items = [
        hd.sr.TextContentItem(
            name=codes.concept(codes.COMMENT), value=comment, relationship_type="CONTAINS"
        )
        for comment in content.comments
    ]
    if not content.findings:
        answer = content.template.nothing_found
        items.insert(0, _code_item(answer.concept, answer.value, "CONTAINS"))
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def _code_item(name: Code, value: Code, relationship: str) -> Any:
    import highdicom as hd

    return hd.sr.CodeContentItem(
        name=codes.concept(name), value=codes.concept(value), relationship_type=relationship
    )
