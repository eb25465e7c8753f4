"""A `JobEngine` without a database, for tests: threads, a clock and no disk."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from dicom_node.ledger.engine import Handler, QueueLimits, Standing, engine_id


class InlineEngine:
    """A `JobEngine` for tests and one-shot commands: threads, a clock and no disk."""

    def __init__(self) -> None:
        self._handlers: Mapping[str, Handler] = {}
        self._submitted: dict[str, tuple[float, int, str, str, int]] = {}
        self._taken: set[str] = set()
        self._done: set[str] = set()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="inline-engine", daemon=True)

    def start(self, handlers: Mapping[str, Handler], queues: Mapping[str, QueueLimits]) -> None:
        """See `JobEngine.start`; limits are met because one job runs at a time."""
        self._handlers = handlers
        self._thread.start()

    def submit(
        self,
        kind: str,
        key: str,
        attempt: int,
        *,
        lane: str | None = None,
        priority: int = 10,
        not_before: datetime | None = None,
    ) -> None:
        """See `JobEngine.submit`."""
        name = engine_id(kind, key, attempt)
        due = not_before.timestamp() if not_before else 0.0
        with self._wake:
            if name not in self._taken:
                self._submitted.setdefault(name, (due, priority, kind, key, attempt))
            self._wake.notify()

    def start_here(self, kind: str, key: str, attempt: int) -> None:
        """See `JobEngine.start_here`; in a thread of its own."""
        name = engine_id(kind, key, attempt)
        with self._wake:
            if name in self._taken:
                return
            self._taken.add(name)

        def run() -> None:
            # As in `_work`.
            with contextlib.suppress(Exception):
                self._handlers[kind](key, attempt)
            with self._wake:
                self._done.add(name)

        threading.Thread(target=run, name=name, daemon=True).start()

    def standing(self, kind: str, key: str, attempt: int) -> Standing:
        """See `JobEngine.standing`."""
        name = engine_id(kind, key, attempt)
        with self._wake:
            if name in self._done:
                return Standing.FINISHED
            known = name in self._taken or name in self._submitted
            return Standing.OPEN if known else Standing.UNKNOWN

    def sweep(self) -> int:
        """See `JobEngine.sweep`; nothing can be left behind."""
        return 0

    def prune(self, older_than: timedelta) -> int:
        """See `JobEngine.prune`; when it ended is not kept, so all of it is forgotten."""
        with self._wake:
            forgotten = len(self._done)
            self._taken -= self._done
            self._done.clear()
            return forgotten

    def forget(self, living: Collection[str]) -> int:
        """See `JobEngine.forget`; there are no other processes."""
        return 0

    def stop(self) -> None:
        """See `JobEngine.stop`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _due(self) -> Sequence[tuple[int, float, str]]:
        now = time.time()
        return sorted((p, due, n) for n, (due, p, *_) in self._submitted.items() if due <= now)

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._stopping and not self._due():
                    self._wake.wait(0.05)
                if self._stopping:
                    return
                name = self._due()[0][2]
                _, _, kind, key, attempt = self._submitted.pop(name)
                self._taken.add(name)
            # A boundary: as with the durable engine, a handler that raises ends its own job only.
            with contextlib.suppress(Exception):
                self._handlers[kind](key, attempt)
            with self._wake:
                self._done.add(name)
