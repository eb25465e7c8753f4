"""``dicom-node send PEER PATH...``: store files or folders at a configured peer, by hand."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from dicom_node.cli.opened import open_config
from dicom_node.cli.output import tell_skipped


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("send", help="store files at a peer, by C-STORE or STOW-RS")
    parser.add_argument("peer", metavar="PEER", help="a name under `peers` of the settings")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files or folders")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send; exit 1 unless the peer stored every object."""
    from dicom_node.delivery.dicomweb import sender_for
    from dicom_node.imaging.scan import scan

    config = open_config(arguments)
    peer = config.peer(arguments.peer)
    series, skipped = scan(arguments.paths)
    tell_skipped(skipped)
    paths = [path for found in series.values() for path in found]
    if not paths:
        print("dicom-node: nothing to send", file=sys.stderr)
        return 1
    outcomes = sender_for(config.node.ae_title, peer).send(peer, paths)
    stored = sum(outcome.stored for outcome in outcomes)
    for outcome in outcomes:
        if not outcome.stored or outcome.status:
            status = "none" if outcome.status is None else f"0x{outcome.status:04X}"
            print(f"{outcome.sop_instance_uid}: status {status}, {outcome.reason}")
    print(f"{stored} of {len(paths)} stored by {peer.name}")
    return 0 if stored == len(paths) else 1
