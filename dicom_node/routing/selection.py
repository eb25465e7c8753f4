"""Which series of a study a job takes beside its own, role by role, and why not the others: pure.

A series fills a role when it fits the role's condition, has all its images, and lies in the frame
of reference of the job's own series (0020,0052): what does not share it has no known place beside
it (PS3.3 C.7.4.1). It must state the same Patient ID: a study that was mixed up holds series of
two. It fills one role at most, the first of the rule that it fits. Of several that
fit, the one with most images is taken, then the lowest Series Number, then the first by its UID:
the choice depends on what is there, and not on the order in which it came.

Further phases (`dicom_node.config_rules.PHASES`) are a role of several series: as many roles, and
one more for a series beyond them, with which nobody could say which of them are meant.

An earlier examination (`dicom_node.config_rules.PRIOR`) is not chosen here: it is of another study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_node.config_rules import PHASES, PRIOR
from dicom_node.input_roles import BEYOND, role_of_phases
from dicom_node.routing.rules import UNREADABLE, Mismatch, compare, text_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_node.config_rules import RuleInput

NOT_THERE = "not there"
ARRIVING = "still arriving"
ELSEWHERE = "in another frame of reference"
SOMEBODY_ELSE = "of another patient"
NO_FRAME = "without a known place: the series itself states no frame of reference"


NO_MORE = "no more than the rule names"


@dataclass(frozen=True)
class Candidate:
    """One series of the study.

    ``header`` is that of one representative image, ``None`` where none can be read.
    ``is_complete``: all its images are here, as far as can be known.
    """

    series_instance_uid: str
    study_instance_uid: str
    images: int
    is_complete: bool
    header: Dataset | None


@dataclass(frozen=True)
class Refusal:
    """Why a series does not fill a role.

    ``mismatches`` may quote the patient's data and are for the operator's terminal alone.
    """

    series_instance_uid: str
    why: str
    mismatches: tuple[Mismatch, ...] = ()


@dataclass(frozen=True)
class Selected:
    """What fills a role, or why nothing does.

    ``reason`` quotes nothing of the headers. ``refused`` are the series that do not fill it, those
    that come nearest first.
    """

    role: str
    series: Candidate | None
    reason: str
    refused: tuple[Refusal, ...] = ()


def roles_of(inputs: Mapping[str, RuleInput]) -> dict[str, RuleInput]:
    """The roles of a job, each of one series, in the order of the rule: phases are several."""
    roles: dict[str, RuleInput] = {}
    for role, wanted in inputs.items():
        if role != PHASES:
            roles[role] = wanted
            continue
        numbers = range(1, (wanted.series or 0) + 1)
        roles.update({role_of_phases(number): wanted for number in numbers})
    # Last: what another role can take is not one too many.
    if PHASES in inputs:
        roles[BEYOND] = inputs[PHASES]
    return roles


def select(
    inputs: Mapping[str, RuleInput], reference: Candidate, others: Sequence[Candidate]
) -> dict[str, Selected]:
    """Fill the roles of a rule from the series of a study.

    Parameters
    ----------
    inputs
        Of the rule, in its order; an earlier examination is passed over.
    reference
        The series that the job is of.
    others
        The series of the same study; ``reference`` among them counts as taken.
    """
    free = [one for one in others if one.series_instance_uid != reference.series_instance_uid]
    looks = {
        role: _look(wanted, reference, free)
        for role, wanted in roles_of(inputs).items() if role != PRIOR
    }
    taken: dict[str, str] = {}
    for role in looks:
        _take(role, looks, taken, set())
    return {role: _told(role, look, taken) for role, look in looks.items()}


@dataclass(frozen=True)
class _Look:
    """The series that fit a role, the best one first, and the others."""

    fitting: list[Candidate]
    refused: list[Refusal]


def _look(wanted: RuleInput, reference: Candidate, free: Sequence[Candidate]) -> _Look:
    fitting, refused = [], []
    for one in free:
        mismatches = compare(wanted.when, one.header) if one.header is not None else ()
        why = _why_not(one, mismatches, reference)
        if why:
            refused.append(Refusal(one.series_instance_uid, why, mismatches))
        else:
            fitting.append(one)
    refused.sort(key=lambda one: (_NEARNESS.get(one.why, len(_NEARNESS)), one.series_instance_uid))
    return _Look(sorted(fitting, key=_rank), refused)


def _take(
    role: str, looks: Mapping[str, _Look], taken: dict[str, str], asked: set[str]
) -> bool:
    """Give a role the best series that is free, or that another role can do without.

    Every role that can be filled beside the others is (augmenting paths, H. W. Kuhn, 1955).
    """
    for one in looks[role].fitting:
        uid = one.series_instance_uid
        if uid in asked:
            continue
        asked.add(uid)
        if uid not in taken or _take(taken[uid], looks, taken, asked):
            taken[uid] = role
            return True
    return False


def _told(role: str, look: _Look, role_of: Mapping[str, str]) -> Selected:
    mine = [one for one in look.fitting if role_of.get(one.series_instance_uid) == role]
    fits = [
        Refusal(one.series_instance_uid, f"fits, and is {role_of[one.series_instance_uid]}")
        if one.series_instance_uid in role_of
        else Refusal(one.series_instance_uid, "fits, but another fits as well and goes before")
        for one in look.fitting if one not in mine
    ]
    refused = (*fits, *look.refused)
    if mine:
        number = len(look.fitting)
        reason = "the only series that fits" if number == 1 else f"one of {number} that fit"
        return Selected(role, mine[0], reason, refused)
    if role == BEYOND:
        return Selected(role, None, NO_MORE, refused)
    nearest = look.refused[0].why if look.refused else NOT_THERE
    return Selected(role, None, nearest if nearest in _NEARNESS else NOT_THERE, refused)


_NEARNESS = {ARRIVING: 0, NO_FRAME: 1, ELSEWHERE: 2, SOMEBODY_ELSE: 3}


def _why_not(
    one: Candidate, mismatches: Sequence[Mismatch], reference: Candidate
) -> str:
    if one.header is None:
        return "cannot be read"
    if mismatches:
        return "does not fit"
    if _stated(one, "PatientID") != _stated(reference, "PatientID"):
        return SOMEBODY_ELSE
    if not _frame_of(reference):
        return NO_FRAME
    if _frame_of(one) != _frame_of(reference):
        return ELSEWHERE
    return "" if one.is_complete else ARRIVING


def _frame_of(one: Candidate) -> str:
    return _stated(one, "FrameOfReferenceUID")


def _stated(one: Candidate, keyword: str) -> str:
    """The text of an element of the header; empty where it is not there or cannot be read."""
    try:
        return "" if one.header is None else text_of(one.header.get(keyword) or "")
    except UNREADABLE:
        return ""


def _rank(one: Candidate) -> tuple[int, float, str]:
    stated = _stated(one, "SeriesNumber")
    number = int(stated) if stated.isascii() and stated.isdigit() else float("inf")
    return -one.images, number, one.series_instance_uid


def as_text(selected: Selected) -> list[str]:
    """What fills a role, and why the other series do not, in lines for a person."""
    if selected.series is not None:
        uid = selected.series.series_instance_uid
        lines = [f"{selected.role}: series {uid}, {selected.reason}"]
    else:
        lines = [f"{selected.role}: no series so far"]
    for one in selected.refused:
        lines.append(f"    series {one.series_instance_uid}: {one.why}")
        lines += [
            f"        {mismatch.keyword}: expected {mismatch.expected}, found {mismatch.found}"
            for mismatch in one.mismatches
        ]
    return lines
