"""When a series is complete: decided on evidence, with the timer last.

DICOM has no "end of series". What there is, from strong to weak:

0.  someone counted: the peer that sent the series (C-FIND), a notification (IAN) or the modality
    (MPPS). More than is here: known to be missing, rule 3. The same number, told by one who says
    that it will not grow or asked after the last instance arrived: complete at once when all
    associations were released, after a quarter of ``quiet_period_s`` otherwise; a hole between
    slices still waits for the whole of it, and no longer. Fewer than are here: no evidence;
1.  every association that brought an instance was released, nothing is known to be missing:
    complete ``after_release_s`` after the last release; unless something speaks against it (fewer
    images than Images in Acquisition says, which may count several series, or than the Number of
    Slices of a PET, which is the most that there may be): then the next rule;
2.  nothing arrived for ``quiet_period_s`` and nothing is known to be missing: complete (a PACS
    may keep one association open for ever, and a sender may abort instead of releasing);
3.  something is known to be missing (fewer instances than the sender announced, a hole between
    slice positions): wait ``give_up_after_s`` after the last instance, then close with what is
    missing as the reason; whoever assembles the volume declines it if it cannot be used.

A late slice reopens the series in the ledger, so every decision here can be taken back.
Everything in this module is pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from dicom_node.config import CompletenessSettings
from dicom_node.records import Instance

# A distance of more than this many typical distances is a hole, not jitter.
_HOLE = 1.5
# With more holes than this share of the slices the spacing is irregular, not incomplete.
_IRREGULAR_SHARE = 0.1
_ORIENTATION_DECIMALS = 3
_FARTHEST_MM = 1e6
# Of the quiet period: how long nothing must come before a count that agrees is believed while
# an association may still bring more.
_COUNTED_SHARE = 0.25


@dataclass(frozen=True)
class Count:
    """How many instances a series has, by one source.

    ``is_settled``: the source says that it will not grow, or said it after the last instance came.
    """

    source: str
    expected: int
    is_settled: bool


@dataclass(frozen=True)
class Evidence:
    """What is known of a series that is being received.

    ``missing`` says what is known to be missing, ``doubt`` what only may be, ``agreed`` who
    counted as many as are here; empty when nothing.
    """

    last_received_at: datetime
    open_associations: int
    aborted_associations: int
    last_closed_at: datetime | None
    missing: str = ""
    doubt: str = ""
    agreed: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether a series is complete and why; ``wait_s`` until it is worth asking again."""

    complete: bool
    reason: str
    wait_s: float = 0.0


def decide(evidence: Evidence, settings: CompletenessSettings, now: datetime) -> Decision:
    """Decide whether a series is complete, by the rules of this module.

    A clock that was set back counts as no time passed: the series waits, it does not close early.
    """
    quiet_s = max(0.0, (now - evidence.last_received_at).total_seconds())
    if evidence.missing:
        if quiet_s >= settings.give_up_after_s:
            return Decision(True, f"gave_up_waiting: {evidence.missing}")
        return Decision(False, evidence.missing, settings.give_up_after_s - quiet_s)
    left_s = settings.quiet_period_s - quiet_s
    if left_s <= 0:
        why = evidence.agreed or f"quiet_period {_how(evidence)}"
        return Decision(True, ", ".join(filter(None, (why, evidence.doubt))))
    if evidence.doubt:
        return Decision(False, evidence.doubt, left_s)
    if evidence.agreed:
        early_s = _counted_after_s(evidence, settings) - quiet_s
        return Decision(early_s <= 0, evidence.agreed, max(0.0, min(left_s, early_s)))
    if _released(evidence) and evidence.last_closed_at is not None:
        # A release says nothing about an instance that arrived after it.
        since_s = min(quiet_s, max(0.0, (now - evidence.last_closed_at).total_seconds()))
        if since_s >= settings.after_release_s:
            return Decision(True, "association_released")
        return Decision(False, "released", min(left_s, settings.after_release_s - since_s))
    return Decision(False, "quiet_period", left_s)


def worth_asking_in_s(evidence: Evidence, settings: CompletenessSettings, now: datetime) -> float:
    """In how many seconds a count that agrees would close the series, if nothing comes; 0: now.

    Before that no rule closes it either, so there is nothing to look at.
    """
    quiet_s = max(0.0, (now - evidence.last_received_at).total_seconds())
    return max(
        0.0, min(_counted_after_s(evidence, settings), settings.quiet_period_s) - quiet_s
    )


