"""``dicom-node echo PEER``: does a peer answer?"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dicom_node.cli.opened import open_config
from dicom_node.errors import NodeError


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("echo", help="does a peer answer, by C-ECHO or DICOMweb")
    parser.add_argument("peer", metavar="PEER", help="a name under `peers` of the settings")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print how long the peer took; of one that does not answer what to do next: exit 1."""
    from dicom_node.cli.peer_steps import next_step
    from dicom_node.delivery.dicomweb import sender_for

    config = open_config(arguments)
    peer = config.peer(arguments.peer)
    try:
        seconds = sender_for(config.node.ae_title, peer).echo(peer)
    except NodeError as error:
        print(f"dicom-node: {error.reason}: {error}", file=sys.stderr)
        print(f"-> next: {next_step(config, peer, error)}", file=sys.stderr)
        return 1
    by_dimse = f"{peer.ae_title} at {peer.host}:{peer.port}"
    where = by_dimse if peer.dicomweb is None else peer.dicomweb.url
    print(f"{peer.name} ({where}) answered in {seconds:.3f} s")
    return 0
