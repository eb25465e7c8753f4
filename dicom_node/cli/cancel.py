"""``dicom-node cancel``: end jobs without results, or stop what waits to be sent of them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from dicom_node.cli import audited, named_jobs
from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.records import JobState

if TYPE_CHECKING:
    from dicom_node.ledger.ledger import Ledger


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("cancel", help="end jobs without results; `retry` undoes it")
    named_jobs.add_arguments(parser, (JobState.QUEUED, JobState.RUNNING, JobState.HELD))
    parser.add_argument("--deliveries", action="store_true",
                        help="stop what waits to be sent of these jobs, not the jobs")
    parser.add_argument("--without-answer", action="store_true",
                        help="send no report that says the series was not analysed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Cancel the jobs; a running node ends their work within seconds."""
    if named_jobs.is_wrong(arguments):
        return 2
    ledger = open_ledger(open_config(arguments))
    if arguments.deliveries:
        return _stop_deliveries(arguments, ledger)
    return named_jobs.decide(
        arguments, ledger,
        lambda job: ledger.decisions.cancel(job.job_id, answer=not arguments.without_answer),
        JobState.CANCELLED, "cancelled",
    )


def _stop_deliveries(arguments: argparse.Namespace, ledger: Ledger) -> int:
    jobs, all_known = named_jobs.wanted(arguments, ledger)
    stopped, changed = 0, []
    for job in jobs:
        number = ledger.decisions.stop_deliveries(job.job_id)
        if not number and arguments.jobs:
            print(f"dicom-node: nothing of job {job.job_id} waits to be sent", file=sys.stderr)
            all_known = False
        elif number:
            changed.append(job.job_id)
        stopped += number
    print(f"{stopped} deliveries stopped")
    audited.note(arguments, "cancel deliveries of job", changed)
    return 0 if all_known else 1
