"""Makes ready what a series will need while it is still arriving: its images, and its model.

    series in `receiving` -> which model will it get? -> pool.prepare, once
                                                      -> Decoded.read, one new image after another
                                                      -> MadeReady.make, once it rests

Nothing waits for it and nothing depends on it. What could not be made ready, the job does as if
this were not there; what is wrong with an image, the job finds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ai_models.card import Card
from dicom_node.errors import NodeError, PermanentError, TransientError
from dicom_node.events import Events, about_study
from dicom_node.imaging.decoded import Decoded
from dicom_node.imaging.unreadable import is_costly
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline.made_ready import MadeReady
from dicom_node.records import Instance, JobState, Series, SeriesState
from dicom_node.spool import Spool

CardFor = Callable[[Series, Sequence[Instance]], Card | None]
Prepare = Callable[[Card], object]
_ROUND_S = 0.25
_FORGET_EVERY_S = 2.0
# How long one series is read from before another one has its turn, and who else wants the
# interpreter has it, in between.
_TURN_S = 0.25
_PAUSE_S = 0.001
_STOPPED_WITHIN_S = 30.0
# So often a series is read as a whole before its job does; one that comes slice by slice would be
# read again with each of them.
_MOST_MAKINGS = 2
# What is done later than that is read again: it may wait for another series for hours.
_SOON = timedelta(seconds=60)
# What an operator holds, he may hold for days: it is read when it is released.
_AWAITING = frozenset({JobState.QUEUED, JobState.RUNNING})


@dataclass
class _Arriving:
    """What is known of a series that is being received."""

    seen_at: datetime | None = None
    asked_at: int = 0
    card: Card | None = None
    known: set[tuple[str, str]] = field(default_factory=set)
    unread: deque[Instance] = field(default_factory=deque)
    given_up: bool = False
    rests_since_s: float = 0.0
    makings: int = 0
    is_made: bool = False

    def give_up(self) -> None:
        """Read nothing further of it."""
        self.given_up = True
        self.unread.clear()


class Ahead:
    """Looks a few times a second at what is arriving, in a thread of its own.

    It reads one image at a time, with a pause after each. The thread is not made less urgent than
    others: while it has the interpreter lock they would have to wait with it for a processor.

    Parameters
    ----------
    decoded
        Where images are kept, as many as fit.
    card_for
        The model that a series will get by what is there of it, if it takes a volume; without side
        effects. It may raise a `NodeError`, which means that it cannot be told.
    prepare
        Begins to load a model, and does not wait for it.
    made_ready
        Where a series is read as a whole; without it, it is not.
    rests_after_s
        When nothing has come for so long, a series is likely to be whole.
    """

    def __init__(
        self, ledger: Ledger, spool: Spool, decoded: Decoded, card_for: CardFor,
        prepare: Prepare, events: Events, made_ready: MadeReady | None = None,
        rests_after_s: float = 1.0,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._decoded = decoded
        self._card_for = card_for
        self._prepare = prepare
        self._events = events
        self._made_ready = made_ready
        self._rests_after_s = rests_after_s
        self._arriving: dict[str, _Arriving] = {}
        self._forget_at = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Read nothing further, and wait for the image that is being read."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOPPED_WITHIN_S)

    def _run(self) -> None:
        is_behind = False
        while not self._stopping.wait(0.0 if is_behind else _ROUND_S):
            try:
                is_behind = self.look()
            except TransientError:
                # Of a ledger that does not answer the main loop tells.
                is_behind = self._stopping.wait(1.0)
            # A boundary: what one round meets must not end the rounds after it.
            except Exception:  # noqa: BLE001
                self._events.unexpected("reading ahead")
                is_behind = self._stopping.wait(5.0)

    def look(self) -> bool:
        """Make ready what has arrived since; whether more of it is left.

        Raises
        ------
        LedgerUnavailable
            The next call makes up for it.
        """
        receiving = self._ledger.receipts.series_in(SeriesState.RECEIVING)
        uids = {series.series_instance_uid for series in receiving}
        self._arriving = {uid: one for uid, one in self._arriving.items() if uid in uids}
        is_behind = False
        for series in receiving:
            one = self._arriving.setdefault(series.series_instance_uid, _Arriving())
            if not one.given_up:
                self._guarded(self._follow, series, one)
            is_behind |= bool(one.unread)
        if time.monotonic() >= self._forget_at:
            self._forget(uids)
            self._forget_at = time.monotonic() + _FORGET_EVERY_S
        return is_behind

    def _guarded(
        self, follow: Callable[[Series, _Arriving], None], series: Series, one: _Arriving
    ) -> None:
        try:
            follow(series, one)
        except TransientError:
            raise
        # A boundary: what one series provokes in a library must not keep others from their turn.
        except Exception:  # noqa: BLE001
            one.give_up()
            with about_study(series.study_instance_uid):
                self._events.unexpected("reading ahead")

    def _follow(self, series: Series, one: _Arriving) -> None:
        if one.seen_at != series.last_received_at:
            self._look_at(series, one)
            one.seen_at = series.last_received_at
            one.rests_since_s, one.is_made = time.monotonic(), False
            if self._made_ready is not None:
                self._made_ready.drop([series.series_instance_uid])
        turn_ends = time.monotonic() + _TURN_S
        while one.unread and time.monotonic() < turn_ends and not self._stopping.wait(_PAUSE_S):
            self._read(series.series_instance_uid, one.unread.popleft(), one)
        rests_s = time.monotonic() - one.rests_since_s
        if rests_s >= self._rests_after_s and not (one.unread or one.is_made or one.given_up):
            self._make_whole(series, one)

    def _make_whole(self, series: Series, one: _Arriving) -> None:
        if self._made_ready is None or one.card is None or one.makings >= _MOST_MAKINGS:
            return
        one.is_made = True
        one.makings += 1
        instances = self._ledger.receipts.instances(series.series_instance_uid)
        paths = self._spool.resolve_all([instance.path for instance in instances])
        self._made_ready.make(series.series_instance_uid, paths, one.card.input)

    def _look_at(self, series: Series, one: _Arriving) -> None:
        """Note what is new; no more is asked of the ledger, however much there is already."""
        receipts, uid = self._ledger.receipts, series.series_instance_uid
        if one.card is not None:
            self._note(receipts.instances(uid, received_since=one.seen_at), one)
            if len(one.known) >= series.instance_count:
                return
            # Something was indexed later than what had been received after it.
        elif series.instance_count < 2 * one.asked_at:
            return
        instances = receipts.instances(uid)
        self._choose(series, instances, one)
        if one.card is not None:
            self._note(instances, one)

    def _choose(self, series: Series, instances: Sequence[Instance], one: _Arriving) -> None:
        """Find the model, and have it loaded; asked again whenever there is twice as much.

        The first image may be a localizer, which the rules take for another thing.
        """
        if one.card is not None or len(instances) < max(1, 2 * one.asked_at):
            return
        one.asked_at = len(instances)
        try:
            one.card = self._card_for(series, instances)
        except PermanentError:
            return
        if one.card is not None:
            self._prepare(one.card)

    def _note(self, instances: Sequence[Instance], one: _Arriving) -> None:
        before = len(one.unread)
        for instance in instances:
            version = (instance.path, instance.fingerprint)
            if version in one.known:
                continue
            one.known.add(version)
            # A multi-frame object arrives at once: there is nothing to be ahead of.
            if instance.number_of_frames == 1:
                one.unread.append(instance)
        # Several at a time, where they have to be brought here first.
        self._spool.prefetch([one.unread[at].path for at in range(before, len(one.unread))])

    def _read(self, series: str, instance: Instance, one: _Arriving) -> None:
        try:
            self._decoded.read(series, self._spool.resolve(instance.path))
        except PermanentError as error:
            # One file that ends a codec is enough: looking for more of them is the job's business.
            if is_costly(error):
                one.give_up()
        except NodeError:
            # The disk or the codecs are not well: they are left to those who need them.
            one.give_up()

    def _forget(self, receiving: set[str]) -> None:
        """Let go of the images of series that no job will ask for."""
        ready = self._made_ready.series if self._made_ready is not None else []
        held = [uid for uid in {*self._decoded.series, *ready} if uid not in receiving]
        gone = [uid for uid in held if not self._is_awaited(uid)]
        self._decoded.drop(gone)
        if self._made_ready is not None:
            self._made_ready.drop(gone)

    def _is_awaited(self, uid: str) -> bool:
        series = self._ledger.receipts.find_series(uid)
        if series is None or series.state is SeriesState.DECLINED:
            return False
        if series.state is not SeriesState.ROUTED:
            return True
        soon = datetime.now(UTC) + _SOON
        return any(
            job.state in _AWAITING and not (job.state is JobState.QUEUED and job.not_before > soon)
            for job in self._ledger.jobs.of_series(uid)
        )
