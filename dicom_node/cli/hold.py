"""``dicom-node hold``: keep jobs from running until they are released."""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node.cli import named_jobs
from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.records import JobState


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("hold", help="keep jobs from running until `release`")
    named_jobs.add_arguments(parser, (JobState.QUEUED, JobState.RUNNING))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Hold the jobs; a running node stops those that run within seconds."""
    if named_jobs.is_wrong(arguments):
        return 2
    ledger = open_ledger(open_config(arguments))
    return named_jobs.decide(
        arguments, ledger, lambda job: ledger.decisions.hold(job.job_id), JobState.HELD, "held",
    )
