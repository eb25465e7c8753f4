"""``dicom-node models show ID``: one card as the node reads it."""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node.cli.opened import find_card, open_catalog, open_config
from dicom_node.cli.output import print_json


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser("show", help="one card, with all its defaults")
    parser.add_argument("model", metavar="ID", help="a model; ID@VERSION is one version of it")
    parser.add_argument("--version", metavar="V", help="not the live version but this one")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a card, its folder and its fingerprint."""
    card = find_card(open_catalog(open_config(arguments)), arguments.model, arguments.version)
    print_json(
        {
            **card.model_dump(mode="json"),
            "folder": str(card.folder),
            "fingerprint": card.fingerprint,
        }
    )
    return 0
