"""``dicom-node show UID|JOB``: everything known of one study, series or job, with every change."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from dicom_node.cli.named_series import NEVER_HEARD, find_series
from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json, when
from dicom_node.cli.takes import as_document, briefly, name_of
from dicom_node.delivery.recipients import lane_of
from dicom_node.node_documents import describe_series, taken_by
from dicom_node.node_outlook import Outlook, duration
from dicom_node.operations.keeping import NOTHING_HERE
from dicom_node.pipeline.retry import Cause
from dicom_node.records import (
    DeliveryState,
    DestinationProfile,
    Job,
    Series,
    Transition,
)

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.ledger.ledger import Ledger

# As a person reads it: such a failure is an answer, and no further attempt changes it.
_CAUSES = {Cause.NEVER: "for good"}


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("show", help="everything known of one study, series or job")
    parser.add_argument("name", metavar="UID|JOB",
                        help="Study or Series Instance UID, the hash of one in the log or on the "
                        "page, or a job")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one study, series or job; exit 1 when the node does not know it."""
    config = open_config(arguments)
    ledger = open_ledger(config, read_only=True)
    found = _find(ledger, arguments.name)
    if not found:
        near = ledger.decisions.near(arguments.name) if arguments.name else []
        hint = f"; did you mean {' or '.join(near)}?" if near else f": {NEVER_HEARD}"
        print(f"dicom-node: nothing is known of {arguments.name}{hint}", file=sys.stderr)
        return 1
    outlook = Outlook(ledger, config)
    document = [
        {
            **describe_series(ledger, series, jobs, outlook),
            "taken_by": taken_by(ledger, series.series_instance_uid),
        }
        for series, jobs in found
    ]
    profiles = _profiles(ledger, config, document)
    studies = [
        _keeping(ledger, config, uid)
        for uid in dict.fromkeys(series.study_instance_uid for series, _ in found)
    ]
    if arguments.json:
        print_json({
            "series": document,
            "studies": studies,
            "destinations": [
                {"destination": name, **as_document(profile)} for name, profile in profiles.items()
            ],
        })
        return 0
    for one in document:
        _print(one)
    for one in studies:
        _print_keeping(one)
    for name, profile in profiles.items():
        print(f"{name} takes: {briefly(profile)}")
    return 0


def _find(ledger: Ledger, name: str) -> list[tuple[Series, list[Job]]]:
    job = ledger.jobs.find(name)
    if job is not None:
        series = ledger.receipts.find_series(job.series_instance_uid)
        return [(series, [job])] if series is not None else []
    return [(s, ledger.jobs.of_series(s.series_instance_uid)) for s in find_series(ledger, name)]


def _keeping(ledger: Ledger, config: Config, study: str) -> dict[str, Any]:
    """How long a study stays and why, and when it was removed."""
    from dicom_node.operations.retention import keeping_of

    return {
        "study_instance_uid": study,
        **vars(keeping_of(study, ledger, config)),
        "removals": [vars(one) for one in ledger.removals.of_study(study)],
    }


def _print_keeping(one: dict[str, Any]) -> None:
    print(f"study {one['study_instance_uid']}")
    for removal in one["removals"]:
        print(f"  removed {when(removal['at'])}: {removal['reason']}; {removal['instances']} "
              f"images, {removal['size_bytes'] / 1e6:.1f} MB with their results")
    if one["until"] is not None:
        print(f"  kept until {when(one['until'])}: {one['because']}"
              + (f"; not before {when(one['earliest'])} even where room is needed"
                 if one["earliest"] != one["until"] else ""))
    elif one["because"] != NOTHING_HERE:
        print(f"  kept, with no end: {one['because']}")


def _profiles(
    ledger: Ledger, config: Config, document: list[dict[str, Any]]
) -> dict[str, DestinationProfile | None]:
    """What is known of each peer that something of this was for, by its name."""
    known = ledger.profiles.all()
    meant = {
        lane_of(config, delivery["destination"], series["calling_ae_title"])
        for series in document for job in series["jobs"] for delivery in job["deliveries"]
    }
    return {name: known.get(name) for name in sorted(meant)}


