"""``dicom-node retry``: give dead jobs and deliveries another life, and let nothing wait longer."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from dicom_node.cli import audited, named_jobs
from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.records import Job, JobState, SeriesState

if TYPE_CHECKING:
    from dicom_node.ledger.ledger import Ledger


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "retry", help="run dead jobs and send dead deliveries again; what waits, at once"
    )
    named_jobs.add_arguments(parser, (JobState.DEAD,))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Queue the jobs again; a running node takes them up within seconds."""
    if named_jobs.is_wrong(arguments):
        return 2
    ledger = open_ledger(open_config(arguments))
    if arguments.state:
        dead = {job.job_id: job for job in named_jobs.wanted(arguments, ledger)[0]}
        sent = named_jobs.find(ledger, ledger.deliveries.jobs_with_dead())[0]
        dead.update((job.job_id, job) for job in sent)
        again_of = {job_id: _revive(job, ledger) for job_id, job in dead.items()}
        print(f"{sum(again_of.values())} queued again")
        audited.note(arguments, "retry job", [one for one, again in again_of.items() if again])
        return 0
    jobs, all_good = named_jobs.find(ledger, arguments.jobs)
    revived = hurried = 0
    changed = []
    for job in jobs:
        # First: what is revived below does not count as what waited.
        sooner = ledger.decisions.hurry(job.job_id) + ledger.deliveries.hurry(job.job_id)
        again = _revive(job, ledger)
        if not again and not sooner and _is_removed(job, ledger):
            print(f"dicom-node: the images of job {job.job_id} were removed; send them again",
                  file=sys.stderr)
            all_good = False
        elif not again and not sooner:
            print(f"dicom-node: job {job.job_id} is {job.state}; nothing of it is dead, and "
                  "nothing of it waits for a later attempt", file=sys.stderr)
            all_good = False
        if again or sooner:
            changed.append(job.job_id)
        revived, hurried = revived + again, hurried + sooner
    print(f"{revived} queued again" + (f", {hurried} hurried" if hurried else ""))
    audited.note(arguments, "retry job", changed)
    return 0 if all_good else 1


def _is_removed(job: Job, ledger: Ledger) -> bool:
    series = ledger.receipts.find_series(job.series_instance_uid)
    return series is not None and series.state is SeriesState.REMOVED


def _revive(job: Job, ledger: Ledger) -> int:
    from dicom_node.ledger.states import IllegalTransition

    again = ledger.deliveries.retry_dead(job.job_id)
    if job.state in (JobState.DEAD, JobState.CANCELLED):
        # Somebody else may have queued it since it was looked at.
        with contextlib.suppress(IllegalTransition):
            ledger.jobs.retry(job.job_id)
            again += 1
    return again
