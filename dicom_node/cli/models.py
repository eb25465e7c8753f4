"""``dicom-node models``: the models, their versions, and which of them runs; one file an action."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dicom_node.cli import (
    models_agreement,
    models_bench,
    models_compress,
    models_gate,
    models_list,
    models_new,
    models_quality,
    models_show,
    models_stage,
    models_verify,
)

_ACTIONS = (
    models_list, models_show, models_new, models_verify, models_bench, models_compress,
    models_stage, models_agreement, models_gate, models_quality,
)


def add_parser(commands: Any) -> None:
    """Declare the command and its actions; without an action the models are listed."""
    parser = commands.add_parser("models", help="make, check, measure, promote and compare models")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=models_list.run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for one in _ACTIONS:
        one.add_parser(actions)
    for action in actions.choices.values():
        action.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS,
                            help="settings, as before the command")
        # Behind the action as well as before it; left out here, the one before it stays.
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS,
                            help="one JSON document")
