"""An earlier examination beside the present one: the same findings, and how they have changed.

    earlier images -> the same model (or what it said of them before) -> laid over the present ones
                   -> findings paired by place -> tracking kept, doubling times, what is new or gone

Whatever keeps the earlier examination from being used ends the comparison, never the job: the
report says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ai_models.array.alignment import Alignment, align
from ai_models.array.matching import match_places
from ai_models.card import SegmentationCard
from ai_models.types import JointInput, Label, ModelInput, Prediction, Volume
from dicom_node.errors import PermanentError
from dicom_node.imaging.elements import text
from dicom_node.imaging.patient import is_same_patient
from dicom_node.imaging.unreadable import UnreadableInstances
from dicom_node.pipeline.companions import with_companions
from dicom_node.pipeline.description import Findings, findings_in
from dicom_node.pipeline.loading import Loaded, load_input
from dicom_node.results.earlier_segments import tracked_before
from dicom_node.results.evidence import references_to
from dicom_node.results.follow_up import EarlierFinding, Followed, FollowUp
from dicom_node.results.identity import ResultIdentity
from dicom_node.results.segmentation_segments import finding_of, kind_of
from dicom_node.results.tracked_parts import tracked_parts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from ai_models.card import Card

FARTHEST_MM = 15.0
"""Two findings farther apart are not the same, after one examination was laid over the other."""

Point = tuple[float, float, float]


class _Measured(Protocol):
    @property
    def volume_ml(self) -> float: ...

    @property
    def centroid_lps_mm(self) -> Point: ...


@dataclass(frozen=True)
class Earlier:
    """The earlier examination of a job: its images, or why there are none.

    ``said`` is what this version of the model said of them before, as the ledger has it;
    ``segmentations`` are files that may hold what some version of it marked in them.
    """

    paths: Sequence[Path] = ()
    reason: str = ""
    said: Mapping[str, Any] | None = None
    segmentations: Sequence[Path] = ()


class NotComparable(Exception):
    """The two examinations cannot be compared; the message ends a sentence of the report."""


def follow_up(
    earlier: Earlier, card: Card, predict: Callable[[Card, ModelInput], Prediction],
    present: Loaded, findings: Findings,
    identity_of: Callable[[Card, Loaded], ResultIdentity],
) -> FollowUp:
    """The present findings beside those of ``earlier``.

    ``predict`` is asked only where the ledger has nothing; ``identity_of`` gives the Tracking UIDs
    that the earlier findings have in their own results.

    Raises
    ------
    TransientError
        The images could not be read, or the model not be run, just now.
    """
    if not earlier.paths:
        return FollowUp(problem=earlier.reason or "there is none")
    try:
        # Companions of the earlier examination are not looked for: what can do without them does.
        loaded = with_companions(load_input(earlier.paths, card.input), card.input, {}, {})
        days = _days_between(loaded.source_images[0], present.source_images[0])
        before, basis = _earlier_findings(earlier, card, predict, loaded, identity_of)
        return _compared(days, before, basis, loaded, present, findings)
    except NotComparable as why:
        return FollowUp(problem=str(why))
    except PermanentError as error:
        return FollowUp(problem=_why(error))


def _why(error: PermanentError) -> str:
    if isinstance(error, UnreadableInstances):
        # Its message names files.
        return "images of it cannot be read"
    return f"{error.reason}: {error}"


def _earlier_findings(
    earlier: Earlier, card: Card, predict: Callable[[Card, ModelInput], Prediction],
    loaded: Loaded, identity_of: Callable[[Card, Loaded], ResultIdentity],
) -> tuple[list[EarlierFinding], tuple[Any, ...]]:
    """The findings, and what stands for the examination in the identity of results."""
    digests = sorted(loaded.content_digests.items())
    known = _known(earlier.said, card)
    if known is not None:
        return known, ("said", digests, [list(vars(one).values()) for one in known])
    found = findings_in(predict(card, loaded.model_input), card, loaded)
    identity = identity_of(card, loaded)
    series_uid = str(loaded.source_images[0].SeriesInstanceUID)
    if isinstance(card, SegmentationCard) and card.output.instances:
        identity = tracked_parts(identity, found.labels, found.measurements, series_uid)
    if found.detected is not None:
        identity = found.detected.tracked(identity, series_uid)
    tracked = tracked_before(
        earlier.segmentations, card.id, loaded.source_images, loaded.frame_numbers,
        found.label_map, found.labels,
    )
    return [
        EarlierFinding(
            label.name, kind_of(label),
            tracked.get(label.value) or identity.tracking_uid(series_uid, finding_of(label)),
            measured.volume_ml, measured.centroid_lps_mm,
        )
        for label, measured in _measured(found)
    ], ("found", digests, sorted(tracked.items()))


def _known(said: Mapping[str, Any] | None, card: Card) -> list[EarlierFinding] | None:
    """What the ledger has of an earlier job; ``None`` where that is not enough."""
    if said is None or said.get("model_version") != card.version:
        return None
    try:
        return [
            EarlierFinding(
                str(one["name"]), str(one["kind"]), str(one["tracking_uid"]),
                float(one["volume_ml"]), _point(one["centroid_lps_mm"]),
            )
            for one in said["labels"] if one["found"]
        ]
    except (KeyError, TypeError, ValueError):
        # Written by a node that did not keep so much.
        return None


def _compared(
    days: int, before: Sequence[EarlierFinding], basis: tuple[Any, ...], earlier: Loaded,
    present: Loaded, findings: Findings,
) -> FollowUp:
    now = _measured(findings)
    references = tuple(references_to(earlier.source_images))
    if not now and not before:
        return FollowUp(days=days, references=references, basis=basis)
    here, there = _volume(present), _volume(earlier)
    laid = _laid(here, there)
    pairs = _pairs(now, before, laid)
    back = np.linalg.inv(laid.to_present_lps)
    missed = [one for number, one in enumerate(before) if number not in pairs.values()]
    others = [one for number, one in enumerate(now) if number not in pairs]
    shown_now = [_is_inside(laid.place(one.centroid_lps_mm), here) for one in missed]
    shown_then = [_is_inside(_moved(back, m.centroid_lps_mm), there) for _, m in others]
    return FollowUp(
        days=days,
        followed={
            now[number][0].value: Followed(before[other], now[number][1].volume_ml)
            for number, other in pairs.items()
        },
        new=_values(others, shown_then, True),
        beyond_earlier=_values(others, shown_then, False),
        gone=tuple(one for one, shown in zip(missed, shown_now, strict=True) if shown),
        beyond_present=tuple(
            one for one, shown in zip(missed, shown_now, strict=True) if not shown
        ),
        references=references,
        basis=basis,
    )


def _laid(present: Volume, earlier: Volume) -> Alignment:
    try:
        laid = align(present, earlier)
    except ValueError as error:
        raise NotComparable(f"the two could not be laid over each other ({error})") from error
    if not laid.is_trusted:
        raise NotComparable(
            "the two could not be laid over each other with certainty (likeness "
            f"{laid.likeness:.2f}, overlap {laid.overlap:.2f})"
        )
    return laid


def _pairs(
    now: Sequence[tuple[Label, _Measured]], before: Sequence[EarlierFinding], laid: Alignment
) -> dict[int, int]:
    """Index of a present finding to that of the earlier one, each kind for itself."""
    pairs = {}
    for kind in sorted({kind_of(label) for label, _ in now}):
        mine = [number for number, (label, _) in enumerate(now) if kind_of(label) == kind]
        theirs = [
            number for number, one in enumerate(before) if one.kind == kind and one.volume_ml > 0
        ]
        matched = match_places(
            [now[number][1].centroid_lps_mm for number in mine],
            [laid.place(before[number].centroid_lps_mm) for number in theirs], FARTHEST_MM,
        )
        pairs.update({mine[one]: theirs[other] for one, other in matched.items()})
    return pairs


def _measured(findings: Findings) -> list[tuple[Label, _Measured]]:
    found: list[tuple[Label, _Measured]] = []
    for label in findings.labels:
        measured: Any = findings.measurements.get(label.value)
        if measured is not None:
            found.append((label, measured))
    return found


def _values(
    others: Sequence[tuple[Label, _Measured]], shown: Sequence[bool], wanted: bool
) -> tuple[int, ...]:
    return tuple(
        label.value for (label, _), one in zip(others, shown, strict=True) if one is wanted
    )


def _volume(loaded: Loaded) -> Volume:
    source = loaded.model_input
    if isinstance(source, JointInput):
        return source.reference
    if not isinstance(source, Volume):
        raise NotComparable("projection images cannot be laid over each other")
    return source


def _days_between(earlier: Dataset, present: Dataset) -> int:
    """Whole days between two examinations of one patient."""
    if not is_same_patient(earlier, present):
        raise NotComparable("it is not of the same patient")
    if not text(present, "PatientID"):
        raise NotComparable("the images do not say whose they are")
    if text(earlier, "StudyInstanceUID") == text(present, "StudyInstanceUID"):
        raise NotComparable("it is not of another study")
    days = (_acquired(present) - _acquired(earlier)).days
    if days < 1:
        raise NotComparable("it is not of an earlier day")
    return days


def _acquired(header: Dataset) -> date:
    for keyword in ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "SeriesDate",
                    "StudyDate"):
        written = text(header, keyword)[:8]
        if len(written) == 8 and written.isdecimal():
            try:
                return date(int(written[:4]), int(written[4:6]), int(written[6:]))
            except ValueError:
                continue
    raise NotComparable("the images do not say when they were taken")


def _is_inside(point_lps_mm: Point, volume: Volume) -> bool:
    index = np.linalg.inv(volume.affine_lps) @ np.array([*point_lps_mm, 1.0])
    return bool(
        (index[:3] >= -0.5).all() and (index[:3] <= np.array(volume.array.shape) - 0.5).all()
    )


def _moved(affine: Any, point: Point) -> Point:
    x, y, z, _ = (affine @ np.array([*point, 1.0])).tolist()
    return (x, y, z)


def _point(values: Sequence[float]) -> Point:
    x, y, z = (float(value) for value in values)
    return (x, y, z)
