"""``dicom-node retry``: give a dead job, and its dead deliveries, another life."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import when
from dicom_node.records import DeliveryState, JobState

if TYPE_CHECKING:
    from dicom_node.records import Delivery


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("retry", help="run dead jobs or send dead deliveries again")
    parser.add_argument("job", nargs="?", metavar="JOB", help="a job, as `jobs` prints it")
    parser.add_argument("--state", choices=["dead"], help="every dead job and delivery")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Queue the jobs again; a running node takes them up within seconds."""
    if bool(arguments.job) == bool(arguments.state):
        print("dicom-node: retry takes a JOB or --state dead", file=sys.stderr)
        return 2
    ledger = open_ledger(open_config(arguments))
    if arguments.state:
        dead = {job.job_id: job for job in ledger.jobs.latest(JobState.DEAD, limit=100_000)}
        sent = (ledger.jobs.find(job_id) for job_id in ledger.deliveries.jobs_with_dead())
        dead.update((job.job_id, job) for job in sent if job is not None)
        wanted = list(dead.values())
    else:
        job = ledger.jobs.find(arguments.job)
        if job is None:
            print(f"dicom-node: no job {arguments.job}", file=sys.stderr)
            return 1
        wanted = [job]
    again = 0
    for job in wanted:
        again += ledger.deliveries.retry_dead(job.job_id)
        if job.state in (JobState.DEAD, JobState.CANCELLED):
            ledger.jobs.retry(job.job_id)
            again += 1
    if not again and arguments.job:
        print(f"dicom-node: job {arguments.job} is {wanted[0].state} and nothing of it is dead"
              + _waiting(ledger.deliveries.of_job(arguments.job)), file=sys.stderr)
        return 1
    print(f"{again} queued again")
    return 0


def _waiting(deliveries: list[Delivery]) -> str:
    """What a running node sends by itself, and when."""
    waiting = [one for one in deliveries if one.state == DeliveryState.PENDING]
    text = ""
    for destination in sorted({one.destination for one in waiting}):
        times = [one.not_before for one in waiting if one.destination == destination]
        text += f"; {len(times)} to {destination} waiting, the next attempt not before "
        text += when(min(times))
    return text
