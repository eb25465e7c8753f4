"""``dicom-node status``: what arrived, what runs, what waits, and what needs somebody."""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json, print_table, when


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
        print_json({**counts, "latest": [vars(one) for one in series]})
        return 0
    for kind, by_state in counts.items():
        text = ", ".join(f"{number} {state}" for state, number in sorted(by_state.items()))
        print(f"{kind:11} {text or 'none'}")
    print()
    print_table(
        ("series", "modality", "from", "images", "state", "since", "reason"),
        [
            (s.series_instance_uid, s.modality, s.calling_ae_title, s.instance_count, s.state,
             when(s.changed_at), s.reason)
            for s in series
        ],
    )
    return 0
