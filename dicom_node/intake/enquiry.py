"""Asks the sender of a series how many instances it has, and fetches those that are missing.

    SeriesCloser.awaits(series)  ->  question  ->  C-FIND   (two threads)     -> announcements
                                     repair    ->  C-MOVE, C-GET (one thread) -> normal intake

The main loop only queues questions and never waits. A peer that cannot be asked (no query
service, no answer) is left alone for a minute, then for longer, up to an hour: a modality without
a query service costs one attempt now and then. A series waits for an answer that is under way
for `PATIENCE_S` seconds at most, then its timers decide as if nobody could be asked.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from dicom_node.errors import LedgerUnavailable, NodeError, PeerRefused
from dicom_node.events import Events, about_study
from dicom_node.intake.indexer import Indexer
from dicom_node.intake.query import Limits, Listed, QueryAssociation, Retrieved
from dicom_node.ledger import clock

if TYPE_CHECKING:
    from dicom_node.config import Config, PeerSettings
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.records import Series
    from dicom_node.spool import Spool

PATIENCE_S = 20.0
MOST_REPAIRS = 3
_ASKERS = 2
_LEAVE_ALONE_FIRST_S, _LEAVE_ALONE_LONGEST_S = 60.0, 3600.0
_ASK_AGAIN_LEAST_S, _ASK_AGAIN_FIRST_S, _ASK_AGAIN_LONGEST_S = 1.0, 30.0, 600.0
_END_PATIENCE_S = 10.0
_UID = re.compile(r"[0-9.]{1,64}")


class Asking(Protocol):
    """What closing a series needs of this module."""

    def awaits(self, series: Series) -> bool:
        """Whether an answer about this series is under way and worth waiting for."""
        ...

    def keep_only(self, series_instance_uids: Collection[str]) -> None:
        """Forget all other series."""
        ...


@dataclass
class _Asked:
    """What this process asked about a series, and when it may ask again."""

    state: tuple[datetime, int]
    pending_since_s: float | None = None
    next_s: float = 0.0
    asks: int = 0
    repairs: int = 0


@dataclass
class _Standing:
    """How a peer behaved."""

    failures: int = 0
    not_before_s: float = 0.0


@dataclass(frozen=True)
class _Repair:
    series: Series
    peer: PeerSettings
    missing: Sequence[Listed]
    expected: int
    attempt: int


class Enquiry:
    """Questions and repairs in the background.

    Parameters
    ----------
    limits
        How long a peer may take.
    monotonic
        Seconds that no clock setting changes.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        spool: Spool,
        events: Events,
        limits: Limits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ae_title = config.node.ae_title
        self._ledger = ledger
        self._spool = spool
        self._events = events
        self._limits = limits or Limits()
        self._monotonic = monotonic
        first_s = config.completeness.quiet_period_s / 2
        self._ask_again_s = min(max(first_s, _ASK_AGAIN_LEAST_S), _ASK_AGAIN_FIRST_S)
        self._peers: dict[str, PeerSettings] = {}
        for peer in config.peers.values():
            if peer.query == "auto" and peer.speaks_dimse:
                self._peers.setdefault(peer.ae_title, peer)
        self._standing = {title: _Standing() for title in self._peers}
        self._asked: dict[str, _Asked] = {}
        self._lock = threading.Lock()
        self._questions: queue.SimpleQueue[Series | None] = queue.SimpleQueue()
        self._repairs: queue.SimpleQueue[_Repair | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._open: dict[int, QueryAssociation] = {}
        self._indexer = Indexer(ledger, spool, "retrieval", events)
        names = [*(f"enquiry-{n}" for n in range(_ASKERS)), "repair"]
        self._threads = [
            threading.Thread(
                target=self._mend if name == "repair" else self._ask, name=name, daemon=True
            )
            for name in names
        ]

    def start(self) -> None:
        """Start the threads; without any peer that could be asked there are none."""
        if self._peers:
            self._indexer.start()
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """Break off what is under way; what was received stays received."""
        self._ended.set()
        for _ in range(_ASKERS):
            self._questions.put(None)
        self._repairs.put(None)
        with self._lock:
            still_open = list(self._open.values())
        for association in still_open:
            association.abort()
        if self._peers and self._threads[0].ident is not None:
            for thread in self._threads:
                thread.join(_END_PATIENCE_S)
            self._indexer.close()

    def awaits(self, series: Series) -> bool:
        """See `Asking.awaits`; queues the question when it is time for it."""
        standing = self._standing.get(series.calling_ae_title)
        uids = (series.study_instance_uid, series.series_instance_uid)
        if standing is None or self._ended.is_set() or not all(map(_UID.fullmatch, uids)):
            return False
        now = self._monotonic()
        state = (series.last_received_at, series.instance_count)
        with self._lock:
            asked = self._asked.get(series.series_instance_uid)
            if asked is not None and asked.pending_since_s is not None:
                return now - asked.pending_since_s < PATIENCE_S
            if now < standing.not_before_s:
                return False
            if asked is None:
                asked = self._asked[series.series_instance_uid] = _Asked(state)
            elif asked.state == state and now < asked.next_s:
                return False
            if asked.state[1] != state[1]:
                asked.asks = asked.repairs = 0
            asked.state, asked.pending_since_s = state, now
        self._questions.put(series)
        return True

    def keep_only(self, series_instance_uids: Collection[str]) -> None:
        """See `Asking.keep_only`."""
        with self._lock:
            for uid in self._asked.keys() - set(series_instance_uids):
                # The answer to a question that is under way needs its place.
                if self._asked[uid].pending_since_s is None:
                    del self._asked[uid]

    def _ask(self) -> None:
        while (series := self._questions.get()) is not None and not self._ended.is_set():
            with about_study(series.study_instance_uid):
                self._ask_about(series)

    def _ask_about(self, series: Series) -> None:
        peer = self._peers[series.calling_ae_title]
        try:
            self._answer(series, peer)
        except LedgerUnavailable:
            self._events.peer_queried(peer.name, "c-find", LedgerUnavailable.reason)
        except NodeError as error:
            self._leave_alone(peer, error)
        except Exception:  # noqa: BLE001 - a thread boundary: the next question is another one
            self._events.unexpected("intake.enquiry")
        finally:
            self._settle(series.series_instance_uid)

    def _settle(self, series_instance_uid: str) -> None:
        with self._lock:
            asked = self._asked.get(series_instance_uid)
            if asked is not None:
                wait_s = min(self._ask_again_s * 2**asked.asks, _ASK_AGAIN_LONGEST_S)
                asked.asks = min(asked.asks + 1, 20)
                asked.next_s = self._monotonic() + wait_s
                asked.pending_since_s = None

    def _answer(self, series: Series, peer: PeerSettings) -> None:
        if self._monotonic() < self._standing[peer.ae_title].not_before_s:
            return
        uids = (series.study_instance_uid, series.series_instance_uid)
        asked_at = clock.now()
        listed: list[Listed] = []
        with self._associate(peer) as association:
            self._events.peer_asked(peer.name, peer.ae_title, peer.host, *uids)
            count = association.count_instances(*uids)
            here = {
                one.sop_instance_uid
                for one in self._ledger.receipts.instances(series.series_instance_uid)
            }
            if count is not None and count > len(here):
                listed = association.list_instances(*uids)
        with self._lock:
            self._standing[peer.ae_title] = _Standing()
        if count is None:
            return
        if {one.sop_instance_uid for one in listed} == here:
            # It counts what it holds twice, or what it does not give.
            count = len(here)
        self._ledger.announcements.record(
            series.series_instance_uid, "c-find", series.study_instance_uid, count,
            peer.ae_title, False, asked_at,
        )
        if count > len(here):
            missing = [one for one in listed if one.sop_instance_uid not in here]
            self._order_repair(series, peer, missing, count)

    def _order_repair(
        self, series: Series, peer: PeerSettings, missing: Sequence[Listed], expected: int
    ) -> None:
        with self._lock:
            asked = self._asked.get(series.series_instance_uid)
            if peer.retrieve == "off" or asked is None or asked.repairs >= MOST_REPAIRS:
                return
            asked.repairs += 1
            attempt = asked.repairs
        self._repairs.put(_Repair(series, peer, missing, expected, attempt))

    def _leave_alone(self, peer: PeerSettings, error: NodeError) -> None:
        with self._lock:
            standing = self._standing[peer.ae_title]
            standing.failures += 1
            wait_s = _LEAVE_ALONE_FIRST_S * 2 ** min(standing.failures - 1, 10)
            if isinstance(error, PeerRefused):
                wait_s = _LEAVE_ALONE_LONGEST_S
            standing.not_before_s = self._monotonic() + min(wait_s, _LEAVE_ALONE_LONGEST_S)
        self._events.peer_queried(peer.name, "c-find", error.reason)

    def _mend(self) -> None:
        while (repair := self._repairs.get()) is not None and not self._ended.is_set():
            with about_study(repair.series.study_instance_uid):
                self._mend_by(repair)

    def _mend_by(self, repair: _Repair) -> None:
        try:
            self._fetch(repair)
        except LedgerUnavailable:
            self._events.peer_queried(repair.peer.name, "repair", LedgerUnavailable.reason)
        except Exception:  # noqa: BLE001 - a thread boundary: the next repair is another one
            self._events.unexpected("intake.repair")

    def _fetch(self, repair: _Repair) -> None:
        """Try one way after the other until one brings something; tell the series' history."""
        wanted = len(repair.missing) or repair.expected
        told = []
        for way in _ways(repair):
            if self._ended.is_set():
                return
            try:
                retrieved = self._move(repair) if way == "c-move" else self._get(repair)
            except LedgerUnavailable:
                raise
            except NodeError as error:
                told.append(f"{way} {error.reason}")
                continue
            told.append(f"{way} brought {retrieved.completed} of {wanted}")
            if retrieved.completed:
                break
        reason = "repair: " + ", ".join(told)
        self._ledger.announcements.note(
            repair.series.series_instance_uid, reason, repair.attempt
        )
        self._events.series_changed(repair.series.series_instance_uid, "receiving", reason)

    def _move(self, repair: _Repair) -> Retrieved:
        series = repair.series
        with self._associate(repair.peer) as association:
            return association.move(
                self._ae_title, series.study_instance_uid, series.series_instance_uid,
                [one.sop_instance_uid for one in repair.missing],
            )

    def _get(self, repair: _Repair) -> Retrieved:
        from dicom_node.intake.retrieval import GetQuery, get_into_spool

        series = repair.series
        classes = [one.sop_class_uid for one in repair.missing if one.sop_class_uid]
        known = self._ledger.receipts.instances(series.series_instance_uid)
        query = GetQuery(
            self._ae_title, repair.peer, series.study_instance_uid, series.series_instance_uid,
            [one.sop_instance_uid for one in repair.missing],
        )
        return get_into_spool(
            query, self._spool, self._indexer, self._events,
            classes or [one.sop_class_uid for one in known], self._limits,
        )

    def _associate(self, peer: PeerSettings) -> QueryAssociation:
        association = QueryAssociation(self._ae_title, peer, self._limits)
        with self._lock:
            self._open[threading.get_ident()] = association
        return association


def _ways(repair: _Repair) -> list[str]:
    """C-MOVE first: it comes in by the front door. It may go astray, so C-GET leads the next time.

    A peer must know the node's address for C-MOVE, and nothing for C-GET.
    """
    chosen = repair.peer.retrieve
    if chosen != "auto":
        return [chosen]
    return ["c-move", "c-get"] if repair.attempt % 2 else ["c-get", "c-move"]
