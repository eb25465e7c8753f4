"""``dicom-node replay``: what other rules would have done with what arrived in the last days."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json, print_table

if TYPE_CHECKING:
    from dicom_node.operations.web.ports import Replay

_MOST = 100_000
_SHOWN = 20


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "replay", help="what other rules would have done with what arrived lately"
    )
    parser.add_argument("--days", type=float, default=7.0, metavar="N",
                        help="how far to look back (default 7)")
    parser.add_argument("--rules", type=Path, metavar="FILE",
                        help="a file with a key `rules`, such as an edited config.yaml; without "
                        "it the rules that are in use")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print which series each rule would gain and lose; nothing is changed."""
    from dicom_node.config_yaml import read_text
    from dicom_node.node_replay import parse_rules, replay
    from dicom_node.spool import open_spool

    config = open_config(arguments)
    rules = config.rules
    if arguments.rules is not None:
        rules = parse_rules(config, read_text(arguments.rules), str(arguments.rules))
    ledger = open_ledger(config, read_only=True)
    spool = open_spool(config)
    found = replay(config, ledger, spool, arguments.days, rules, limit=_MOST)
    if arguments.json:
        print_json({**vars(found), "rules": [vars(one) for one in found.rules]})
    else:
        _print(found)
    return 0


def _print(found: Replay) -> None:
    print(f"{found.series} series of the last {found.days:g} days"
          + (f"; {found.not_kept} more are not kept any more" if found.not_kept else ""))
    print_table(
        ("rule", "now", "then", "gained", "lost"),
        [(one.rule, one.before, one.after, len(one.gained), len(one.lost)) for one in found.rules],
    )
    print(f"taken by no rule: {found.unmatched_before} now, {found.unmatched_after} then")
    for one in found.rules:
        for word, uids in (("gains", one.gained), ("loses", one.lost)):
            for uid in uids[:_SHOWN]:
                print(f"{one.rule} {word} series {uid}")
            if len(uids) > _SHOWN:
                print(f"{one.rule} {word} {len(uids) - _SHOWN} more: --json lists them")
