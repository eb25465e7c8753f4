"""``dicom-node fetch PEER --study UID``: retrieve a study, or a series of it, by hand.

Into the node: the peer is asked to send (C-MOVE) to the running node's AE title; where it will
not, it is asked to give (C-GET), and what comes is kept as if the node had received it. With
``--output`` into a folder, by C-GET. `peers.<name>.retrieve` chooses one way only.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config, open_ledger
from dicom_node.cli.output import print_json
from dicom_node.errors import NodeError, PeerRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicom_node.config import Config, PeerSettings
    from dicom_node.intake.query import Retrieved
    from dicom_node.intake.retrieval import GetQuery

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_TELL_EVERY_S = 2.0


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("fetch", help="retrieve a study from a peer")
    parser.add_argument("peer", metavar="PEER", help="a name under `peers` of the settings")
    parser.add_argument("--study", required=True, type=_uid, metavar="UID",
                        help="Study Instance UID")
    parser.add_argument("--series", type=_uid, metavar="UID",
                        help="only this series: Series Instance UID")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="write files here instead of into the node")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.set_defaults(run=run)


def _uid(text: str) -> str:
    if len(text) > 64 or not _UID.fullmatch(text):
        raise argparse.ArgumentTypeError("expected a DICOM UID: digits and dots, at most 64")
    return text


@dataclass
class _Summary:
    """What came of it; ``expected`` ``None`` when the peer cannot be asked how much there is."""

    expected: int | None = None
    way: str = ""
    series: int = 0
    completed: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether all that the peer has came, as far as can be known."""
        enough = self.completed > 0 if self.expected is None else self.completed >= self.expected
        return enough and not self.failed and not self.reasons


def run(arguments: argparse.Namespace) -> int:
    """Retrieve; exit 1 unless all came."""
    arguments.series = arguments.series or ""
    config = open_config(arguments)
    peer = config.peer(arguments.peer)
    if not peer.speaks_dimse:
        print(f"dicom-node: {peer.name} is a DICOMweb service; fetch needs DIMSE", file=sys.stderr)
        return 2
    if arguments.output is not None and peer.retrieve == "c-move":
        print(f"dicom-node: peers.{peer.name}.retrieve is c-move, and files come by C-GET only",
              file=sys.stderr)
        return 2
    summary = _Summary()
    wanted = _wanted(config, peer, arguments, summary)
    if wanted == {}:
        summary.reasons.append("the peer has nothing of it")
    fetch = _Fetch(config, peer, summary)
    for series, classes in ({arguments.series: []} if wanted is None else wanted).items():
        try:
            if arguments.output is None:
                fetch.into_node(arguments.study, series, classes)
            else:
                fetch.into_folder(arguments.output, arguments.study, series, classes)
        except NodeError as error:
            summary.reasons.append(f"{error.reason}: {error}")
            break
        summary.series += 1
    _tell(arguments, peer, summary)
    return 0 if summary.is_whole else 1


def _wanted(
    config: Config, peer: PeerSettings, arguments: argparse.Namespace, summary: _Summary
) -> dict[str, list[str]] | None:
    """Series to the SOP classes of its instances, ``None`` when the peer answers no queries."""
    from dicom_node.intake.query import QueryAssociation

    found: dict[str, list[str]] = defaultdict(list)
    try:
        with QueryAssociation(config.node.ae_title, peer) as association:
            listed = association.list_instances(arguments.study, arguments.series)
            summary.expected = len(listed)
            for one in listed:
                classes = found[one.series_instance_uid]
                if one.sop_class_uid and one.sop_class_uid not in classes:
                    classes.append(one.sop_class_uid)
    except PeerRefused:
        return None
    return dict(found)


class _Fetch:
    """The ways to retrieve one series, or with an empty UID the study, and what came of them."""

    def __init__(self, config: Config, peer: PeerSettings, summary: _Summary) -> None:
        self._config = config
        self._ae_title = config.node.ae_title
        self._peer = peer
        self._summary = summary

    def into_folder(self, folder: Path, study: str, series: str, classes: list[str]) -> None:
        """Part 10 files below ``folder``, by C-GET."""
        from dicom_node.intake.retrieval import get_into_folder

        self._summary.way = "c-get"
        retrieved, files = get_into_folder(self._query(study, series), folder, classes)
        # What the peer says it gave and what is there are two things.
        self._summary.completed += len(files)
        self._summary.failed += retrieved.failed

    def into_node(self, study: str, series: str, classes: list[str]) -> None:
        """By C-MOVE; once the peer has refused that, by C-GET."""
        may_move = self._summary.way != "c-get" and self._peer.retrieve != "c-get"
        if not (may_move and self._move(study, series)):
            self._summary.way = "c-get"
            self._get(study, series, classes)

    def _move(self, study: str, series: str) -> bool:
        from dicom_node.intake.query import QueryAssociation

        must_move = self._peer.retrieve == "c-move"
        try:
            with QueryAssociation(self._ae_title, self._peer) as association:
                moved = association.move(self._ae_title, study, series, progress=_progress())
        except NodeError:
            # Some refuse by a status, some by aborting the association.
            if must_move:
                raise
            return False
        if moved.failed and not moved.completed and not must_move:
            return False
        self._summary.way = "c-move"
        self._add(moved)
        return True

    def _get(self, study: str, series: str, classes: list[str]) -> None:
        from dicom_node.events import Events
        from dicom_node.intake.indexer import Indexer
        from dicom_node.intake.retrieval import get_into_spool
        from dicom_node.node_spool import join_spool
        from dicom_node.spool import open_spool

        ledger = open_ledger(self._config)
        spool = open_spool(self._config)
        join_spool(self._config, spool, ledger)
        indexer = Indexer(ledger, spool, "fetch")
        indexer.start()
        try:
            query = self._query(study, series)
            self._add(get_into_spool(query, spool, indexer, Events(), classes))
        finally:
            # What could not be indexed is on disk, and a node finds it when it starts.
            if not indexer.close():
                self._summary.reasons.append("kept, and not told the ledger: restart the node")
            ledger.close()

    def _query(self, study: str, series: str) -> GetQuery:
        from dicom_node.intake.retrieval import GetQuery

        return GetQuery(self._ae_title, self._peer, study, series, progress=_progress())

    def _add(self, retrieved: Retrieved) -> None:
        self._summary.completed += retrieved.completed
        self._summary.failed += retrieved.failed


def _progress() -> Callable[[int, int], None]:
    told_at = time.monotonic()

    def tell(done: int, left: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = time.monotonic()
            print(f"{done} fetched, {left} to come", file=sys.stderr, flush=True)

    return tell


def _tell(arguments: argparse.Namespace, peer: PeerSettings, summary: _Summary) -> None:
    if arguments.json:
        print_json(
            {
                "peer": peer.name,
                "way": summary.way,
                "series": summary.series,
                "expected": summary.expected,
                "completed": summary.completed,
                "failed": summary.failed,
                "complete": summary.is_whole,
                "reasons": summary.reasons,
                "output": None if arguments.output is None else str(arguments.output),
            }
        )
        return
    for reason in summary.reasons:
        print(f"dicom-node: {reason}", file=sys.stderr)
    of = "" if summary.expected is None else f" of {summary.expected}"
    where = "the node" if arguments.output is None else str(arguments.output)
    way = f" by {summary.way}" if summary.way else ""
    print(f"{summary.completed}{of} instances from {peer.name} to {where}{way}, "
          f"{summary.failed} failed")
