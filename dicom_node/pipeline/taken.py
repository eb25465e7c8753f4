"""The further series that a job takes of the same study: their files, and why others are not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.input_roles import BEYOND
from dicom_node.pipeline.workshop import Workshop, check_readable_here
from dicom_node.records import PRIOR, Job

NOT_KEPT = "its images are not kept any more"


@dataclass(frozen=True)
class Taken:
    """By role: the files of each series, and of the others why there are none."""

    companions: dict[str, list[Path]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def taken_by(job: Job, workshop: Workshop) -> Taken:
    """As the ledger has it now; what is waited for still is missing."""
    taken = Taken()
    seen: set[str] = set()
    for one in workshop.ledger.inputs.of(job.job_id):
        if one.role == PRIOR:
            continue
        uid = one.series_instance_uid
        if uid in seen or (one.role == BEYOND and not uid):
            continue
        seen |= {uid} - {""}
        instances = workshop.ledger.receipts.instances(uid) if uid else []
        if instances:
            kept = [each.path for each in instances]
            paths = taken.companions[one.role] = workshop.spool.resolve_all(kept)
            # Else the job would go on without it.
            check_readable_here(kept, paths, workshop)
        else:
            taken.missing[one.role] = NOT_KEPT if uid else one.reason
    return taken
