"""``dicom-node status``: what arrived, what runs, what waits, and what needs somebody."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json, print_table, when
from dicom_node.records import DeliveryState, JobState, SeriesState

if TYPE_CHECKING:
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.records import Delivery, Job, Series


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("status", help="what arrived, what runs, what needs somebody")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--limit", type=int, default=20, help="how many series (default 20)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print counts by state and the latest series with their reasons."""
    ledger = open_ledger(open_config(arguments))
    series = ledger.receipts.recent_series(arguments.limit)
    counts = {
        "series": ledger.receipts.count_by_state(),
        "jobs": ledger.jobs.count_by_state(),
        "deliveries": ledger.deliveries.count_by_state(),
    }
    if arguments.json:
        latest = [{**vars(one), "outcome": _outcome(ledger, one)} for one in series]
        print_json({**counts, "latest": latest})
        return 0
    for kind, by_state in counts.items():
        text = ", ".join(f"{number} {state}" for state, number in sorted(by_state.items()))
        print(f"{kind:11} {text or 'none'}")
    print()
    print_table(
        ("series", "modality", "from", "images", "state", "since", "outcome"),
        [
            (s.series_instance_uid, s.modality, s.calling_ae_title, s.instance_count, s.state,
             when(s.changed_at), _outcome(ledger, s))
            for s in series
        ],
    )
    if series:
        print("\ndicom-node show UID: every change of one; dicom-node explain UID: why a rule does "
              "not match")
    return 0


def _outcome(ledger: Ledger, series: Series) -> str:
    """What became of a series: why it is in its state, or how its jobs and deliveries stand."""
    jobs = ledger.jobs.of_series(series.series_instance_uid)
    if series.state != SeriesState.ROUTED or not jobs:
        return series.reason
    return "; ".join(_job_outcome(job, ledger.deliveries.of_job(job.job_id)) for job in jobs)


def _job_outcome(job: Job, deliveries: list[Delivery]) -> str:
    text = f"{job.model_id} {job.state}"
    if job.state in (JobState.DEAD, JobState.FAILED, JobState.CANCELLED, JobState.HELD):
        text += f": {job.reason}"
    for destination in sorted({one.destination for one in deliveries}):
        numbers = Counter(
            f"{one.state} ({one.reason})"
            if one.reason and one.state in (DeliveryState.PENDING, DeliveryState.DEAD)
            else str(one.state)
            for one in deliveries
            if one.destination == destination
        )
        parts = ", ".join(f"{number} {state}" for state, number in sorted(numbers.items()))
        text += f", {destination}: {parts}"
    return text
