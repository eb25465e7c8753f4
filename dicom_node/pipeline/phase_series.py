"""Further series that the phases of an examination are in: which of them a job has, and which not.

Some scanners store each phase as a series of its own. A rule says how many further series there
are; the card says how many phases there must be. What is read of all of them is put in order by
`dicom_node.imaging.phases`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_models.card_input import InputEntry
from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.elements import text
from dicom_node.imaging.patient import is_same_patient
from dicom_node.imaging.reading import read_header
from dicom_node.input_roles import BEYOND, is_of_phases


@dataclass(frozen=True)
class PhaseSeries:
    """Files of each further series; ``lacking`` says, where some are not there, how many and why.
    """

    series: tuple[Sequence[Path], ...] = ()
    lacking: str = ""


def phase_series(
    paths: Sequence[Path], entry: InputEntry, companions: Mapping[str, Sequence[Path]],
    missing: Mapping[str, str],
) -> PhaseSeries:
    """The further series of the phases of ``paths``; none where the card asks for no phases.

    Parameters
    ----------
    companions, missing
        By role, the files of every further series of the job, and why there are none.

    Raises
    ------
    UnsuitableInput
        ``input.too_many_phase_series``: more fit than the rule names. ``input.modality``,
        ``input.companion_patient``, ``input.companion_frame``: one does not belong to the others.
    NotUnderstood, StorageFailed
        A header could not be read.
    """
    if entry.phases == 1:
        return PhaseSeries()
    found = [files for role, files in companions.items() if is_of_phases(role) and files]
    if BEYOND in companions:
        raise UnsuitableInput(
            f"more than the {len(found) - 1} further series of phases that the rule names fit: "
            "which of them are meant is not known", reason="input.too_many_phase_series",
        )
    for files in found:
        _check_belongs(paths[0], files[0], entry)
    reasons = [why for role, why in missing.items() if is_of_phases(role) and role != BEYOND]
    lacking = ""
    if reasons:
        whys = ", ".join(dict.fromkeys(reasons))
        lacking = (
            f"without {len(reasons)} of {len(reasons) + len(found)} further series of phases "
            f"({whys})"
        )
    return PhaseSeries(tuple(found), lacking)


def _check_belongs(first: Path, other: Path, entry: InputEntry) -> None:
    own, its = read_header(first).dataset, read_header(other).dataset
    modality = text(its, "Modality")
    if modality not in entry.modality:
        raise UnsuitableInput(
            f"phases are {', '.join(entry.modality)}, a further series is {modality or 'nothing'}",
            reason="input.modality",
        )
    if not is_same_patient(own, its):
        raise UnsuitableInput(
            "a further series of phases is of another patient", reason="input.companion_patient"
        )
    frame = text(own, "FrameOfReferenceUID")
    if not frame or text(its, "FrameOfReferenceUID") != frame:
        raise UnsuitableInput(
            "a further series of phases is of another frame of reference: where it lies to the "
            "series is not known", reason="input.companion_frame",
        )
