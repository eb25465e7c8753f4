"""The receiving part of a node: its doors, and what becomes of what came in until it is routed.

Every receiver has listeners and tells the ledger what they keep. What is decided once for all of
them (closing, routing, enquiries, reports of commitment) is done by the one that leads; it begins
with what the one before it may have left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake.acceptor import Listeners, start_listeners
from dicom_node.intake.closing import WAITS_IN_VAIN_S, SeriesCloser
from dicom_node.intake.commitment_reports import CommitmentReports
from dicom_node.intake.enquiry import Enquiry
from dicom_node.intake.inventory import FileIndex, take_inventory
from dicom_node.intake.left_behind import SETTLED_S, LeftBehind
from dicom_node.intake.priors import PriorSearch
from dicom_node.intake.room_watch import RoomWatch
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_hosts import INTAKE, Place
from dicom_node.node_routing import Router
from dicom_node.operations.retention import settle_removals
from dicom_node.spool import Spool

_NOT_OURS_S = 60.0


class Intake:
    """What a process with the role ``intake`` does.

    Attributes
    ----------
    listeners
        Its listener processes; ``None`` before they are started.

    Parameters
    ----------
    config, ledger, spool, events, place, router, priors
        As everywhere in the node.
    index
        The ledger for a comparison with the disk, which may take longer than a round may.
    before_leading
        Called by the one that leads from now on, before it routes anything.
    """

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, events: Events, place: Place,
        router: Router, priors: PriorSearch, index: Callable[[], FileIndex],
        before_leading: Callable[[], None],
    ) -> None:
        self._before_leading = before_leading
        self._config = config
        self._ledger = ledger
        self._spool = spool
        self._events = events
        self._place = place
        self._router = router
        self._priors = priors
        self._index = index
        self.listeners: Listeners | None = None
        self._enquiry = Enquiry(config, ledger, spool, events)
        self.closer = SeriesCloser(
            ledger, config.completeness, events, enquiry=self._enquiry, waiting_s=self._waiting_s,
            knows_the_time=not place.is_shared,
        )
        self.room_watch = RoomWatch(
            ledger, events,
            lambda: self.listeners is not None and self.listeners.refuses_for_space(),
        )
        self._reports = CommitmentReports(config, ledger, spool, events, self._leads)
        self._left_behind = LeftBehind(
            ledger, spool, events, lambda count: events.work_moved(place.host_name, "files", count)
        )
        self._opened_s = time.monotonic()
        self._has_led = False
        self._must_reindex = False

    def _leads(self) -> bool:
        return self._place.leads(INTAKE)

    def waiting_here_s(self) -> float:
        """How long the oldest image waits here that is kept and not told the ledger."""
        return self.listeners.oldest_waiting_s() if self.listeners is not None else 0.0

    def _waiting_s(self) -> float:
        if not self._leads():
            # It was led when the look began: what is decided now is another one's to decide.
            return _NOT_OURS_S
        here_s = self._place.waiting_here_s()
        if here_s >= WAITS_IN_VAIN_S:
            here_s = 0.0
        return max(here_s, self._place.others_waiting_s())

    @property
    def left_unindexed(self) -> bool:
        """Whether this process kept something, to its end, that the ledger was not told."""
        return self.listeners is not None and self.listeners.left_unindexed

    def prepare(self) -> None:
        """What is done before anybody looks at what is kept.

        Raises
        ------
        LedgerUnavailable, StorageFailed, OutOfSpace
        """
        if not self._place.is_shared:
            settle_removals(self._ledger, self._spool)

    def open(self, removed: int) -> None:
        """Open the doors; ``removed`` half-received files were found at the start.

        Raises
        ------
        ConfigurationError, LedgerUnavailable, StorageFailed
        """
        if not self._place.is_shared:
            # Whatever is still open in the ledger belonged to listeners that are gone.
            self._ledger.receipts.lose_associations(())
        self.listeners = start_listeners(
            self._config, self._ledger.url, self._events.tell, self._place.process_id
        )
        found = 0 if self._place.is_shared else self._index_again()
        self._enquiry.start()
        self._priors.start()
        self._reports.start()
        self._events.node_changed(
            "listening", ae_title=self._config.node.ae_title, port=self.listeners.port,
            half_files_removed=removed, files_indexed_again=found,
        )

    def tick(self) -> int:
        """One round; returns how many series and jobs have changed.

        Raises
        ------
        LedgerUnavailable, StorageFailed, OutOfSpace
        """
        if self.listeners is None:
            return 0
        self.room_watch.tick()
        self._tend(self.listeners)
        if not self._leads():
            self._has_led = False
            return 0
        if self._place.is_shared:
            self._take_over()
        closed = self.closer.close_complete()
        return closed + self._router.route_complete() if self._leads() else closed

    def next_due_in_s(self) -> float:
        """When the next `tick` may close a series, if nothing arrives; infinite: nobody knows."""
        return self.closer.next_due_in_s() if self._leads() else math.inf

    def _tend(self, listeners: Listeners) -> None:
        """Replace listeners that died, and index what they kept but could not tell the ledger.

        Before anything is closed: a series without those images would pass for complete.
        """
        self._must_reindex |= listeners.ensure_running() > 0
        if self._must_reindex:
            found = self._index_again()
            of_process = self._place.process_id if self._place.is_shared else ""
            self._ledger.receipts.lose_associations(listeners.ids, of_process)
            self._must_reindex = False
            removed = self._spool.clean_incoming()
            self._events.node_changed(
                "started a listener anew", half_files_removed=removed, files_indexed_again=found
            )

    def _take_over(self) -> None:
        """What receivers that are gone left, and at first what the leader before this one left."""
        begins = not self._has_led
        if begins:
            settle_removals(self._ledger, self._spool)
            self.closer.begin_anew()
            self._router.begin_anew()
            self._left_behind.begin_anew()
            self._before_leading()
        gone = self._place.to_index()
        # At the start of the node as a whole there is nobody who could have looked before.
        if gone or (begins and not self._place.others(INTAKE)):
            found = self._index_again()
            self._ledger.hosts.indexed([one.process_id for one in gone])
            self._place.settled([one.process_id for one in gone])
            for one in gone:
                self._events.host_changed(one.host_name, "had its files indexed", one.roles)
            if gone:
                self._events.work_moved(self._place.host_name, "files", found)
        lost = self._ledger.hosts.lose_associations(of_no_process=begins)
        if lost:
            self._events.work_moved(self._place.host_name, "associations", lost)
        self._left_behind.tick(self._place.silent(INTAKE), self._receivers())
        self._has_led = True

    def _receivers(self) -> set[tuple[str, str]]:
        """Those that live, once what came at the end of a former one is no longer fresh."""
        others = self._place.others(INTAKE)
        names = {
            (one.host_name, one.process_id) for one in others
            if one.seen_at - one.started_at > SETTLED_S
        }
        if time.monotonic() - self._opened_s > SETTLED_S:
            names.add((self._place.host_name, self._place.process_id))
        return names

    def _index_again(self) -> int:
        self._ledger.files.mend_counts()
        found = take_inventory(self._index(), self._spool, "restart", self._events, forget=True)
        if found.missing or found.unreadable:
            self._events.files_amiss(found.missing, found.unreadable)
        return found.indexed

    def close_questions(self) -> None:
        """Ask peers nothing further."""
        self._enquiry.close()
        self._priors.close()

    def close_doors(self) -> None:
        """Let nobody in any more, and finish what is being received."""
        if self.listeners is not None:
            self.listeners.close()
            # Of those that were killed, or of a former node's that outlived it.
            self._spool.clean_incoming()

    def stop(self) -> None:
        """End what is left."""
        self._reports.stop()
        self._left_behind.stop()
