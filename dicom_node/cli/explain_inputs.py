"""What ``dicom-node explain`` says of the further series of a rule: which fill its roles, and why.

The same choice as the node's own (`dicom_node.routing.selection`), on what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dicom_node.config_rules import PRIOR
from dicom_node.input_roles import BEYOND, is_of_phases
from dicom_node.records import JobState

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_node.config import Config, Rule
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.node_outlook import Outlook
    from dicom_node.records import Job
    from dicom_node.routing.selection import Candidate, Selected
    from dicom_node.spool import Spool


# Said of a series that is nothing to the others: most are not.
_UNLIKE = ("does not fit", "cannot be read")


@dataclass(frozen=True)
class Surroundings:
    """The studies of the series that are explained.

    Attributes
    ----------
    studies
        All series of each study, by its UID.
    waits_for
        What the jobs of a series wait for, by series and rule.
    jobs
        The latest job of a series and how it stands, by series and rule.
    not_analysed
        Why the latest job of a series gave no result, by series and rule.
    """

    studies: Mapping[str, Sequence[Candidate]]
    waits_for: Mapping[tuple[str, str], str] = field(default_factory=dict)
    jobs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    not_analysed: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def selected(self, uid: str, rule: Rule) -> list[Selected]:
        """How the roles of a rule are filled for one series."""
        from dicom_node.routing.selection import select

        for candidates in self.studies.values():
            for one in candidates:
                if one.series_instance_uid == uid:
                    return list(select(rule.inputs, one, candidates).values())
        return []

    def beside(self, uid: str, rules: Sequence[Rule]) -> list[str]:
        """What a series is to the others of its study: the role that it fills, or why it does not.

        Whether a rule matches it says nothing of that.
        """
        from dicom_node.routing.rules import explain

        lines = []
        for candidates in self.studies.values():
            if uid not in [one.series_instance_uid for one in candidates]:
                continue
            for rule in (one for one in rules if one.inputs):
                for other in candidates:
                    if other.series_instance_uid == uid or other.header is None:
                        continue
                    if explain(rule, other.header).matches:
                        lines += self._roles(uid, other.series_instance_uid, rule)
        return lines

    def _roles(self, uid: str, reference: str, rule: Rule) -> list[str]:
        """Of one series beside the one that a rule is for, for each role that it may fill."""
        words = self.jobs.get((reference, rule.name), "")
        of = f"for {rule.name} on series {reference}" + (f", {words}" if words else "")
        lines = []
        for one in self.selected(reference, rule):
            if one.series is not None and one.series.series_instance_uid == uid:
                return [f"is {one.role} {of}"]
            lines += [
                f"is not {one.role} {of}: {refusal.why}"
                for refusal in one.refused
                if refusal.series_instance_uid == uid and one.series is None
                and refusal.why not in _UNLIKE and one.role != BEYOND
            ]
        return lines[:1]


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
    jobs = {
        (job.series_instance_uid, job.rule): f"job {job.job_id}: {_stands(job, outlook)}"
        for study in studies for job in ledger.inputs.of_study(study) if not job.shadow
    }
    latest = {
        (job.series_instance_uid, job.rule): job
        for one in series for job in ledger.jobs.of_series(one.series_instance_uid)
        if not job.shadow
    }
    without = {key: job.reason for key, job in latest.items() if job.state is JobState.DEAD}
    return Surroundings(studies, waits, jobs, without)


def _stands(job: Job, outlook: Outlook) -> str:
    waits = outlook.of_job(job) if job.state is JobState.QUEUED else ""
    return str(job.state) + (f", waits for {waits}" if waits else "")


def as_lines(rule: Rule, selected: Sequence[Selected], waits_for: str) -> list[str]:
    """For a person: what fills each role of a rule that matches, and what its job waits for."""
    from dicom_node.routing.selection import as_text

    lines = [line for one in _told_once(selected) for line in as_text(one)]
    prior = rule.inputs.get(PRIOR)
    if prior is not None:
        place = f", asked of {prior.fetch_from} where none is here" if prior.fetch_from else ""
        lines.append(f"{PRIOR}: an earlier examination, back to {prior.within_d} days{place}")
    if waits_for:
        lines.append(f"its job waits for {waits_for}")
    return lines


def _told_once(selected: Sequence[Selected]) -> list[Selected]:
    """All series of phases have one condition: what does not fit it is told with the last one."""
    told = [one for one in selected if not is_of_phases(one.role)]
    phases = [
        one for one in selected
        if is_of_phases(one.role) and (one.role != BEYOND or one.series is not None)
    ]
    for one in phases:
        others = () if one is not phases[-1] else tuple(
            refusal for refusal in one.refused if not refusal.why.startswith("fits, and is phases")
        )
        told.append(replace(one, refused=others))
    return told


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
