"""``dicom-node remove``: let studies go before their time, also what failed."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from dicom_node.cli import audited
from dicom_node.cli.named_series import NEVER_HEARD, find_series
from dicom_node.cli.opened import open_config, open_ledger, running_roles
from dicom_node.records import DeliveryState, JobState, SeriesState

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.ledger.ledger import Ledger


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "remove", help="delete the images and results of studies, also of those that failed"
    )
    parser.add_argument("studies", nargs="+", metavar="STUDY",
                        help="Study Instance UID, or its hash in the log or on the page")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask for the removal; a running node does it within seconds. Exit 1 where it cannot be."""
    config = open_config(arguments)
    ledger = open_ledger(config)
    all_good, asked = True, []
    for name in arguments.studies:
        uid, why_not = _study(ledger, name)
        why_not = why_not or _why_not(ledger, config, uid)
        if why_not:
            print(f"dicom-node: study {name}: {why_not}", file=sys.stderr)
            all_good = False
            continue
        ledger.removals.ask(uid)
        asked.append(uid)
        running = "intake" in running_roles(config)
        print(f"study {uid} is removed {'now' if running else 'when the node runs'}")
    audited.note(arguments, "remove study", asked)
    return 0 if all_good else 1


def _study(ledger: Ledger, name: str) -> tuple[str, str]:
    """Study Instance UID of what was named, and why it means no study that could be removed."""
    found = find_series(ledger, name)
    if ledger.jobs.find(name) is not None:
        return name, f"that is a job: name the study of it, which `dicom-node show {name}` tells"
    if not found:
        return name, f"nothing is known of it: {NEVER_HEARD}"
    uid = found[0].study_instance_uid
    whole = ledger.receipts.series_of_study(uid)
    if {one.series_instance_uid for one in found} != {one.series_instance_uid for one in whole}:
        return uid, f"that is a part of study {uid}, which is removed as a whole, by its own name"
    return uid, ""


def _why_not(ledger: Ledger, config: Config, uid: str) -> str:
    from dataclasses import replace
    from datetime import UTC, datetime

    from dicom_node.operations.keeping import decide, rules_of

    holding = ledger.removals.holding(uid)
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
    waiting = dict.fromkeys(
        one.job_id for one in holding.deliveries
        if one.state in (DeliveryState.PENDING, DeliveryState.FAILED)
    )
    hint = ""
    if open_jobs:
        hint = f"; first `dicom-node cancel {' '.join(open_jobs)}`"
    elif waiting:
        hint = f"; first `dicom-node cancel --deliveries {' '.join(waiting)}`"
    return f"not while {keeping.because}{hint}"
