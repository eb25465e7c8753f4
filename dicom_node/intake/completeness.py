"""When a series is complete: decided on evidence, with the timer last.

DICOM has no "end of series". What there is, from strong to weak:

1.  every association that brought an instance was released, nothing is known to be missing:
    complete ``after_release_s`` after the last release; unless something speaks against it (fewer
    images than Images in Acquisition says, which may count several series): then the next rule;
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


@dataclass(frozen=True)
class Evidence:
    """What is known of a series that is being received.

    ``missing`` says what is known to be missing, ``doubt`` what only may be; empty when nothing.
    """

    last_received_at: datetime
    open_associations: int
    aborted_associations: int
    last_closed_at: datetime | None
    missing: str = ""
    doubt: str = ""


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
        how = "after_abort" if evidence.aborted_associations else "with_open_association"
        if not evidence.open_associations and not evidence.aborted_associations:
            how = "after_release"
        return Decision(True, ", ".join(filter(None, (f"quiet_period {how}", evidence.doubt))))
    if evidence.doubt:
        return Decision(False, evidence.doubt, left_s)
    if _released(evidence) and evidence.last_closed_at is not None:
        # A release says nothing about an instance that arrived after it.
        since_s = min(quiet_s, max(0.0, (now - evidence.last_closed_at).total_seconds()))
        if since_s >= settings.after_release_s:
            return Decision(True, "association_released")
        return Decision(False, "released", min(left_s, settings.after_release_s - since_s))
    return Decision(False, "quiet_period", left_s)


def _released(evidence: Evidence) -> bool:
    return evidence.open_associations == 0 and evidence.aborted_associations == 0


def find_missing(instances: Sequence[Instance]) -> str:
    """What a series is known to lack: a coded sentence, or an empty string.

    Counts: ``expected_instances`` is what the sender announced in the data set. Geometry: among
    instances of one orientation, distances along the slice normal (mm, LPS) of more than 1.5
    times the median are holes, unless there are so many that the spacing is plainly irregular.
    """
    expected = max((i.expected_instances or 0 for i in instances), default=0)
    if expected > len(instances):
        return f"expected_instances: {expected} announced, {len(instances)} here"
    holes = sum(_holes(stack) for stack in _stacks(instances))
    return f"slice_gap: {holes} positions missing" if holes else ""


def find_doubt(instances: Sequence[Instance]) -> str:
    """What a series may lack: fewer instances than Images in Acquisition (0020,1002) says.

    The element counts the images of an acquisition, and an acquisition may be reconstructed to
    series of other sizes: a reason to wait for the quiet period, none to wait for ever.
    """
    announced = max((i.images_in_acquisition or 0 for i in instances), default=0)
    if announced > len(instances):
        return f"images_in_acquisition: {announced} announced, {len(instances)} here"
    return ""


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