def weigh(counts: Sequence[Count], here: int) -> tuple[str, str]:
    """What is missing by the highest count above ``here``, and who counted just as many.

    Who counted fewer than are here is wrong about the series or counts something else.
    """
    more = max(counts, key=lambda count: count.expected, default=None)
    if more is not None and more.expected > here:
        return f"{more.source}: {more.expected} announced, {here} here", ""
    same = [count.source for count in counts if count.expected == here and count.is_settled]
    return "", " and ".join(f"{source}: {here} of {here}" for source in same)


def _counted_after_s(evidence: Evidence, settings: CompletenessSettings) -> float:
    if _released(evidence):
        return settings.after_release_s
    return max(settings.after_release_s, _COUNTED_SHARE * settings.quiet_period_s)


def _how(evidence: Evidence) -> str:
    if evidence.aborted_associations:
        return "after_abort"
    return "with_open_association" if evidence.open_associations else "after_release"


def _released(evidence: Evidence) -> bool:
    return evidence.open_associations == 0 and evidence.aborted_associations == 0


def find_missing(instances: Sequence[Instance]) -> str:
    """What a series is known to lack: a coded sentence, or an empty string.

    Counts: ``expected_instances`` is what the sender announced in the data set. Geometry: among
    instances of one orientation, distances along the slice normal (mm, LPS) of more than 1.5
    times the median are holes, unless there are so many that the spacing is plainly irregular.
    """
    expected = max((i.expected_instances or 0 for i in instances), default=0)
    here = count_distinct(instances)
    if expected > here:
        return f"expected_instances: {expected} announced, {here} here"
    holes = sum(_holes(stack) for stack in _stacks(instances))
    return f"slice_gap: {holes} positions missing" if holes else ""


def find_doubt(instances: Sequence[Instance]) -> str:
    """What a series may lack: fewer instances than its images say that there may be.

    Images in Acquisition (0020,1002) counts the images of an acquisition, which may be
    reconstructed to series of other sizes; Number of Slices (0054,0081) of a PET in objects of one
    slice is the most that the series may have (PS3.3 C.8.9.1). So either is a reason to wait for
    the quiet period, and none to wait for ever.
    """
    here = count_distinct(instances)
    slices = max((i.slices_in_series or 0 for i in instances if i.number_of_frames == 1), default=0)
    if slices > here:
        return f"number_of_slices: {slices} announced, {here} here"
    announced = max((i.images_in_acquisition or 0 for i in instances), default=0)
    if announced > here:
        return f"images_in_acquisition: {announced} announced, {here} here"
    return ""


def count_distinct(instances: Sequence[Instance]) -> int:
    """How many SOP instances these are, images or not: copies of one count once."""
    return len({instance.sop_instance_uid for instance in instances})


def _stacks(instances: Sequence[Instance]) -> list[np.ndarray]:
    """Slice positions along their normal in mm, one sorted array per orientation."""
    stacks: dict[tuple[float, ...], list[float]] = defaultdict(list)
    for instance in instances:
        position, orientation = instance.position_mm or (), instance.orientation or ()
        if not _is_placed(position, orientation):
            continue
        row, column = np.array(orientation[:3]), np.array(orientation[3:])
        key = tuple(round(value, _ORIENTATION_DECIMALS) for value in orientation)
        stacks[key].append(float(np.cross(row, column) @ np.array(position)))
    return [np.unique(np.round(positions, 3)) for positions in stacks.values()]


def _is_placed(position: tuple[float, ...], orientation: tuple[float, ...]) -> bool:
    """Whether both are there and are numbers of this world: they come from outside."""
    is_whole = len(position) == 3 and len(orientation) == 6
    return is_whole and all(abs(value) < _FARTHEST_MM for value in (*position, *orientation))


def _holes(positions_mm: np.ndarray) -> int:
    if len(positions_mm) < 4:
        return 0
    distances_mm = np.diff(positions_mm)
    typical_mm = float(np.median(distances_mm))
    wide = distances_mm[distances_mm > _HOLE * typical_mm]
    if typical_mm <= 0 or len(wide) > _IRREGULAR_SHARE * len(positions_mm):
        return 0
    return int(np.sum(np.rint(wide / typical_mm) - 1))