def _print(one: dict[str, Any]) -> None:
    print(f"series {one['series_instance_uid']}  {one['modality']}, {one['instance_count']} "
          f"images from {one['calling_ae_title']}: {one['state']} ({one['reason']})")
    _print_history(one["history"], "  ")
    for taken in one["taken_by"]:
        print(f"  taken as {taken['role']} by job {taken['job_id']} of series "
              f"{taken['series_instance_uid']}: {taken['state']}")
    for job in one["jobs"]:
        print(f"  job {job['job_id']}  {job['model_id']} {job['model_version']}"
              f"{' (shadow, sends nothing)' if job['shadow'] else ''} by rule "
              f"{job['rule']!r}, {job['priority']}: {job['state']} ({job['reason']})")
        print(f"    asked for {duration(job['age_s'])} ago"
              + (f", at host {job['host']}" if job["host"] else "")
              + (f"; waits for {job['waits_for']}" if job["waits_for"] else ""))
        for taken in job["inputs"]:
            print(f"    {input_text(taken)}")
        if job["failures"]:
            counted = sorted(job["failures"].items())
            causes = ", ".join(f"{n} {_CAUSES.get(cause, cause)}" for cause, n in counted)
            print(f"    failed attempts by cause: {causes}")
        _print_history(job["history"], "    ")
        stages = ", ".join(f"{name} {s:.2f} s" for name, s in job["seconds_by_stage"].items())
        if stages:
            print(f"    time: {stages}")
        if job["impression"]:
            from dicom_node.results.draft_record import record_lines

            for line in record_lines(job["impression"]):
                print(f"    {line}")
        for name, alike in _by_name(job["results"]).items():
            print(f"    {_counted(name, alike)}"
                  + (f"  {alike[0]['sop_instance_uid']}" if len(alike) == 1 else ""))
        for alike in _by_fate(job["deliveries"]):
            _print_deliveries(alike)


def input_text(taken: dict[str, Any]) -> str:
    """One further input of a job: its series, or why there is none."""
    if taken["series_instance_uid"]:
        late = ", for another job in place of this one" if taken["waits"] else ""
        return f"{taken['role']}: series {taken['series_instance_uid']} ({taken['reason']}){late}"
    if taken["waits"]:
        return f"{taken['role']}: no series so far"
    return f"{taken['role']}: none, {taken['reason']}"


def _by_name(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Results by what they are: a person asks for pages of pictures, not for each of them."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(name_of(result["kind"], result["form"]), []).append(result)
    return groups


def _by_fate(deliveries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Deliveries that differ only in their object and in the second of each change."""
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for delivery in deliveries:
        told = [
            delivery[key]
            for key in ("kind", "form", "destination", "state", "reason", "status", "attempt",
                        "commitment")
        ]
        changes = [(t.from_state, t.to_state, t.reason, t.attempt) for t in delivery["history"]]
        groups.setdefault((*told, *changes), []).append(delivery)
    return list(groups.values())


def _counted(name: str, alike: list[dict[str, Any]]) -> str:
    return f"{len(alike)} x {name}" if len(alike) > 1 else name


def _print_deliveries(alike: list[dict[str, Any]]) -> None:
    """One line for all, and the changes of the one that changed last."""
    delivery = max(alike, key=lambda one: [t.at for t in one["history"]][-1:])
    status = delivery["status"]
    reason = delivery["reason"] if delivery["reason"] != delivery["state"] else ""
    words = [reason, "" if status is None else f"status 0x{status:04X}"]
    found = ", ".join(word for word in words if word)
    name = _counted(name_of(delivery["kind"], delivery["form"]), alike)
    line = f"    {name} to {delivery['destination']}: {delivery['state']}"
    line += (f" ({found})" if found else "") + f", attempt {delivery['attempt']}"
    if delivery["commitment"] not in (None, "", delivery["state"]):
        line += f", commitment {delivery['commitment'].replace('_', ' ')}"
    if delivery["state"] == DeliveryState.PENDING:
        line += f", not before {when(delivery['next_try'])}"
    print(line)
    because = delivery["chosen_because"]
    if because and because != delivery["reason"] and not because.startswith("produced"):
        print(f"      chosen {because}")
    _print_history(delivery["history"], "      ")


def _print_history(history: list[Transition], indent: str) -> None:
    for t in history:
        is_move = t.from_state not in ("", t.to_state)
        change = f"{t.from_state} -> {t.to_state}" if is_move else t.to_state
        words = [change, t.reason, f"attempt {t.attempt}" if t.attempt else ""]
        print(f"{indent}{when(t.at)}  {'  '.join(word for word in words if word)}")
