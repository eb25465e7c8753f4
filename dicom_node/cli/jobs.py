"""``dicom-node jobs``: which models ran on what, and how that ended."""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json, print_table, when
from dicom_node.node_outlook import Outlook, duration
from dicom_node.records import Job, JobState


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("jobs", help="which models ran on what, and how that ended")
    parser.add_argument("--state", choices=[str(state) for state in JobState])
    parser.add_argument("--limit", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the latest jobs, and what each of them waits for."""
    config = open_config(arguments)
    ledger = open_ledger(config, read_only=True)
    state = JobState(arguments.state) if arguments.state else None
    found = ledger.jobs.latest(state, arguments.limit)
    outlook = Outlook(ledger, config)
    waits_for = {
        job.job_id: outlook.of_job(job, ledger.deliveries.of_job(job.job_id)) for job in found
    }
    if arguments.json:
        print_json({"jobs": [
            {**vars(job), "age_s": round(outlook.age_s(job), 1),
             "waits_for": waits_for[job.job_id]}
            for job in found
        ]})
        return 0
    print_table(
        ("job", "model", "rule", "priority", "state", "attempt", "age", "since", "reason",
         "waits for"),
        [
            (j.job_id, _model(j), j.rule, j.priority, j.state, j.attempt,
             duration(outlook.age_s(j)), when(j.changed_at), j.reason, waits_for[j.job_id])
            for j in found
        ],
    )
    return 0


def _model(job: Job) -> str:
    return f"{job.model_id} {job.model_version}" + (" (shadow)" if job.shadow else "")
