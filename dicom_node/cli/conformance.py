"""``dicom-node conformance``: the DICOM Conformance Statement of this configuration."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dicom_node.cli.opened import open_config
from dicom_node.cli.output import print_json


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("conformance", help="DICOM Conformance Statement, as Markdown")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the statement."""
    from dicom_node.cli.conformance_facts import collect
    from dicom_node.operations.conformance import build_statement
    from dicom_node.operations.document import to_json, to_markdown

    config = open_config(arguments)
    statement = build_statement(config, collect(config))
    if arguments.json:
        print_json(to_json(statement))
    else:
        sys.stdout.write(to_markdown(statement))
    return 0
