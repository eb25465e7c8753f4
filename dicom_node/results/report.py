"""Structured reports on what a model found (PS3.16 TID 1500).

On a segmentation there are two documents, never one: the volumetric one measures the segments,
the planar one outlines the largest section of each label on a source image, for viewers that show
nothing of the first. Numbers of a whole image have a report of their own, and so has the text of a
language model. When nothing was found there is one negative report and no Segmentation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ai_models.types import Code, Label, LabelMap
from dicom_node.errors import ConfigurationError, GateRefused
from dicom_node.results.evidence import references_to
from dicom_node.results.report_document import (
    DocumentSource,
    build_document,
    language_of,
    made_from,
    observer_of,
)
from dicom_node.results.report_findings import (
    Finder,
    check_outputs,
    image_groups,
    volumetric_groups,
)
from dicom_node.results.report_numbers import SegmentMeasurement, is_at_detector
from dicom_node.results.request import Reference, ResultRequest
from dicom_node.results.segmentation import segment_numbers
from sr_templates.measurement_groups import Finding, PlanarRegion, WholeImage
from sr_templates.measurement_report import ReportContent
from sr_templates.narrative import Narrator, pieces
from sr_templates.report_template import ReportTemplate, Scale
from sr_templates.template import TemplateError, load_template

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_AT_DETECTOR = "lengths and areas are those at the detector, larger than in the patient"
_ON_SEGMENTS = frozenset({"segmentation", "detection"})
_ON_IMAGES = frozenset({"classification", "regression"})


def build_volumetric_report(
    request: ResultRequest,
    segmentation: Dataset,
    label_map: LabelMap,
    measurements: Mapping[int, SegmentMeasurement],
    *,
    series_number: int,
) -> Dataset:
    """Report with one TID 1411 group per segment, and one for all of them together.

    ``measurements`` maps label values to what was measured, a number for each name that the
    template asks for; ``label_map`` must be the one that ``segmentation`` was built from. The
    group of all segments pools mean and standard deviation by voxel counts.

    Raises
    ------
    ConfigurationError
        There is no such template, or it does not know the modality of the source.
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``).
    GateRefused
        ``gate.not_finite``, ``gate.out_of_range``, ``gate.missing_number``.
    """
    writer = _Writer(request)
    numbers = segment_numbers(label_map, request.labels)
    findings = writer.finder.volumetric(segmentation, label_map, numbers, measurements)
    missed = [label for label in request.labels if label.value not in numbers]
    source = writer.made_from(references_to([segmentation]))
    return writer.written("volumetric", series_number, source, findings, missed)


def build_planar_report(
    request: ResultRequest, label_map: LabelMap, *, series_number: int
) -> Dataset | None:
    """Report with one TID 1410 group per label: its largest section as a closed polygon.

    Returns ``None`` when no label occurs or the template has no planar measurements. Raises as
    ``build_volumetric_report`` does.
    """
    numbers = segment_numbers(label_map, request.labels)
    if not numbers or _template(request).planar is None:
        return None
    writer = _Writer(request)
    found = [label for label in request.labels if label.value in numbers]
    missed = [label for label in request.labels if label.value not in numbers]
    findings = writer.finder.planar(label_map, found)
    outlined = {
        finding.where.sop_instance_uid
        for finding in findings
        if isinstance(finding.where, PlanarRegion)
    }
    images = [image for image in writer.sources if str(image.SOPInstanceUID) in outlined]
    source = writer.made_from(references_to(images))
    return writer.written("planar", series_number, source, findings, missed)


def build_image_report(
    request: ResultRequest,
    *,
    series_number: int,
    explanation: Reference | Mapping[str, Reference] | None = None,
) -> Dataset:
    """Report on ``request.outputs``: one TID 1501 group per ``image`` group of the template.

    ``explanation`` is a Parametric Map or Secondary Capture that shows what the model looked at,
    to which every group refers (Visual explanation, 130401 DCM); or there is one for each output,
    to which the group of that output refers. Where every evaluation came out
    as a term that the template calls negative, the report also gives its coded negative answer.

    Raises
    ------
    ConfigurationError, UnsuitableInput
        As ``build_volumetric_report``; also when the template has no ``image`` groups.
    GateRefused
        ``gate.not_finite``, ``gate.out_of_range``, ``gate.missing_number``, or
        ``gate.unknown_number`` for an output that the template does not report.
    """
    writer = _Writer(request)
    image_groups(writer.template)
    findings = writer.finder.image(explanation)
    if isinstance(explanation, Reference):
        cited = [explanation]
    else:
        cited = list(dict.fromkeys((explanation or {}).values()))
    key = {
        uid for one in findings if isinstance(one.where, WholeImage)
        for _, uid, _ in one.where.key_images
    }
    named = [image for image in writer.sources if str(image.SOPInstanceUID) in key]
    source = writer.made_from([*cited, *references_to(named)])
    return writer.written("image", series_number, source, findings)


def build_negative_report(request: ResultRequest, *, series_number: int) -> Dataset:
    """The explicit answer that the algorithm ran and found nothing it looks for."""
    writer = _Writer(request)
    return writer.written("negative", series_number, writer.made_from(), ())


def build_text_report(request: ResultRequest, text: str, *, series_number: int) -> Dataset:
    """The sentences of a language model as a draft: comments, no measurements and no codes.

    It opens with the algorithm and with what it is, in ``request.language``, which should be that
    of ``text``; then come the lines of ``text`` as they are. It is preliminary whatever the
    request says, and never the answer that nothing was found.

    Raises
    ------
    ConfigurationError, UnsuitableInput
        As ``build_volumetric_report``.
    GateRefused
        ``gate.empty``: there are no words in ``text``.
    """
    if not pieces(text):
        raise GateRefused("the model wrote nothing", reason="gate.empty")
    return _Writer(replace(request, is_final=False)).drafted(text, series_number)


class _Writer:
    """Template, repaired headers and language of one report, and the way to its document."""

    def __init__(self, request: ResultRequest) -> None:
        self.request = request
        self.template = _template(request)
        self.sources, self._notes = request.normalised()
        self._language = language_of(request)
        self._narrator = Narrator(self._language, self.template.sentences)
        self.finder = Finder(request, self.template, self._language, self.sources)

    def made_from(self, cited: Sequence[Reference] = ()) -> DocumentSource:
        """The source of the report, with what was analysed together with it."""
        return made_from(self.sources, cited, self.request.further_images)

    def written(
        self,
        kind: str,
        series_number: int,
        source: DocumentSource,
        findings: Sequence[Finding],
        not_found: Sequence[Label] = (),
    ) -> Dataset:
        """The document; ``not_found`` are labels that have no group."""
        template, request = self.template, self.request
        answer = template.nothing_found
        content = replace(
            self._content(self._comments(findings, not_found)),
            findings=tuple(findings),
            answers=((answer.concept, answer.value),) if answer and _is_negative(findings) else (),
        )
        schemes = {
            designator: (scheme.name, scheme.responsible_organization)
            for designator, scheme in template.coding_schemes.items()
        }
        return build_document(
            request, content, source, kind, series_number=series_number, coding_schemes=schemes
        )

    def drafted(self, text: str, series_number: int) -> Dataset:
        """The document of a language model's ``text``."""
        request, say = self.request, self._narrator
        content = self._content([
            *say.opening(
                request.algorithm, is_complete=request.is_complete, lacking=request.lacking
            ),
            *say.draft(text),
            *say.closing((), (*request.input_notes, *self._notes)),
        ])
        return build_document(
            request, content, self.made_from(), "text", series_number=series_number
        )

    def _content(self, comments: Sequence[str]) -> ReportContent:
        request = self.request
        return ReportContent(
            title=self.template.title,
            language=self._language,
            procedure=self._procedure(),
            algorithm=request.algorithm,
            observer=observer_of(request.equipment),
            comments=tuple(comments),
        )

    def _comments(self, findings: Sequence[Finding], not_found: Sequence[Label]) -> list[str]:
        request, say = self.request, self._narrator
        on_images = any(not isinstance(one.where, WholeImage) for one in findings)
        lengths = [_AT_DETECTOR] if on_images and is_at_detector(self.sources[0]) else []
        names = [one.name for one in findings if one.evaluated] or self._names(request.labels)
        return [
            *say.opening(
                request.algorithm, is_complete=request.is_complete, lacking=request.lacking
            ),
            *([say.nothing_found(names)] if _is_negative(findings) else []),
            *(say.finding(one.name, one.measured, one.evaluated) for one in findings),
            *(say.not_answered(one.name, one.without) for one in findings if one.without),
            *(say.highest_in(one.name, one.highest_in) for one in findings
              if one.highest_in is not None),
            *(say.agreeing(one.name, *one.agreeing) for one in findings
              if one.agreeing is not None),
            *(say.differing(one.name, one.differing) for one in findings if one.differing),
            *say.thresholds(self._scales()),
            *self._followed(),
            *say.closing(self._names(not_found), (), is_analysed=True),
            *say.known(request.calibrated, request.evidence, request.not_for),
            *say.closing((), (*request.input_notes, *self._notes, *lengths)),
        ]

    def _scales(self) -> list[Scale]:
        """Those on which outputs of the whole were set."""
        given = {*self.request.outputs, *self.request.undetermined}
        groups = self.template.image if given else ()
        limits = [one.largest_of.limit for one in groups if one.largest_of is not None]
        return [
            *(self.template.scales[key] for group in groups
              for name, key in group.evaluations.items() if name in given),
            *(one for one in limits if one is not None),
        ]

    def _followed(self) -> list[str]:
        """What became of the findings since an earlier examination."""
        known = self.request.follow_up
        return [] if known is None else known.told(
            self._narrator, self.request.labels,
            lambda name: self.template.name_of(name, self._language),
        )

    def _names(self, labels: Sequence[Label]) -> list[str]:
        return [self.template.name_of(label.name, self._language) for label in labels]

    def _procedure(self) -> Code:
        modality = str(self.sources[0].Modality)
        procedure = self.template.procedure_reported.get(modality)
        if procedure is None:
            raise ConfigurationError(
                f"template {self.template.name} names no procedure for modality {modality}",
                key_path="procedure_reported",
            )
        return procedure


