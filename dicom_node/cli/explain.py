"""``dicom-node explain PATH... | UID | JOB``: which rules match, and on what the others fail."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli import explain_inputs
from dicom_node.cli.explain_inputs import Surroundings
from dicom_node.cli.named_series import NEVER_HEARD, find_series
from dicom_node.cli.opened import open_config, open_ledger, without_model
from dicom_node.cli.output import print_json, tell_skipped
from dicom_node.cli.writers import drafting_by_rule
from dicom_node.errors import NotUnderstood

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_node.config import Config
    from dicom_node.records import RuleWithoutModel
    from dicom_node.routing.rules import RuleMatch
    from dicom_node.routing.selection import Selected


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "explain", help="which rules match a series, and on what the others fail"
    )
    parser.add_argument("names", nargs="+", metavar="PATH|UID|JOB",
                        help="files or folders, or a study or series that the node has received, "
                        "by its UID, its hash in the log or on the page, or a job of it")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explain every series found; exit 1 when nothing readable was named."""
    from dicom_node.routing import rules

    config = open_config(arguments)
    series, around = _find_series(config, arguments.names)
    if not series:
        print("dicom-node: nothing to explain: no DICOM file, and no study, series or job "
              f"that this node knows ({NEVER_HEARD}): {' '.join(arguments.names)}", file=sys.stderr)
        return 1
    drafting = drafting_by_rule(config)
    explained = {
        uid: [
            _Answer(uid, rules.explain(rule, dataset), around, drafting.get(rule.name, ""))
            for rule in config.rules
        ]
        for uid, dataset in series.items()
    }
    without = {one.rule: one for one in without_model(config)}
    if arguments.json:
        print_json({
            uid: [one.as_dict(without.get(one.match.rule.name)) for one in found]
            for uid, found in explained.items()
        })
        return 0
    for uid, found in explained.items():
        print(f"series {uid}")
        if not found:
            print("  no rules are configured: this series would be declined")
        for one in found:
            print("  " + rules.as_text(one.match).replace("\n", "\n  "))
            lacking = without.get(one.match.rule.name)
            if one.match.matches and lacking is not None:
                print(f"    and is without its model {lacking.model_id}: {lacking.reason}: "
                      f"{lacking.message}")
            for line in one.lines():
                print(f"    {line}")
            if one.match.matches and one.drafting:
                print(f"    {one.drafting}")
            if one.not_analysed:
                print(f"    was not analysed: {one.not_analysed}")
        for line in around.beside(uid, config.rules):
            print(f"  {line}")
    return 0


@dataclass(frozen=True)
class _Answer:
    """One rule beside one series, with what fills its roles where it matches."""

    uid: str
    match: RuleMatch
    around: Surroundings
    drafting: str

    def _selected(self) -> list[Selected]:
        return self.around.selected(self.uid, self.match.rule) if self.match.matches else []

    def _waits_for(self) -> str:
        return self.around.waits_for.get((self.uid, self.match.rule.name), "")

    @property
    def not_analysed(self) -> str:
        return self.around.not_analysed.get((self.uid, self.match.rule.name), "")

    def lines(self) -> list[str]:
        rule = self.match.rule
        if not self.match.matches or not rule.inputs:
            return []
        return explain_inputs.as_lines(rule, self._selected(), self._waits_for())

    def as_dict(self, lacking: RuleWithoutModel | None) -> dict[str, Any]:
        return {
            "rule": self.match.rule.name,
            "matches": self.match.matches,
            "mismatches": [vars(mismatch) for mismatch in self.match.mismatches],
            "without_model": None if lacking is None else vars(lacking),
            "inputs": explain_inputs.as_dict(self._selected()),
            "waits_for": self._waits_for(),
            "not_analysed": self.not_analysed,
            "drafting": self.drafting,
        }


def _find_series(config: Config, names: list[str]) -> tuple[dict[str, Dataset], Surroundings]:
    """The header of one representative file of every series that was named, and their studies."""
    paths = [Path(name) for name in names if Path(name).exists()]
    uids = [name for name in names if not Path(name).exists()]
    found, around = _in_files(paths) if paths else ({}, Surroundings({}))
    if uids:
        received, around_them = _in_node(config, uids)
        found.update(received)
        around = replace(around_them, studies={**around.studies, **around_them.studies})
    return found, around


def _in_files(paths: list[Path]) -> tuple[dict[str, Dataset], Surroundings]:
    from dicom_node.imaging.reading import read_header
    from dicom_node.imaging.scan import scan

    series, skipped = scan(paths)
    if series:
        tell_skipped(skipped)
    else:
        # That there is no DICOM file is the answer: one file is said as an example.
        tell_skipped(skipped[:1])
    found = {uid: read_header(files[len(files) // 2]).dataset for uid, files in series.items()}
    return found, explain_inputs.of_files(
        {uid: (header, len(series[uid])) for uid, header in found.items()}
    )


def _in_node(config: Config, uids: list[str]) -> tuple[dict[str, Dataset], Surroundings]:
    """The headers by which the node routes these series, or the series of these studies."""
    ledger = open_ledger(config)
    received = [s for uid in uids for s in find_series(ledger, uid)]
    if not received:
        return {}, Surroundings({})
    from dicom_node.node_headers import representative
    from dicom_node.spool import open_spool

    spool = open_spool(config)
    found = {}
    for series in received:
        uid = series.series_instance_uid
        try:
            found[uid] = representative(spool, ledger.receipts.instances(uid))
        except NotUnderstood as error:
            print(f"skipped series {uid}: {error}", file=sys.stderr)
    return found, explain_inputs.of_node(config, ledger, spool, received)
