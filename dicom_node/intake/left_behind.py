"""What receivers kept after they were silent for everybody else: looked for again and again.

A receiver that is cut off from the database counts as gone, and what it had kept until then is
indexed. It may be alive all the same: then it goes on answering for images, and tells of them when
it is back. One that never comes back, or only as another process, cannot tell. So whoever leads
looks through the spool again: when a receiver of the same name has started, each time that the
silence has lasted twice as long, and, whoever is silent or not known any more, once a day. The last
makes it complete: nothing that lies in the spool stays unknown.

Then it also removes what was half received by hosts that do not come back to do so themselves.
Nobody was told that such a file is kept: what is acknowledged has its name among the kept ones.

It takes long where much is kept, and nothing waits for it: it is done in a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from dicom_node.errors import LedgerUnavailable, StorageFailed
from dicom_node.events import Events
from dicom_node.intake.inventory import FileIndex, take_inventory
from dicom_node.ledger.hosts import HostState
from dicom_node.records import Association, Instance
from dicom_node.spool import Spool

SETTLED_S = 15.0
"""What came within this time is told by who received it, and by which association it came."""
_FIRST_AFTER_S = 30.0
_AFTER_FAILURE_S = 60.0
# A look that takes long leaves the disk to others for most of the time.
_ONCE_IN_S, _TIMES_AS_LONG = 86_400.0, 20.0
# Who leads now does not know when another one has looked.
_ONCE_AFTER_S = 3600.0
_STOPPED_WITHIN_S = 5.0
Name = tuple[str, str]
"""Of a process: its host and its process id."""


class LeftBehind:
    """Looks through the spool for who leads; `tick`, `begin_anew` and `stop` from one thread.

    Parameters
    ----------
    ledger, spool, events
        As everywhere in the node.
    tell
        Told how many files were found, where there were any.
    clock
        Seconds that no clock setting changes.
    """

    def __init__(
        self, ledger: FileIndex, spool: Spool, events: Events, tell: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._events = events
        self._tell = tell
        self._clock = clock
        self._once_s = clock() + _ONCE_AFTER_S
        self._looked: dict[str, tuple[float, frozenset[Name]]] = {}
        self._not_before_s = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def begin_anew(self) -> None:
        """Nobody has looked, as far as is known: others led meanwhile."""
        self._looked.clear()
        self._once_s = self._clock() + _ONCE_AFTER_S

    def tick(self, silent: Sequence[HostState], living: Collection[Name]) -> None:
        """Begin to look, if it is time to.

        Parameters
        ----------
        silent
            Receivers that went without a word.
        living
            Receivers that live.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        if self._clock() < self._not_before_s or self._stopping.is_set():
            return
        followed = {
            one.process_id: frozenset(name for name in living if name[0] == one.host_name)
            for one in silent
        }
        is_due = self._clock() >= self._once_s or any(
            self._is_due(one, followed[one.process_id]) for one in silent
        )
        if not is_due:
            return
        # One look is for all of them.
        self._looked = {
            one.process_id: (one.age_s, followed[one.process_id]) for one in silent
        }
        self._thread = threading.Thread(target=self._look, name="left behind", daemon=True)
        self._thread.start()

    def _is_due(self, one: HostState, followers: frozenset[Name]) -> bool:
        if one.process_id not in self._looked:
            return one.age_s >= _FIRST_AFTER_S
        age_s, known = self._looked[one.process_id]
        return one.age_s >= 2 * max(age_s, _FIRST_AFTER_S) or bool(followers - known)

    def _look(self) -> None:
        began_s = self._clock()
        try:
            index = _Settled(self._ledger, self._stopping)
            found = take_inventory(index, self._spool, "left behind", self._events)
            if found.indexed > index.passed_over:
                self._tell(found.indexed - index.passed_over)
            removed = self._spool.clean_left_incoming()
            if removed:
                self._events.node_changed("removed what others left", half_files_removed=removed)
            took_s = self._clock() - began_s
            self._once_s = self._clock() + max(_ONCE_IN_S, _TIMES_AS_LONG * took_s)
        except (LedgerUnavailable, StorageFailed, OSError):
            self._not_before_s = self._clock() + _AFTER_FAILURE_S
            self._looked.clear()
        # A thread boundary: the next time comes.
        except Exception:  # noqa: BLE001
            self._events.unexpected("intake.left_behind")

    def stop(self) -> None:
        """End what runs."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOPPED_WITHIN_S)


class _Settled:
    """The ledger's index of files, for what did not come a moment ago; a `FileIndex`."""

    def __init__(self, ledger: FileIndex, stopping: threading.Event) -> None:
        self._ledger = ledger
        self._stopping = stopping
        self.passed_over = 0

    def index(
        self, instances: Sequence[Instance], associations: Sequence[Association] = (), *,
        is_there: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """See `FileIndex`; what has just come is left to who received it."""
        before = time.time() - SETTLED_S
        settled = [one for one in instances if one.received_at.timestamp() < before]
        self.passed_over += len(instances) - len(settled)
        if settled:
            self._ledger.index(settled, associations, is_there=is_there)

    def files_after(self, path: str, limit: int) -> list[tuple[str, str]]:
        """See `FileIndex`; raises `LedgerUnavailable` where the node stops."""
        if self._stopping.is_set():
            raise LedgerUnavailable("the node is stopping")
        return self._ledger.files_after(path, limit)

    def forget_files(self, paths: Sequence[str]) -> int:
        """See `FileIndex`."""
        return self._ledger.forget_files(paths)
