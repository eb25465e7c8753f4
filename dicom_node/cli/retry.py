"""``dicom-node retry``: give a dead job, and its dead deliveries, another life."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.records import JobState


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("retry", help="run dead jobs or send dead deliveries again")
    parser.add_argument("job", nargs="?", metavar="JOB", help="a job, as `jobs` prints it")
    parser.add_argument("--state", choices=["dead"], help="every dead job")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Queue the jobs again; a running node takes them up within seconds."""
    ledger = open_ledger(open_config(arguments))
    if bool(arguments.job) == bool(arguments.state):
        print("dicom-node: retry takes a JOB or --state dead", file=sys.stderr)
        return 2
    if arguments.state:
        wanted = ledger.jobs.latest(JobState.DEAD, limit=100_000)
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
    print(f"{again} queued again")
    return 0 if again or arguments.state else 1
