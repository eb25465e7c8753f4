"""Each form of a result, built from the objects that the node keeps and past its gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.types import Label, LabelMap
from dicom_node.errors import GateRefused, UnsuitableInput
from dicom_node.results import gate, report_forms
from dicom_node.results.equipment import Equipment
from dicom_node.results.evidence import references_to
from dicom_node.results.gate_forms import check_report_form
from dicom_node.results.gate_pictures import (
    check_captures,
    check_notice_page,
    check_pdf,
    check_presentation_state,
    check_secondary_captures,
)
from dicom_node.results.gate_selection import check_key_objects, check_selected
from dicom_node.results.gate_structure_set import check_structure_set
from dicom_node.results.headers import Repaired
from dicom_node.results.kept import (
    Kept,
    codes_in_words_of,
    quantities_of,
    reports_of,
    request_from,
    saliency_of,
    sentences_of,
)
from dicom_node.results.key_objects import Selection, build_key_objects, build_selected, selected_by
from dicom_node.results.pdf import build_pdf
from dicom_node.results.presentation_state import build_presentation_state
from dicom_node.results.profile import (
    DOCUMENTS,
    KEY_OBJECTS_WISH,
    REPORT_KINDS,
    ReportForm,
    Wish,
)
from dicom_node.results.request import SERIES_NUMBERS, ResultRequest
from dicom_node.results.secondary_capture import (
    build_notice_page,
    build_saliency_captures,
    build_secondary_captures,
)
from dicom_node.results.segmentation import build_label_map_segmentation
from dicom_node.results.structure_set import build_structure_set

_CONTENT = 0x0040A730

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """What a result was made from.

    Attributes
    ----------
    source_images, frame_numbers
        As in `ResultRequest`: headers in slice order, and the frame of each slice.
    display
        Returns the images in 8-bit grey for these labels, ``(slices, rows, columns)``, one slice
        for a radiograph. It is called when pictures are built, at most once, because pixels cost.
    equipment
        Who writes the forms.
    repaired
        What ``headers.normalise`` makes of ``source_images``, where that is known already.
    """

    source_images: Sequence[Dataset]
    frame_numbers: Sequence[int]
    display: Callable[[Sequence[Label]], Pixels]
    equipment: Equipment
    repaired: Repaired | None = None


class Workbench:
    """The kept objects of one result, and what is read from them once for all forms."""

    def __init__(self, kept: Kept, source: Source) -> None:
        self.kept = kept
        self.source = source

    def build(self, wish: Wish) -> list[tuple[Dataset, str]]:
        """The objects of a form, checked, each with the UID of what it was made from."""
        kind, form = wish
        if kind in REPORT_KINDS:
            return [self._report(one, form) for name, one in self.kept if name == kind]
        built = _BUILDERS[wish](self)
        if not built:
            raise GateRefused("there is nothing to show in this form", reason="gate.empty")
        of_report = form in _OF_REPORTS or (
            wish == KEY_OBJECTS_WISH and self.segmentation is None
        )
        origin = reports_of(self.kept)[0] if of_report else self.kept[0][1]
        return [(dataset, str(origin.SOPInstanceUID)) for dataset in built]

    @cached_property
    def request(self) -> ResultRequest:
        """The request that the kept objects tell of."""
        source = self.source
        told = request_from(
            self.kept, source.source_images, source.frame_numbers, source.equipment
        )
        return replace(told, repaired=source.repaired)

    @cached_property
    def segmentation(self) -> Dataset | None:
        """The kept BINARY Segmentation."""
        return next((dataset for kind, dataset in self.kept if kind == "segmentation"), None)

    @cached_property
    def label_map(self) -> LabelMap:
        """Segment numbers, ``(slices, rows, columns)``."""
        if self.segmentation is None:
            raise GateRefused("the result has no segmentation", reason="gate.empty")
        return gate.read_label_map(
            self.segmentation, self.source.source_images, self.source.frame_numbers
        )

    @cached_property
    def display(self) -> Pixels:
        """The images in 8-bit grey, ``(slices, rows, columns)``."""
        return self.source.display(self.request.labels)

    @cached_property
    def label_map_segmentation(self) -> Dataset:
        """The LABELMAP Segmentation: a form of its own, and what reports beside it cite."""
        request = self.request
        built = build_label_map_segmentation(
            request, self.label_map, series_number=SERIES_NUMBERS["segmentation"]
        )
        if built is None:
            raise GateRefused("there is nothing to show in this form", reason="gate.empty")
        gate.check_label_map(
            built, request.source_images, request.frame_numbers, self.label_map, request.labels
        )
        return built

    @cached_property
    def pictures(self) -> list[Dataset]:
        """Contours of the findings, and where the model looked."""
        request, number = self.request, SERIES_NUMBERS["secondary capture"]
        images, frames = request.source_images, request.frame_numbers
        built: list[Dataset] = []
        if self.segmentation is not None:
            built += build_secondary_captures(
                request,
                self.label_map,
                self.display,
                series_number=number,
                quantities=quantities_of(self.kept),
            )
            check_secondary_captures(built, images, frames, self.label_map, request.labels)
        saliency = saliency_of(self.kept, images, frames)
        if saliency:
            looked = build_saliency_captures(request, saliency, self.display, series_number=number)
            check_captures(looked, images, frames)
            built += looked
        return built

    def _report(self, kept: Dataset, name: str) -> tuple[Dataset, str]:
        form = ReportForm.named(name)
        report, cited, not_sent = kept, list[Dataset](), set[str]()
        if self.segmentation is not None and form.segmentation == "labelmap":
            cited = [self.label_map_segmentation]
            old, new = references_to([self.segmentation, *cited])
            report = report_forms.citing(report, old, new)
            not_sent.add(old.sop_instance_uid)
        if self.segmentation is not None and form.segmentation == "none":
            not_sent.add(str(self.segmentation.SOPInstanceUID))
        if not form.explanation:
            not_sent |= {
                str(one.SOPInstanceUID)
                for kind, one in self.kept
                if kind in ("parametric map", "secondary capture")
            }
        if not_sent:
            report = report_forms.without(report, not_sent)
        if form.document == "text":
            report = report_forms.as_text(report)
        elif form.document != "comprehensive_3d":
            report = report_forms.as_class(report, DOCUMENTS[form.document])
        derived = report_forms.identified(report, kept, name)
        check_report_form(derived, kept, cited, not_sent)
        return derived, str(kept.SOPInstanceUID)


def selection_of(kept: Kept, source_images: Sequence[Dataset]) -> Selection | None:
    """What a result without segments selects: the images that its report on the whole rests on."""
    report = next((dataset for kind, dataset in kept if kind == "image report"), None)
    return None if report is None else selected_by(report, source_images)


def _label_map(bench: Workbench) -> list[Dataset]:
    return [bench.label_map_segmentation]


def _presentation_state(bench: Workbench) -> list[Dataset]:
    request, number = bench.request, SERIES_NUMBERS["presentation state"]
    built = build_presentation_state(request, bench.label_map, series_number=number)
    if built is None:
        return []
    check_presentation_state(
        built, request.source_images, request.frame_numbers, bench.label_map, request.labels
    )
    return [built]


def _structure_set(bench: Workbench) -> list[Dataset]:
    request, number = bench.request, SERIES_NUMBERS["structure set"]
    built = build_structure_set(request, bench.label_map, series_number=number)
    if built is None:
        return []
    check_structure_set(
        built, request.source_images, request.frame_numbers, bench.label_map, request.labels
    )
    return [built]


def _pictures(bench: Workbench) -> list[Dataset]:
    return bench.pictures


def _notice(bench: Workbench) -> list[Dataset]:
    subject = _subject(bench)
    page = build_notice_page(
        replace(bench.request, source_images=[subject], frame_numbers=[1]),
        sentences_of(bench.kept),
        series_number=SERIES_NUMBERS["secondary capture"],
        english=codes_in_words_of(bench.kept),
    )
    check_notice_page(page, [subject])
    return [page]


def _pdf(bench: Workbench) -> list[Dataset]:
    subject, reports = _subject(bench), reports_of(bench.kept)
    captures = [dataset for kind, dataset in bench.kept if kind == "secondary capture"]
    try:
        shown = [*captures, *bench.pictures]
    except (GateRefused, UnsuitableInput):
        shown = captures  # a document without them still tells everything
    document = build_pdf(
        replace(bench.request, source_images=[subject], frame_numbers=[1]),
        reports,
        shown,
        series_number=SERIES_NUMBERS["pdf"],
    )
    # Pictures that were made for its pages need not be stored anywhere.
    document.SourceInstanceSequence = [
        one for one in document.SourceInstanceSequence if _is_kept(bench, one)
    ]
    check_pdf(document, [subject], demonstration=bench.request.algorithm.demonstration)
    return [document]


def _is_kept(bench: Workbench, reference: Dataset) -> bool:
    uid = reference.ReferencedSOPInstanceUID
    return any(dataset.SOPInstanceUID == uid for _, dataset in bench.kept)


def _subject(bench: Workbench) -> Dataset:
    """Whose result it is, from its report: images may have been refused for their headers."""
    report = reports_of(bench.kept)[0]
    subject = Dataset({tag: element for tag, element in report.items() if tag != _CONTENT})
    subject.file_meta = report.file_meta
    body_part = bench.source.source_images[0].get("BodyPartExamined")
    if body_part:
        subject.BodyPartExamined = body_part
    return subject


def _key_objects(bench: Workbench) -> list[Dataset]:
    request, number = bench.request, SERIES_NUMBERS["key objects"]
    if bench.segmentation is None:
        selection = selection_of(bench.kept, bench.source.source_images)
        if selection is None:
            return []
        chosen = build_selected(request, selection, series_number=number)
        check_selected(chosen, request.source_images, request.frame_numbers, selection.images)
        return [chosen]
    built = build_key_objects(request, bench.label_map, series_number=number)
    if built is None:
        return []
    check_key_objects(built, request.source_images, request.frame_numbers, bench.label_map)
    return [built]


_BUILDERS: Mapping[Wish, Callable[[Workbench], list[Dataset]]] = {
    ("segmentation", "labelmap"): _label_map,
    ("structure set", "structure_set"): _structure_set,
    ("presentation state", "presentation_state"): _presentation_state,
    ("secondary capture", "pictures"): _pictures,
    ("secondary capture", "notice"): _notice,
    ("key objects", "key_objects"): _key_objects,
    ("pdf", "pdf"): _pdf,
}
_OF_REPORTS = frozenset({"notice", "pdf"})
