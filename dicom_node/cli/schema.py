"""``dicom-node schema``: the JSON Schema of the settings or of a model's card, for editors."""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node import config as configuration
from dicom_node.cli.output import print_json


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("schema", help="JSON Schema of config.yaml, or of a model's card")
    parser.add_argument(
        "--card", action="store_true", help="of model.yaml, the card of a model, instead"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    if arguments.card:
        from ai_models.card_schema import json_schema

        print_json(json_schema())
    else:
        print_json(configuration.json_schema())
    return 0
