"""The names under which a job has its further series, and how a person is told of them.

Most are roles of the model's card, each of one series. An earlier examination
(`dicom_node.records.PRIOR`) is of another study. Phases may be in several series: a rule has one
role for all, a job one for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.records import PRIOR

PHASES = "phases"
"""The role, in a rule, of further series that show the same place at other times."""

BEYOND = "phases beyond"
"""The role of a series that is one more than the phases of the rule: with it no job is done."""


def role_of_phases(number: int) -> str:
    """The role, in a job, of one further series of phases, from 1."""
    return f"{PHASES} {number}"


def is_of_phases(role: str) -> bool:
    """Whether a role of a job is one of the series of phases, or the one beyond them."""
    return role.startswith(f"{PHASES} ")


def is_told(role: str, series_instance_uid: str) -> bool:
    """Whether a person is told of a role: not of a series beyond the phases where there is none."""
    return role != BEYOND or bool(series_instance_uid)


def in_words(roles: Sequence[str]) -> list[str]:
    """Roles of a job as a person reads them: ``pt``, ``2 series of phases``."""
    words = [
        "an earlier examination" if role == PRIOR else role
        for role in roles if not is_of_phases(role)
    ]
    phases = len(roles) - len(words)
    return [*words, f"{phases} series of phases"] if phases else words
