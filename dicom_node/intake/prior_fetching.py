"""Has a peer send one series of an earlier examination here, by C-MOVE, else by C-GET."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dicom_node.errors import LedgerUnavailable, NodeError
from dicom_node.intake.indexer import Indexer
from dicom_node.intake.prior_query import FoundSeries, PriorQuery

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings
    from dicom_node.events import Events
    from dicom_node.intake.query import Limits
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.spool import Spool

MOST_FETCHED = 3


def ways(peer: PeerSettings) -> list[str]:
    """How a peer is asked to send something, in this order."""
    return ["c-move", "c-get"] if peer.retrieve == "auto" else [peer.retrieve]


class Fetching:
    """Associations with those who have earlier examinations, and what comes by them.

    Parameters
    ----------
    limits
        How long a peer may take.
    ended
        Set when nothing new is to be asked for.
    """

    def __init__(
        self, ae_title: str, ledger: Ledger, spool: Spool, events: Events, limits: Limits,
        ended: threading.Event,
    ) -> None:
        self._ae_title = ae_title
        self._ledger = ledger
        self._spool = spool
        self._events = events
        self._limits = limits
        self._ended = ended
        self._lock = threading.Lock()
        self._open: dict[int, PriorQuery] = {}
        self._indexer = Indexer(ledger, spool, "priors", events)

    def start(self) -> None:
        """Begin to write down what arrives."""
        self._indexer.start()

    def abort(self) -> None:
        """Break off every association that is open."""
        with self._lock:
            still_open = list(self._open.values())
        for association in still_open:
            association.abort()

    def close(self) -> None:
        """Write down the last of what arrived."""
        self._indexer.close()

    def associate(self, peer: PeerSettings) -> PriorQuery:
        """An association with a peer, one for each thread."""
        association = PriorQuery(self._ae_title, peer, self._limits)
        with self._lock:
            self._open[threading.get_ident()] = association
        return association

    def fetch(
        self, found: FoundSeries, job_id: str, peer: PeerSettings, ways_left: list[str]
    ) -> bool:
        """Ask for a series by each way that is left, which is taken off; true when one goes.

        Raises
        ------
        PeerUnavailable, PeerBusy
            What failed may go another time.
        """
        self._ledger.priors.expect(
            found.series_instance_uid, found.study_instance_uid, job_id, peer.ae_title
        )
        passing: NodeError | None = None
        while ways_left and not self._ended.is_set():
            way = ways_left.pop(0)
            try:
                if self.brings(way, peer, found):
                    return True
            except LedgerUnavailable:
                raise
            except NodeError as error:
                # One that does not know the node breaks off instead of answering a C-MOVE.
                self._events.peer_queried(peer.name, way, error.reason)
                passing = error if error.transient else passing
        if passing is not None:
            raise passing
        return False

    def brings(self, way: str, peer: PeerSettings, found: FoundSeries) -> bool:
        """Ask for a series by one way; whether the peer says that it sent any of it."""
        from dicom_node.intake.retrieval import GetQuery, get_into_spool

        uids = (found.study_instance_uid, found.series_instance_uid)
        if way == "c-move":
            with self.associate(peer) as association:
                return association.move(self._ae_title, *uids).completed > 0
        with self.associate(peer) as association:
            listed = association.list_instances(*uids)
        classes = sorted({one.sop_class_uid for one in listed if one.sop_class_uid})
        retrieved = get_into_spool(
            GetQuery(self._ae_title, peer, *uids), self._spool, self._indexer, self._events,
            classes, self._limits,
        )
        return retrieved.completed > 0
