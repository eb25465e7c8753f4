"""``dicom-node release``: let held jobs run."""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node.cli import named_jobs
from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.records import JobState


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("release", help="let held jobs run")
    named_jobs.add_arguments(parser, (JobState.HELD,))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Queue the held jobs again, each with the age it has."""
    if named_jobs.is_wrong(arguments):
        return 2
    ledger = open_ledger(open_config(arguments))
    return named_jobs.decide(
        arguments, ledger, lambda job: ledger.decisions.release(job.job_id),
        JobState.QUEUED, "released",
    )
