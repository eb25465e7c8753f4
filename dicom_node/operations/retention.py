"""Removes studies that are done with, a little at a time, and forgets what was recorded long ago.

    next study that may go -> its files set aside (one rename) -> the ledger says `removed`
                           -> its files deleted, in a thread, a few at a time

Cut off before the ledger's word, the files are put back at the next start, before anybody looks at
what is kept; cut off after it, the rest of them is deleted. So no image is gone without a record,
and no study comes back by half.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

from dicom_node.config import Config
from dicom_node.errors import TransientError
from dicom_node.events import Events
from dicom_node.ledger import clock
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.removals import Holding, Removal
from dicom_node.operations.audit_subjects import Subjects
from dicom_node.operations.keeping import ASKED, ROOM, Keeping, decide, rules_of
from dicom_node.spool import Spool, uid_to_name

# How long one tick of the main loop may look for studies and set them aside.
_TURN_S = 0.1
_PAGE = 50
# After all were looked at there is a pause: no study becomes removable by the second.
_REST_S = 30.0
# So many studies may wait for their files to be deleted before others are set aside.
_MOST_LEAVING = 20
_FILES_AT_ONCE, _PAUSE_S = 50, 0.02
_ALL_FILES = 1 << 30
# An object store lets nothing be deleted in the first half minute; another study may be.
_NOT_YET_PAUSE_S = 0.5
_PRUNE_EVERY_S, _PRUNE_SERIES, _PRUNE_ROWS = 10.0, 20, 500
_STOPPED_WITHIN_S = 10.0
_A_STUDY_BYTES = 1 << 30


def settle_removals(ledger: Ledger, spool: Spool) -> tuple[int, int]:
    """Bring to an end what the last run of the node had begun: studies put back, and deleted.

    Before anybody compares the kept files with the ledger. What may not be deleted yet is left to
    `Retention`.

    Raises
    ------
    LedgerUnavailable, StorageFailed, OutOfSpace
    """
    leaving = spool.leaving
    put_back = deleted = 0
    for token in leaving.tokens():
        if ledger.removals.is_taken(token):
            leaving.discard(token, _ALL_FILES)
            deleted += 1
        else:
            leaving.put_back(token)
            put_back += 1
    return put_back, deleted


class Retention:
    """The removal of what is done with.

    Parameters
    ----------
    config
        ``storage``, and what decides on commitment.
    ledger, spool
        Where studies are.
    events
        Told of every removal.
    leads
        Whether this process, of several on one ledger and spool, is to remove now.
    """

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, events: Events,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._storage = config.storage
        self._rules = rules_of(config)
        self._ledger = ledger
        self._spool = spool
        self._events = events
        self._leaving = spool.leaving
        self._place = (0.0, "")
        self._rest_until_s = self._prune_at_s = 0.0
        self._looked_at: set[str] = set()
        self._unsettled: list[str] = []
        self._has_removed = False
        self._queue: deque[str] = deque()
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="removal", daemon=True)

    def start(self) -> None:
        """Begin to delete what is set aside."""
        self._thread.start()

    def stop(self) -> None:
        """Delete nothing further; what is set aside is deleted at the next start."""
        self._stopping.set()
        self._work.set()
        if self._thread.is_alive():
            self._thread.join(_STOPPED_WITHIN_S)

    def tick(self) -> None:
        """Remove what may go, for a tenth of a second.

        Raises
        ------
        LedgerUnavailable, StorageFailed, OutOfSpace
            The next tick goes on.
        """
        now_s = time.monotonic()
        if not self._leads():
            # Whoever leads now settles what is set aside.
            self._unsettled.clear()
            return
        self._settle()
        for study in self._ledger.removals.asked():
            if not self.remove(study):
                self._ledger.removals.withdraw(study)
        self._go_on(now_s + _TURN_S)
        if now_s >= self._prune_at_s:
            self._prune_at_s = now_s + _PRUNE_EVERY_S
            self._prune()

    def _go_on(self, until_s: float) -> None:
        if time.monotonic() < self._rest_until_s:
            return
        # However late it is, one study has its turn.
        is_first = True
        while is_first or time.monotonic() < until_s:
            page = self._ledger.removals.settled(self._before(), self._place, _PAGE)
            if not page:
                self._end_walk()
                return
            for place, study in page:
                is_late = time.monotonic() >= until_s and not is_first
                if is_late or len(self._queue) >= _MOST_LEAVING:
                    return
                is_first = False
                self._place = place
                if study not in self._looked_at:
                    self._looked_at.add(study)
                    self._has_removed |= self.remove(study) is not None

    def _end_walk(self) -> None:
        """Begin again after a pause; at once only where removing goes on and room is needed."""
        goes_on = self._has_removed and self._needs_room()
        self._rest_until_s = 0.0 if goes_on else time.monotonic() + _REST_S
        self._place, self._has_removed = (0.0, ""), False
        self._looked_at.clear()

    def _before(self) -> datetime:
        """Since when a series must be settled for its study to be looked at."""
        now = clock.now()
        if self._needs_room():
            return now
        return now - min(self._rules.delivered, self._rules.declined)

    def _needs_room(self) -> bool:
        line = self._storage.make_room_below_free_bytes
        if line:
            # Before images are refused, wherever that line was drawn.
            line = max(line, self._storage.refuse_below_free_bytes + _A_STUDY_BYTES)
        return self._spool.free_for_kept_bytes() < line

    def remove(self, study_instance_uid: str) -> Removal | None:
        """Remove one study if it may go now; its files are deleted later.

        Raises
        ------
        LedgerUnavailable, StorageFailed, OutOfSpace
            Nothing is removed.
        """
        holding = self._ledger.removals.holding(study_instance_uid)
        study = uid_to_name(study_instance_uid)
        if not self._reason(holding) or not self._is_known(holding, study):
            return None
        # For the audit trail, and while the files are there.
        patient_id = Subjects(self._ledger, self._spool).of_study(study_instance_uid).patient_id
        token = uuid4().hex
        try:
            aside = self._leaving.set_aside(
                token, study, [one.job_id for one in holding.jobs]
            )
            removal = self._ledger.removals.take(
                token, study_instance_uid, aside.fingerprints, aside.size_bytes,
                lambda now: self._reason_besides(now, aside.last_came_at),
            )
        except BaseException:
            # Whatever came between: unless the ledger took it, nothing of it may be missing.
            self._unsettled.append(token)
            self._settle()
            raise
        self._unsettled.append(token)
        self._settle()
        if removal is None:
            return None
        self._events.study_removed(
            study_instance_uid, removal.instances, removal.size_bytes, removal.reason,
            patient_id=patient_id,
        )
        return removal

    def _settle(self) -> None:
        """Put back or delete what was set aside, as the ledger has it.

        Raises
        ------
        LedgerUnavailable, StorageFailed, OutOfSpace
            It stays aside until the next tick: no study may be missing for as long as the node
            runs because ledger or disk were away for a moment.
        """
        while self._unsettled:
            token = self._unsettled[-1]
            if self._ledger.removals.is_taken(token):
                self._queue.append(token)
                self._work.set()
            else:
                self._leaving.put_back(token)
            self._unsettled.pop()

    def _is_known(self, holding: Holding, study: str) -> bool:
        """Whether the ledger knows all that is on disk: what has just come, or cannot be read, not.
        """
        known = self._ledger.removals.fingerprints(holding)
        return not self._leaving.fingerprints(study).items() - known.items()

    def _reason(self, holding: Holding) -> str:
        """Why a study is removed now; empty when it stays."""
        keeping = decide(holding, self._rules)
        now = clock.now()
        if keeping.until is not None and keeping.until <= now:
            return keeping.removed_as
        if keeping.earliest is not None and keeping.earliest <= now and self._needs_room():
            return ROOM
        return ""

    def _reason_besides(self, holding: Holding, last_came_at: float) -> str:
        """The same, but for a study that is being sent again: the rest of it would come alone."""
        if not self._leads():
            # It took so long that another one may have put the files back.
            return ""
        reason = self._reason(holding)
        age_s = time.time() - last_came_at
        return reason if reason == ASKED or age_s >= self._rules.lately.total_seconds() else ""

    def _prune(self) -> None:
        before = clock.now() - timedelta(days=self._storage.keep_records_for_d)
        if not self._queue:
            # Of a run before this one, or of another host that led in between: what it had not
            # removed when it ended is missing until somebody puts it back.
            for token in self._leaving.tokens():
                if self._ledger.removals.is_taken(token):
                    self._queue.append(token)
                elif self._leads():
                    self._leaving.put_back(token)
            self._work.set()
        self._ledger.pruning.removed_series(before, _PRUNE_SERIES)
        self._ledger.pruning.old_rows(before, _PRUNE_ROWS)
        than_s = self._storage.keep_quarantined_for_d * 86_400
        removed = self._spool.quarantined.remove_older(than_s, _PRUNE_ROWS)
        if removed:
            self._events.node_changed("emptied its quarantine", files=removed)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._work.wait()
            self._work.clear()
            try:
                self._delete_queued()
            except TransientError as error:
                self._events.node_changed("waiting to delete files", reason=error.reason)
                self._stopping.wait(5.0)
                self._work.set()
            # A thread boundary: what one study meets must not end the deleting of others.
            except Exception:  # noqa: BLE001
                self._events.unexpected("removal")
                self._queue.rotate(-1)
                self._stopping.wait(5.0)
                self._work.set()

    def _delete_queued(self) -> None:
        while self._queue and not self._stopping.is_set():
            if self._leaving.discard(self._queue[0], _FILES_AT_ONCE):
                self._queue.popleft()
                self._spool.forget_space()
            elif not self._leaving.may_begin(self._queue[0]):
                self._queue.rotate(-1)
                self._stopping.wait(_NOT_YET_PAUSE_S)
            self._stopping.wait(_PAUSE_S)


def keeping_of(study_instance_uid: str, ledger: Ledger, config: Config) -> Keeping:
    """How long a study stays, and why; for those who look.

    Raises
    ------
    LedgerUnavailable
    """
    return decide(ledger.removals.holding(study_instance_uid), rules_of(config))
