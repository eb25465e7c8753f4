"""``dicom-node audit``: read the audit trail, or check that nothing in it was changed."""

from __future__ import annotations

import argparse
import base64
import socket
import sys
from collections import deque
from datetime import date
from typing import Any
from xml.etree import ElementTree

from dicom_node.cli.audited import user_of_system
from dicom_node.cli.opened import open_config
from dicom_node.cli.output import print_json, print_table
from dicom_node.config import Config
from dicom_node.errors import StorageFailed, TransientError
from dicom_node.operations.audit_trail import AuditTrail, Entry, Verdict

_OUTCOMES = {"0": "", "4": "minor failure", "8": "serious failure", "12": "major failure"}


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("audit", help="read the audit trail, or check its chain")
    parser.add_argument("--verify", action="store_true",
                        help="check every line against the one before it; exit code 1 if one fails")
    parser.add_argument("--from-start", action="store_true",
                        help="with --verify: also exit code 1 if the oldest days are not there")
    parser.add_argument("--since", type=date.fromisoformat, metavar="YYYY-MM-DD",
                        help="lines of this day (UTC) and later")
    parser.add_argument("--limit", type=int, default=100,
                        help="how many lines, the latest ones (default 100)")
    parser.add_argument("--json", action="store_true",
                        help="one JSON document, with the messages in full")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the trail (that is written down in it), or the verdict on its chain."""
    config = open_config(arguments)
    folder = config.node.data_dir / "audit"
    trail = AuditTrail(folder)
    try:
        if arguments.verify:
            verdict = trail.verify(from_start=arguments.from_start)
            return _tell_verdict(verdict, as_json=arguments.json)
        entries = list(deque(trail.entries(arguments.since), max(0, arguments.limit)))
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be read: {error.strerror}") from error
    _note_reading(config, trail)
    if arguments.json:
        print_json({"entries": [vars(entry) for entry in entries]})
        return 0
    print_table(("at (UTC)", "event", "outcome", "reason", "who", "about"),
                [_row(entry) for entry in entries])
    return 0


def _tell_verdict(verdict: Verdict, *, as_json: bool) -> int:
    if as_json:
        print_json({**vars(verdict), "is_whole": not verdict.problem})
    elif verdict.problem:
        print(f"BROKEN: {verdict.problem}")
    else:
        print(("whole as far as it is here: " if verdict.begins else "whole: ")
              + f"{verdict.lines} lines in {verdict.files} files"
              + (f", {verdict.torn} of them torn by a crash" if verdict.torn else "")
              + (f"; begins with {verdict.begins}: earlier days are not here"
                 if verdict.begins else ""))
    return 1 if verdict.problem else 0


def _note_reading(config: Config, trail: AuditTrail) -> None:
    from dicom_node.operations.audit_records import log_used

    if not trail.files():
        return
    message = log_used(config, socket.gethostname(), user_of_system()[0],
                       str(config.node.data_dir / "audit"))
    try:
        trail.append([message])
    except TransientError as error:
        # Whoever may read and not write is known by the system's own audit.
        print(f"that it was read is not written down: {error}", file=sys.stderr)


def _row(entry: Entry) -> tuple[str, ...]:
    # Of lines that the node wrote; expat limits what entities may become.
    root = ElementTree.fromstring(entry.message)  # noqa: S314
    event = root.find("EventIdentification")
    names = [
        code.get("originalText", "") for code in (event if event is not None else [])
        if code.tag in ("EventID", "EventTypeCode")
    ]
    outcome = event.get("EventOutcomeIndicator", "") if event is not None else ""
    about = [
        one.get("ParticipantObjectID", "") for one in root.iter("ParticipantObjectIdentification")
        if one.get("ParticipantObjectTypeCode") != "1"
    ]
    who = [
        " ".join(filter(None, [
            one.get("UserID"), f"({one.get('UserName')})" if one.get("UserName") else "",
            one.get("NetworkAccessPointID"),
        ]))
        for one in root.iter("ActiveParticipant") if one.get("UserName") != "dicom-node"
    ]
    return entry.at[:19], ": ".join(names), _OUTCOMES.get(outcome, outcome), _reason(root), \
        "; ".join(who), "; ".join(about)


def _reason(root: ElementTree.Element) -> str:
    """What the node says about the event, or about what it concerns."""
    said = [one.text or "" for one in root.iter("EventOutcomeDescription")]
    said += [
        base64.b64decode(detail.get("value", "")).decode("utf-8", "replace")
        for detail in root.iter("ParticipantObjectDetail")
        if detail.get("type") == "Alert Description"
    ]
    return "; ".join(filter(None, said))
