"""The source images that carry a finding, as a Key Object Selection "Of Interest"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import voxels_by_slice
from ai_models.types import Code, Label, LabelMap
from dicom_node.results.equipment import DEMONSTRATION
from dicom_node.results.key_slices import IMAGE_LIMIT
from dicom_node.results.legend import worded
from dicom_node.results.report_forms import is_named, items
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation import segment_numbers
from dicom_node.results.selection_document import build_selection

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

OF_INTEREST = Code("113000", "DCM", "Of Interest")

_GROUP, _FINDING, _SOURCE = "125007", "121071", "121112"
# What identifies a group, and is no answer (PS3.16 TID 1501, TID 4019).
_NO_ANSWER = frozenset({_FINDING, "276214006", "363698007", "111000"})
_ABSENT = ("272519000", "SCT")
# Qualitative Evaluations of the report as a whole (PS3.16 TID 1500 row 12).
_EVALUATIONS = "C0034375"


@dataclass(frozen=True)
class Selection:
    """What the groups of a report on whole images rest on.

    ``images`` are (SOP Instance UID, frames), each image once, in the order of the source; frames
    are empty of an image that has one. ``findings`` say in English what was found on them.
    """

    images: tuple[tuple[str, tuple[int, ...]], ...]
    findings: tuple[str, ...]


def build_key_objects(
    request: ResultRequest, label_map: LabelMap, *, series_number: int
) -> Dataset | None:
    """Select the source images on which a label occurs.

    All of them where they are at most ``IMAGE_LIMIT``. Of more, the largest section of each label
    and the others evenly spread over those that carry one; the description says how many there
    are. Frames of an enhanced source are named by their numbers.

    Parameters
    ----------
    label_map
        ``(slices, rows, columns)`` on the grid of the source.

    Returns
    -------
    Dataset or None
        ``None`` when no label occurs: there is nothing to select.

    Raises
    ------
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``).
    GateRefused
        ``gate.labels``: the map holds a value that no label describes.
    """
    numbers = segment_numbers(label_map, request.labels)
    if not numbers:
        return None
    sources, _ = request.normalised()
    found = [label for label in request.labels if label.value in numbers]
    areas = _areas(label_map, found)
    chosen = chosen_slices(areas)
    several = len(sources) > 1
    document = build_selection(
        request,
        sources[0],
        [sources[index] for index in chosen] if several else sources[:1],
        kind="key objects",
        uids=(
            request.identity.uid("key objects.series"),
            request.identity.uid("key objects.instance"),
        ),
        title=OF_INTEREST,
        description=_description(request, found, areas, len(chosen)),
        series_number=series_number,
    )
    if int(sources[0].get("NumberOfFrames") or 1) > 1:
        _name_frames(document, [int(request.frame_numbers[index]) for index in chosen])
    return document


def selected_by(report: Dataset, source_images: Sequence[Dataset]) -> Selection | None:
    """What is to be selected by a report on whole images: the images that its answers rest on.

    Of each group that was evaluated and did not come out as absent, the images that it names as
    the source of its measurement. ``None`` where there is none, or where the report is the answer
    that nothing was found.
    """
    if _is_negative(report):
        return None
    frames: dict[str, set[int]] = {}
    findings: list[str] = []
    for group in (one for one in items(report) if is_named(one, _GROUP)):
        answers = [one for one in _answers(group) if _code(one)[:2] != _ABSENT]
        images = [one for one in group.ContentSequence if is_named(one, _SOURCE)]
        if not answers or not images:
            continue
        findings += [f"{_finding(group)} ({_code(one)[2]})" for one in answers]
        for one in images:
            reference = one.ReferencedSOPSequence[0]
            found = frames.setdefault(str(reference.ReferencedSOPInstanceUID), set())
            found.update(_frames_of(reference))
    order = [str(one.SOPInstanceUID) for one in source_images]
    images_found = tuple((uid, tuple(sorted(frames[uid]))) for uid in order if uid in frames)
    return Selection(images_found, tuple(findings)) if images_found else None


def build_selected(
    request: ResultRequest, selection: Selection, *, series_number: int
) -> Dataset:
    """Select the images that the answers of a report rest on.

    Raises
    ------
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``).
    """
    sources, _ = request.normalised()
    by_uid = {str(one.SOPInstanceUID): one for one in sources}
    sentence = worded(
        request.language, "answer selected", algorithm=request.algorithm.name,
        chosen=sum(len(frames) or 1 for _, frames in selection.images),
        each=", ".join(selection.findings),
    )
    document = build_selection(
        request, sources[0], [by_uid[uid] for uid, _ in selection.images], kind="key objects",
        uids=(
            request.identity.uid("key objects.series"),
            request.identity.uid("key objects.instance"),
        ),
        title=OF_INTEREST,
        description=f"{DEMONSTRATION}. {sentence}" if request.algorithm.demonstration else sentence,
        series_number=series_number,
    )
    if selection.images[0][1]:
        _name_frames(document, list(selection.images[0][1]))
    return document


def _is_negative(report: Dataset) -> bool:
    """Whether the report has a coded answer of its own: there is one only, that of nothing."""
    return any(
        one.ValueType == "CODE"
        for container in report.ContentSequence if is_named(container, _EVALUATIONS)
        for one in container.get("ContentSequence", [])
    )


def _answers(group: Dataset) -> list[Dataset]:
    return [
        one for one in group.ContentSequence
        if one.ValueType == "CODE" and not any(is_named(one, name) for name in _NO_ANSWER)
    ]


def _code(item: Dataset) -> tuple[str, str, str]:
    code = item.ConceptCodeSequence[0]
    return str(code.CodeValue), str(code.CodingSchemeDesignator), str(code.CodeMeaning)


def _finding(group: Dataset) -> str:
    return next(_code(one)[2] for one in group.ContentSequence if is_named(one, _FINDING))


def _frames_of(reference: Dataset) -> list[int]:
    stated = reference.get("ReferencedFrameNumber")
    if stated is None:
        return []
    return [int(stated)] if isinstance(stated, int | str) else [int(one) for one in stated]


def chosen_slices(areas: npt.NDArray[np.intp]) -> list[int]:
    """Indices of the slices to select, ascending, from ``(slices, labels)`` pixel counts."""
    carrying = np.flatnonzero(areas.any(axis=1))
    if len(carrying) <= IMAGE_LIMIT:
        return [int(index) for index in carrying]
    largest = {int(index) for index in areas.argmax(axis=0)}
    spread = carrying[
        np.linspace(0, len(carrying) - 1, IMAGE_LIMIT - len(largest)).round().astype(int)
    ]
    return sorted(largest | {int(index) for index in spread})


def _areas(label_map: LabelMap, labels: Sequence[Label]) -> npt.NDArray[np.intp]:
    areas: npt.NDArray[np.intp] = voxels_by_slice(label_map)[:, [one.value for one in labels]]
    return areas


def _description(
    request: ResultRequest, labels: Sequence[Label], areas: npt.NDArray[np.intp], chosen: int
) -> str:
    carrying = int(areas.any(axis=1).sum())
    counts = (areas > 0).sum(axis=0)
    each = ", ".join(f"{label.name} ({count})" for label, count in zip(labels, counts, strict=True))
    sentence = worded(
        request.language,
        "all selected" if chosen == carrying else "some selected",
        chosen=chosen, carrying=carrying, algorithm=request.algorithm.name, each=each,
    )
    return f"{DEMONSTRATION}. {sentence}" if request.algorithm.demonstration else sentence


def _name_frames(document: Dataset, frame_numbers: list[int]) -> None:
    for item in document.ContentSequence:
        if item.ValueType == "IMAGE":
            item.ReferencedSOPSequence[0].ReferencedFrameNumber = sorted(frame_numbers)
