"""``dicom-node schema``: the JSON Schema of the settings, for editors."""

from __future__ import annotations

import argparse
from typing import Any

from dicom_node import config as configuration
from dicom_node.cli.output import print_json


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("schema", help="JSON Schema of config.yaml")
    parser.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Print the schema."""
    print_json(configuration.json_schema())
    return 0
