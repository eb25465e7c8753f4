"""``dicom-node move-ledger``: from SQLite in the data directory to the database of the settings."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dicom_node.cli import check_database
from dicom_node.cli.opened import REBUILT_AT_START, open_config, running_roles


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "move-ledger",
        help="copy the ledger from SQLite to the PostgreSQL database that the settings name",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Copy it, where nothing runs and the database has no ledger yet; exit 1 where it cannot be."""
    config = open_config(arguments)
    path = config.node.data_dir / "ledger.db"
    why_not = ""
    if not check_database.is_on_a_server(config):
        why_not = "database.url names no PostgreSQL database"
    elif not path.exists():
        why_not = f"there is no ledger at {path}"
    elif running_roles(config):
        why_not = "the node runs: stop it first"
    if not why_not:
        from dicom_node.ledger.recovery import find_damage

        damage = find_damage(path)
        why_not = f"{path} is damaged ({damage}); {REBUILT_AT_START}" if damage else ""
    if why_not:
        print(f"dicom-node: {why_not}", file=sys.stderr)
        return 1
    return _move(f"sqlite:///{path}", config.database.url or "")


def _move(source_url: str, target_url: str) -> int:
    from contextlib import closing

    from dicom_node.ledger.database import Database
    from dicom_node.ledger.moving import move
    from dicom_node.ledger.states import IllegalTransition

    # Opened for writing: one of an earlier version is brought up to date.
    with closing(Database(source_url)) as source, closing(Database(target_url)) as target:
        try:
            copied = move(source, target)
        except IllegalTransition as refused:
            print(f"dicom-node: {refused}", file=sys.stderr)
            return 1
    print(f"copied {sum(copied.values())} rows: {copied.get('series', 0)} series,"
          f" {copied.get('jobs', 0)} jobs, {copied.get('deliveries', 0)} deliveries")
    print("ledger.db stays where it is, and is not used any more")
    return 0
