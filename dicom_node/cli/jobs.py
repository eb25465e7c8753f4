"""``dicom-node jobs``: which models ran on what, and how that ended."""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json, print_table, when
from dicom_node.records import JobState


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("jobs", help="which models ran on what, and how that ended")
    parser.add_argument("--state", choices=[str(state) for state in JobState])
    parser.add_argument("--limit", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the latest jobs."""
    ledger = open_ledger(open_config(arguments))
    state = JobState(arguments.state) if arguments.state else None
    found = ledger.jobs.latest(state, arguments.limit)
    if arguments.json:
        print_json({"jobs": [vars(job) for job in found]})
        return 0
    print_table(
        ("job", "model", "rule", "state", "attempt", "since", "reason"),
        [
            (j.job_id, f"{j.model_id} {j.model_version}", j.rule, j.state, j.attempt,
             when(j.changed_at), j.reason)
            for j in found
        ],
    )
    return 0
