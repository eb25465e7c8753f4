"""``dicom-node explain PATH... | STUDY_UID``: which rules match, and on what the others fail."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.routing.rules import RuleMatch


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "explain", help="which rules match a series, and on what the others fail"
    )
    parser.add_argument("names", nargs="+", metavar="PATH|STUDY_UID",
                        help="files or folders, or a study the node has received")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explain every series found; exit 1 when nothing readable was named."""
    from dicom_node.routing import rules

    config = open_config(arguments)
    series = _find_series(config, arguments.names)
    if not series:
        print("dicom-node: nothing to explain: no DICOM file or known study was named",
              file=sys.stderr)
        return 1
    explained = {uid: _explain(config, path) for uid, path in series.items()}
    if arguments.json:
        print_json({uid: [_as_dict(match) for match in found] for uid, found in explained.items()})
        return 0
    for uid, found in explained.items():
        print(f"series {uid}")
        if not found:
            print("  no rules are configured: this series would be declined")
        for match in found:
            print("  " + rules.as_text(match).replace("\n", "\n  "))
    return 0


def _find_series(config: Config, names: list[str]) -> dict[str, Path]:
    """One representative file of every series that was named."""
    paths = [Path(name) for name in names if Path(name).exists()]
    uids = [name for name in names if not Path(name).exists()]
    found: dict[str, Path] = {}
    if paths:
        from dicom_node.imaging.scan import scan

        scanned, skipped = scan(paths)
        found = {uid: files[0] for uid, files in scanned.items()}
        for path, reason in skipped:
            print(f"skipped {path}: {reason}", file=sys.stderr)
    if uids:
        ledger = open_ledger(config)
        for uid in uids:
            for series in ledger.receipts.series_of_study(uid):
                first = ledger.receipts.instances(series.series_instance_uid)[0]
                found[series.series_instance_uid] = config.node.data_dir / "spool" / first.path
    return found


def _explain(config: Config, path: Path) -> list[RuleMatch]:
    import pydicom

    from dicom_node.routing import rules

    dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    return [rules.explain(rule, dataset) for rule in config.rules]


def _as_dict(match: RuleMatch) -> dict[str, Any]:
    return {
        "rule": match.rule.name,
        "matches": match.matches,
        "mismatches": [vars(mismatch) for mismatch in match.mismatches],
    }
