"""``dicom-node remove``: let studies go before their time, also what failed."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger, running_roles
from dicom_node.records import JobState, SeriesState

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.ledger.ledger import Ledger


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "remove", help="delete the images and results of studies, also of those that failed"
    )
    parser.add_argument("studies", nargs="+", metavar="STUDY_UID", help="Study Instance UID")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask for the removal; a running node does it within seconds. Exit 1 where it cannot be."""
    config = open_config(arguments)
    ledger = open_ledger(config)
    all_good = True
    for uid in arguments.studies:
        why_not = _why_not(ledger, config, uid)
        if why_not:
            print(f"dicom-node: study {uid}: {why_not}", file=sys.stderr)
            all_good = False
            continue
        ledger.removals.ask(uid)
        running = "intake" in running_roles(config)
        print(f"study {uid} is removed {'now' if running else 'when the node runs'}")
    return 0 if all_good else 1


def _why_not(ledger: Ledger, config: Config, uid: str) -> str:
    from dataclasses import replace
    from datetime import UTC, datetime

    from dicom_node.operations.keeping import decide, rules_of

    holding = ledger.removals.holding(uid)
    if not holding.series:
        return "nothing is known of it"
    if all(one.state is SeriesState.REMOVED for one in holding.series):
        return "it is removed already"
    wanted = replace(holding, wanted_gone_at=datetime.now(UTC))
    keeping = decide(wanted, rules_of(config))
    if keeping.removed_as:
        return ""
    open_jobs = [
        one.job_id for one in holding.jobs
        if one.state in (JobState.QUEUED, JobState.RUNNING, JobState.HELD)
    ]
    hint = f"; first `dicom-node cancel {' '.join(open_jobs)}`" if open_jobs else ""
    return f"not while {keeping.because}{hint}"
