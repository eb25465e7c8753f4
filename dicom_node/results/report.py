"""Structured reports on a segmentation: Comprehensive 3D SR, TID 1500 (PS3.3 A.35.13).

Two documents, never one: the volumetric one measures the segments of the Segmentation, the
planar one outlines the largest section of each label on a source image, for viewers that show
nothing of the first. When nothing was found there is one negative report and no Segmentation.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ai_models.types import Code, Label, LabelMap
from dicom_node.errors import ConfigurationError
from dicom_node.results.contours import largest_section
from dicom_node.results.equipment import algorithm_equipment, describe, long_string
from dicom_node.results.evidence import set_evidence
from dicom_node.results.finish import finish, local_time
from dicom_node.results.headers import normalise
from dicom_node.results.report_numbers import (
    SegmentMeasurement,
    numbers_of,
    pixel_spacing_mm,
    pooled,
    thinned,
)
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation import segment_numbers, tracking_identifier, tracking_uid
from sr_templates import narrative
from sr_templates.image_library import add_images
from sr_templates.measurement_report import (
    Finding,
    Observer,
    PlanarRegion,
    ReportContent,
    SegmentReference,
    build_content,
)
from sr_templates.template import (
    MeasurementTemplate,
    ReportTemplate,
    TemplateError,
    TotalTemplate,
    load_template,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def build_volumetric_report(
    request: ResultRequest,
    segmentation: Dataset,
    label_map: LabelMap,
    measurements: Mapping[int, SegmentMeasurement],
    *,
    series_number: int,
) -> Dataset:
    """Report with one TID 1411 group per segment, and one for all of them together.

    ``measurements`` maps label values to what was measured; ``label_map`` must be the one that
    ``segmentation`` was built from. The group of all segments pools mean and standard deviation
    by voxel counts.

    Raises
    ------
    ConfigurationError
        There is no such template, or it does not know the modality of the source.
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``).
    """
    template = _template(request)
    sources, notes = normalise(request.source_images)
    numbers = segment_numbers(label_map, request.labels)
    found = [label for label in request.labels if label.value in numbers]
    findings = [
        _finding(request, label, sources[0], numbers_of(measurements[label.value]), where)
        for label in found
        for where in (_reference(segmentation, (numbers[label.value],), sources[0]),)
    ]
    if template.total is not None and len(found) > 1:
        together = pooled([measurements[label.value] for label in found])
        where = _reference(segmentation, tuple(numbers.values()), sources[0])
        findings.append(
            _total_finding(request, template.total, found[0].category, sources[0], together, where)
        )
    comments = _comments(
        request, template, findings, template.volumetric, template.narrative.finding, notes
    )
    content = _content(request, template, template.volumetric, findings, comments, sources[0])
    return _document(request, content, sources, segmentation, "volumetric", series_number)


def build_planar_report(
    request: ResultRequest, label_map: LabelMap, *, series_number: int
) -> Dataset | None:
    """Report with one TID 1410 group per label: its largest section as a closed polygon.

    Returns ``None`` when no label occurs or the template has no planar measurements.
    """
    template = _template(request)
    numbers = segment_numbers(label_map, request.labels)
    if not numbers or not template.planar:
        return None
    sources, notes = normalise(request.source_images)
    findings = [
        _planar_finding(request, label, label_map, sources)
        for label in request.labels
        if label.value in numbers
    ]
    comments = _comments(
        request, template, findings, template.planar, template.narrative.section, notes
    )
    content = _content(request, template, template.planar, findings, comments, sources[0])
    return _document(request, content, sources, None, "planar", series_number)


def build_negative_report(request: ResultRequest, *, series_number: int) -> Dataset:
    """The explicit answer that the algorithm ran and found nothing it looks for."""
    template = _template(request)
    sources, notes = normalise(request.source_images)
    comments = [
        *narrative.opening(template, request.algorithm),
        narrative.nothing_found(template, request.labels),
        *narrative.closing(template, (), (*request.input_notes, *notes)),
    ]
    content = _content(request, template, (), [], comments, sources[0])
    return _document(request, content, sources, None, "negative", series_number)


def _template(request: ResultRequest) -> ReportTemplate:
    try:
        return load_template(request.template)
    except TemplateError as problem:
        raise ConfigurationError(str(problem), key_path="report") from problem


def _tree(content: ReportContent, source: Dataset) -> Dataset:
    try:
        return build_content(content, source)
    except TemplateError as problem:
        raise ConfigurationError(str(problem), key_path="procedure_reported") from problem


def _finding(
    request: ResultRequest,
    label: Label,
    source: Dataset,
    values: dict[str, float],
    where: SegmentReference | PlanarRegion,
) -> Finding:
    return Finding(
        name=label.name,
        category=label.category,
        type=label.type,
        laterality=label.laterality,
        anatomic_region=label.anatomic_region,
        tracking_identifier=tracking_identifier(label, request.algorithm),
        tracking_uid=tracking_uid(request.identity, str(source.SeriesInstanceUID), label),
        measurements=values,
        where=where,
    )


def _total_finding(
    request: ResultRequest,
    total: TotalTemplate,
    category: Code,
    source: Dataset,
    values: dict[str, float],
    where: SegmentReference,
) -> Finding:
    series_uid = str(source.SeriesInstanceUID)
    return Finding(
        name=total.name,
        category=category,
        type=total.type,
        laterality=total.laterality,
        tracking_identifier=long_string(f"{request.algorithm.model_id} {total.name}"),
        tracking_uid=request.identity.tracking_uid(series_uid, f"total:{total.name}"),
        measurements=values,
        where=where,
    )


def _reference(
    segmentation: Dataset, segments: tuple[int, ...], source: Dataset
) -> SegmentReference:
    return SegmentReference(
        sop_class_uid=str(segmentation.SOPClassUID),
        sop_instance_uid=str(segmentation.SOPInstanceUID),
        segment_numbers=segments,
        source_series_instance_uid=str(source.SeriesInstanceUID),
    )


def _planar_finding(
    request: ResultRequest, label: Label, label_map: LabelMap, sources: Sequence[Dataset]
) -> Finding:
    section = largest_section(label_map, label.value, pixel_spacing_mm(sources[0]))
    several = len(sources) > 1
    image = sources[section.slice_index] if several else sources[0]
    multi_frame = int(image.get("NumberOfFrames") or 1) > 1
    frame = int(request.frame_numbers[section.slice_index]) if multi_frame else None
    values = {"area_mm2": section.area_mm2, "long_axis_mm": section.long_axis_mm}
    where = PlanarRegion(
        points=thinned(section.points),
        sop_class_uid=str(image.SOPClassUID),
        sop_instance_uid=str(image.SOPInstanceUID),
        frame_number=frame,
    )
    return _finding(request, label, sources[0], values, where)


def _comments(
    request: ResultRequest,
    template: ReportTemplate,
    findings: Sequence[Finding],
    rows: Sequence[MeasurementTemplate],
    sentence: str,
    notes: tuple[str, ...],
) -> list[str]:
    names = {finding.name for finding in findings}
    not_found = [label for label in request.labels if label.name not in names]
    return [
        *narrative.opening(template, request.algorithm),
        *(
            narrative.finding_sentence(sentence, finding.name, rows, finding.measurements)
            for finding in findings
        ),
        *narrative.closing(template, not_found, (*request.input_notes, *notes)),
    ]


def _content(
    request: ResultRequest,
    template: ReportTemplate,
    rows: tuple[MeasurementTemplate, ...],
    findings: Sequence[Finding],
    comments: Sequence[str],
    source: Dataset,
) -> ReportContent:
    equipment = request.equipment
    return ReportContent(
        template=template,
        rows=rows,
        findings=tuple(findings),
        algorithm=request.algorithm,
        observer=Observer(
            uid=equipment.device_uid,
            name=equipment.station_name or equipment.model_name,
            manufacturer=equipment.manufacturer,
            model_name=equipment.model_name,
            serial_number=equipment.device_serial_number,
        ),
        modality=str(source.Modality),
        comments=tuple(comments),
    )


def _document(
    request: ResultRequest,
    content: ReportContent,
    sources: Sequence[Dataset],
    segmentation: Dataset | None,
    kind: str,
    series_number: int,
) -> Dataset:
    import highdicom as hd

    moment = local_time(request.created_at, sources[0])
    equipment = request.equipment
    regions = {
        finding.where.sop_instance_uid
        for finding in content.findings
        if isinstance(finding.where, PlanarRegion)
    }
    shown = [image for image in sources[1:] if image.SOPInstanceUID in regions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report: Any = hd.sr.Comprehensive3DSR(
            evidence=[sources[0], *shown, *([] if segmentation is None else [segmentation])],
            content=_tree(content, sources[0]),
            series_instance_uid=request.identity.uid(f"{kind}.series"),
            series_number=series_number,
            sop_instance_uid=request.identity.uid(f"{kind}.instance"),
            instance_number=1,
            manufacturer=equipment.manufacturer,
            manufacturer_model_name=equipment.model_name,
            software_versions=equipment.software_versions,
            device_serial_number=equipment.device_serial_number,
            is_complete=True,
            is_final=request.is_final,
            is_verified=False,
            series_description=describe(
                f"Report {request.algorithm.model_id} {kind}", request.algorithm
            ),
            content_date=moment.date(),
            content_time=moment.time(),
            series_date=moment.date(),
            series_time=moment.time(),
            specific_character_set="ISO_IR 192",
            contributing_equipment=[algorithm_equipment(request.algorithm)],
        )
    add_images(report, sources)
    set_evidence(report, sources, segmentation)
    return finish(report, sources[0], equipment, moment)
