"""Watches whether the scanners of a site look to its models as these know them.

Every few hours the inputs of each scanner are held against the reference of each model that keeps
them (`dicom_node.node_shift`), in a thread: it takes seconds, and nobody waits for it. A scanner
that raises the alarm, and one that no longer does, is told of once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dicom_node.errors import NodeError
from dicom_node.events import Events

_FIRST_AFTER_S = 300.0


class ShiftWatch:
    """A `Care`.

    Parameters
    ----------
    every_s
        From look to look.
    versions
        Models and their versions that keep how their inputs looked.
    look
        A document of a version, as `dicom_node.node_shift.Seen.document`; raises NodeError.
    leads
        Whether this process, of several on one ledger, is to look now.
    """

    def __init__(
        self, every_s: float, versions: Callable[[], Sequence[tuple[str, str]]],
        look: Callable[[str, str], Mapping[str, Any]], events: Events,
        now: Callable[[], float] = time.monotonic,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._every_s = every_s
        self._versions = versions
        self._look = look
        self._events = events
        self._now = now
        # After a start the node has other things to do.
        self._next_s = now() + min(every_s, _FIRST_AFTER_S)
        self._alarms: set[tuple[str, str, str]] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """See `Care`."""

    def tick(self) -> None:
        """Look when it is time to, unless the last look is not over."""
        if not self._leads():
            return
        if self._now() < self._next_s or (self._thread is not None and self._thread.is_alive()):
            return
        self._next_s = self._now() + self._every_s
        self._thread = threading.Thread(target=self._run, name="scanner shift", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up what runs."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        try:
            self.look()
        # A boundary: a thread that nobody waits for tells what it could not do.
        except Exception:  # noqa: BLE001
            self._events.unexpected("scanner shift")

    def look(self) -> None:
        """Look at every version once; raises what the ledger raises."""
        found: set[tuple[str, str, str]] = set()
        for model_id, version in self._versions():
            if self._stopping.is_set():
                return
            try:
                document = self._look(model_id, version)
            except NodeError as error:
                self._events.shift_not_measured(model_id, version, error.reason)
                found |= {one for one in self._alarms if one[:2] == (model_id, version)}
                continue
            for one in document["scanners"]:
                if one["mmd"] is None:
                    continue
                key = (model_id, version, str(one["scanner"]))
                if one["alarm"]:
                    found.add(key)
                self._events.shift_measured(
                    *key, inputs=one["inputs"], mmd=one["mmd"], threshold=one["threshold"],
                    silhouette=one["silhouette"], alarm=one["alarm"],
                    is_new=bool(one["alarm"]) != (key in self._alarms),
                )
        self._alarms = found
