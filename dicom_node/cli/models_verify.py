"""``dicom-node models verify [ID]``: are the weights those of the card?"""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node.cli.opened import find_card, open_catalog, open_config
from dicom_node.cli.output import print_json


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser("verify", help="are the weights those of the card?")
    parser.add_argument("model", metavar="ID", nargs="?", help="one model; ID@VERSION one version")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare weights with their SHA-256; exit 1 when some are others, or a folder is bad."""
    from ai_models.types import ModelError
    from ai_models.weights import verify_weights

    catalog = open_catalog(open_config(arguments))
    cards = [find_card(catalog, arguments.model)] if arguments.model else catalog.cards()
    found: list[dict[str, Any]] = []
    for card in cards:
        outcome = {"id": card.id, "version": card.version, "sha256": card.weights_sha256}
        try:
            verify_weights(card)
        except ModelError as error:
            found.append({**outcome, "ok": False, "found": f"{error.reason}: {error}"})
        else:
            text = f"weights as the card says ({card.weights_sha256})"
            found.append({**outcome, "ok": True, "found": text})
    problems = [] if arguments.model else catalog.problems()
    if arguments.json:
        told = [{"folder": str(one.folder), "message": one.message} for one in problems]
        print_json({"models": found, "problems": told})
    else:
        for one in found:
            print(f"{one['id']} {one['version']}: {one['found']}")
        for problem in problems:
            print(problem.message)
    return 1 if problems or not all(one["ok"] for one in found) else 0
