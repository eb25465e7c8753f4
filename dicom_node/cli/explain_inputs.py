"""What ``dicom-node explain`` says of the further series of a rule: which fill its roles, and why.

The same choice as the node's own (`dicom_node.routing.selection`), on what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dicom_node.config_rules import PRIOR

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_node.config import Config, Rule
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.routing.selection import Candidate, Selected
    from dicom_node.spool import Spool


@dataclass(frozen=True)
class Surroundings:
    """The studies of the series that are explained.

    Attributes
    ----------
    studies
        All series of each study, by its UID.
    waits_for
        What the jobs of a series wait for, by series and rule.
    """

    studies: Mapping[str, Sequence[Candidate]]
    waits_for: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def selected(self, uid: str, rule: Rule) -> list[Selected]:
        """How the roles of a rule are filled for one series."""
        from dicom_node.routing.selection import select

        for candidates in self.studies.values():
            for one in candidates:
                if one.series_instance_uid == uid:
                    return list(select(rule.inputs, one, candidates).values())
        return []


def of_files(series: Mapping[str, tuple[Dataset, int]]) -> Surroundings:
    """Of files: a header of each series, and how many there are."""
    from dicom_node.routing.selection import Candidate

    studies: dict[str, list[Candidate]] = {}
    for uid, (header, number) in series.items():
        study = str(header.get("StudyInstanceUID", ""))
        studies.setdefault(study, []).append(Candidate(uid, study, number, True, header))
    return Surroundings(studies)


def of_node(config: Config, ledger: Ledger, spool: Spool, series: Sequence[Any]) -> Surroundings:
    """Of series that the node has received, with what their jobs wait for."""
    from dicom_node.node_gathering import StudyReader
    from dicom_node.node_outlook import Outlook
    from dicom_node.records import JobState

    reader = StudyReader(ledger, spool)
    studies = {
        uid: reader.read(uid).candidates
        for uid in dict.fromkeys(one.study_instance_uid for one in series)
    }
    outlook = Outlook(ledger, config)
    waits = {
        (job.series_instance_uid, job.rule): outlook.of_job(job)
        for one in series for job in ledger.jobs.of_series(one.series_instance_uid)
        if job.state in (JobState.QUEUED, JobState.HELD) and not job.shadow
    }
    return Surroundings(studies, waits)


def as_lines(rule: Rule, selected: Sequence[Selected], waits_for: str) -> list[str]:
    """For a person: what fills each role of a rule that matches, and what its job waits for."""
    from dicom_node.routing.selection import as_text

    lines = [line for one in selected for line in as_text(one)]
    prior = rule.inputs.get(PRIOR)
    if prior is not None:
        place = f", asked of {prior.fetch_from} where none is here" if prior.fetch_from else ""
        lines.append(f"{PRIOR}: an earlier examination, back to {prior.within_d} days{place}")
    if waits_for:
        lines.append(f"its job waits for {waits_for}")
    return lines


def as_dict(selected: Sequence[Selected]) -> dict[str, Any]:
    """For a program: of each role the series or an empty text, and why not the others."""
    return {
        one.role: {
            "series_instance_uid": one.series.series_instance_uid if one.series else "",
            "reason": one.reason,
            "refused": [
                {**vars(refusal), "mismatches": [vars(found) for found in refusal.mismatches]}
                for refusal in one.refused
            ],
        }
        for one in selected
    }
