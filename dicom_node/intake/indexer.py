"""Tells the ledger what was stored, in batches, behind the C-STORE answers.

The spool is the record and the ledger its index: a batch that the ledger does not take is kept
and tried again, and when too much piles up it is dropped and read again from the spool.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dicom_node.errors import LedgerUnavailable
from dicom_node.events import Events
from dicom_node.intake.inventory import FileIndex, take_inventory
from dicom_node.records import Association, Instance
from dicom_node.spool import Spool

BATCH = 256
BATCH_S = 0.2
BACKLOG_LIMIT = 20_000
_RETRY_FIRST_S = 0.5
_RETRY_LONGEST_S = 30.0


class Indexer:
    """One thread between the receiving threads of a process and the ledger.

    Parameters
    ----------
    ledger
        `Ledger`, or anything with what `FileIndex` lists.
    spool
        Read again when the backlog was dropped.
    listener_id
        Names the process in the associations it reports.
    backlog_limit
        Instances kept in memory while the ledger does not answer.
    waits_since
        Told since when (monotonic seconds) the oldest stored instance waits for the ledger, and
        0 when none does: a series must not be closed without what waits.
    """

    def __init__(
        self,
        ledger: FileIndex,
        spool: Spool,
        listener_id: str,
        events: Events | None = None,
        backlog_limit: int = BACKLOG_LIMIT,
        waits_since: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.listener_id = listener_id
        self._ledger = ledger
        self._spool = spool
        self._events = events or Events()
        self._backlog_limit = backlog_limit
        self._instances: list[Instance] = []
        self._waits_since = waits_since
        self._stored_at: dict[int, float] = {}
        self._dropped_since = 0.0
        self._associations: dict[str, Association] = {}
        self._announced: set[str] = set()
        self._must_reindex = False
        self._closing = False
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._full = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake-index", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stored(self, instance: Instance, association: Association) -> None:
        """An instance is durable; never waits for the ledger."""
        with self._lock:
            if len(self._instances) >= self._backlog_limit:
                self._drop()
            self._instances.append(instance)
            self._stored_at[id(instance)] = time.monotonic()
            if len(self._instances) == 1:
                self._tell_oldest()
            if association.association_id not in self._announced:
                self._announced.add(association.association_id)
                self._associations[association.association_id] = association
            is_full = len(self._instances) >= BATCH
        self._work.set()
        if is_full:
            self._full.set()

    def _drop(self) -> None:
        """Forget what waits: it is read again from the spool."""
        self._dropped_since = self._dropped_since or next(iter(self._stored_at.values()), 0.0)
        self._instances.clear()
        self._stored_at.clear()
        self._must_reindex = True

    def _tell_oldest(self) -> None:
        oldest = next(iter(self._stored_at.values()), 0.0)
        self._waits_since(self._dropped_since or oldest)

    def ended(self, association: Association) -> None:
        """An association that delivered something is over; never waits for the ledger."""
        with self._lock:
            self._announced.discard(association.association_id)
            self._associations[association.association_id] = association
        self._work.set()
        self._full.set()

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what is left; whether it all went in (the rest is found again at next start)."""
        self._closing = True
        self._work.set()
        self._full.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._instances and not self._associations

    def reindex(self, spool: Spool) -> int:
        """Index every kept file that the ledger does not know; returns how many.

        Raises
        ------
        LedgerUnavailable, OSError
            As `dicom_node.intake.inventory.take_inventory`.
        """
        return take_inventory(self._ledger, spool, self.listener_id, self._events).indexed

    def _run(self) -> None:
        retry_s = _RETRY_FIRST_S
        while True:
            self._work.wait()
            self._work.clear()
            if not self._closing:
                self._full.wait(BATCH_S)
            self._full.clear()
            try:
                while self._write_batch() and (self._instances or self._associations):
                    continue
                retry_s = _RETRY_FIRST_S
            except LedgerUnavailable:
                if self._closing:
                    return
                self._wait_closing(retry_s)
                retry_s = min(2 * retry_s, _RETRY_LONGEST_S)
                self._work.set()
            except Exception:  # noqa: BLE001 - a thread boundary: the spool is read again instead
                self._events.unexpected("intake.indexer")
                with self._lock:
                    self._drop()
                    self._associations.clear()
                    self._announced.clear()
                    self._must_reindex = not self._closing
                self._wait_closing(_RETRY_LONGEST_S)
                self._work.set()
            if self._closing and not self._instances and not self._associations:
                return

    def _wait_closing(self, longest_s: float) -> None:
        deadline = time.monotonic() + longest_s
        while not self._closing and time.monotonic() < deadline:
            self._full.wait(max(0.0, min(1.0, deadline - time.monotonic())))
            self._full.clear()

    def _write_batch(self) -> bool:
        """Write one batch; whether there may be more."""
        with self._lock:
            instances = self._instances[:BATCH]
            is_last = len(instances) == len(self._instances)
            # The end of an association follows its last instance, never before it.
            associations = {
                key: one
                for key, one in self._associations.items()
                if is_last or not one.ended
            }
            must_reindex, self._must_reindex = self._must_reindex, False
            dropped_since = self._dropped_since
        try:
            if must_reindex:
                self.reindex(self._spool)
            if instances or associations:
                self._ledger.index(
                    instances, list(associations.values()), is_there=self._spool.has
                )
        except LedgerUnavailable:
            self._must_reindex = self._must_reindex or must_reindex
            raise
        with self._lock:
            written = {id(one) for one in instances}
            self._instances = [one for one in self._instances if id(one) not in written]
            for name in written:
                self._stored_at.pop(name, None)
            if must_reindex and self._dropped_since == dropped_since and not self._must_reindex:
                self._dropped_since = 0.0
            self._tell_oldest()
            for key, one in associations.items():
                if self._associations.get(key) is one:
                    del self._associations[key]
            # A few that came meanwhile wait for company: one by one they would cost the receiving
            # threads a millisecond each.
            if self._instances or self._associations:
                self._work.set()
            return self._closing or len(self._instances) >= BATCH