def _is_negative(findings: Sequence[Finding]) -> bool:
    """Whether there is nothing, or every evaluation says so."""
    terms = [one.term for finding in findings for one in finding.evaluated]
    return not findings or (bool(terms) and all(term.negative for term in terms))


def template_sha256(name: str, folder: Path | None) -> str:
    """Digest of a report template: another template makes other reports.

    Raises
    ------
    ConfigurationError
        There is no such template in ``folder`` or among those that are built in.
    """
    return _loaded(name, folder).fingerprint


def check_template(
    name: str, folder: Path | None, task: str = "segmentation", outputs: Collection[str] = (),
    conditional: Collection[str] = (),
) -> None:
    """Refuse a template that no result of a task could be reported with.

    Segmentation and detection need groups on segments, classification and regression groups on
    whole images that report all ``outputs`` and ask for no others; text needs none. Of those
    ``outputs`` that are ``conditional`` the groups can say that they are undetermined.

    Raises
    ------
    ConfigurationError
        There is no such template, it is wrong, or it lacks what the task needs.
    """
    template = _loaded(name, folder)
    if task in _ON_SEGMENTS:
        volumetric_groups(template)
    elif task in _ON_IMAGES:
        check_outputs(template, outputs, conditional)


def _template(request: ResultRequest) -> ReportTemplate:
    return _loaded(request.template, request.template_folder)


def _loaded(name: str, folder: Path | None) -> ReportTemplate:
    try:
        return load_template(name, folder)
    except TemplateError as problem:
        raise ConfigurationError(str(problem), key_path="report") from problem
