"""``dicom-node models``: which models there are, what they are for, and whether they are whole."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import find_card, open_catalog, open_config
from dicom_node.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ai_models.card import Card
    from ai_models.catalog import Catalog


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("models", help="list, show or verify models")
    parser.add_argument("action", nargs="?", choices=["list", "show", "verify"], default="list")
    parser.add_argument("model", nargs="?", metavar="MODEL")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List all models, show one card, or verify cards and weights."""
    catalog = open_catalog(open_config(arguments))
    if arguments.action == "list":
        return _list(catalog, arguments.json)
    if arguments.action == "show":
        if not arguments.model:
            print("dicom-node: models show takes a MODEL", file=sys.stderr)
            return 2
        card = find_card(catalog, arguments.model)
        print_json(card.model_dump(mode="json"))
        return 0
    cards = [find_card(catalog, arguments.model)] if arguments.model else catalog.cards()
    return _verify(cards)


def _list(catalog: Catalog, as_json: bool) -> int:
    cards = catalog.cards()
    if as_json:
        print_json(
            {
                "models": [
                    {
                        "id": card.id,
                        "version": card.version,
                        "task": card.task,
                        "modality": list(card.modality),
                        "licence": card.licence,
                        "intended_use": card.intended_use,
                    }
                    for card in cards
                ]
            }
        )
        return 0
    print_table(
        ("model", "version", "task", "modality", "licence", "intended use"),
        [
            (c.id, c.version, c.task, ",".join(c.modality), c.licence, c.intended_use.split(".")[0])
            for c in cards
        ],
    )
    return 0


def _verify(cards: list[Card]) -> int:
    from ai_models.types import ModelError
    from ai_models.weights import verify_weights

    failed = 0
    for card in cards:
        try:
            verify_weights(card)
        except ModelError as error:
            failed += 1
            print(f"{card.id} {card.version}: {error.reason}: {error}")
        else:
            print(f"{card.id} {card.version}: weights as the card says ({card.weights_sha256})")
    return 1 if failed else 0
