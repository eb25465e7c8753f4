"""From the local audit trail to its collector: the trail is the spool, and a file says how far.

Syslog has no answers. What was handed over in the last moments before a connection broke may not
have arrived, so that it is sent again on the next one: a message may come twice, none is left out.
Of several processes of a node, one sends at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.durable import write_durably
from dicom_node.operations.audit_trail import AuditTrail, Entry
from dicom_node.operations.syslog import Collector, Line, connect, format_message

_PLACE, _LOCK = "collector.json", "collector.lock"
_LOOK_EVERY_S = 1.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_KEEP_PLACE_EVERY_S = 1.0
_MAY_BE_LOST_S = 5.0
_END_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Place:
    """Up to where a collector has the trail: a file and an offset in it; ``""``: from the start."""

    file: str = ""
    offset: int = 0


class AuditShipping:
    """A thread that sends what is new in the trail, and tries again until the collector is back.

    Parameters
    ----------
    folder
        Of the trail; the place is kept there too.
    collector
        Who gets the messages.
    told
        Told why the collector cannot be reached, and by ``""`` that it is reached again.
    """

    def __init__(
        self, folder: Path, collector: Collector, told: Callable[[str], None] = lambda _: None
    ) -> None:
        self._folder = folder
        self._trail = AuditTrail(folder)
        self._collector = collector
        self._told = told
        self._hostname = (socket.gethostname() or "-").replace(" ", "-")[:255]
        self._place = self._kept = self._read_place()
        self._kept_at_s = 0.0
        # Where each of the last messages began, and when it was handed over.
        self._recent: deque[tuple[float, Place]] = deque()
        self._is_up: bool | None = None
        self._lock_fd = -1
        self._ended = threading.Event()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-shipping", daemon=True)

    @property
    def is_up(self) -> bool | None:
        """Whether the collector took what was sent last; ``None`` before the first try."""
        return self._is_up

    def backlog_bytes(self) -> int:
        """What of the trail the collector has not got."""
        total = 0
        # What cannot be looked at is told by the thread that would send it.
        with contextlib.suppress(OSError):
            for path in self._trail.files():
                if path.name >= self._place.file:
                    total += path.stat().st_size
                    if path.name == self._place.file:
                        total -= self._place.offset
        return max(0, total)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def notice(self) -> None:
        """There is something new."""
        self._news.set()

    def close(self) -> None:
        """Send what is left if the collector takes it at once; the rest is sent at the next start.
        """
        self._ended.set()
        self._news.set()
        if self._thread.ident is not None:
            self._thread.join(_END_PATIENCE_S)

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        line: Line | None = None
        while True:
            is_last = self._ended.is_set()
            try:
                if self._is_ours():
                    line = line or self._connect()
                    line.check()
                    self._send_new(line)
                    wait_s = _FIRST_WAIT_S
            # A boundary: whatever the files hold, a thread that nobody waits for tells it and goes
            # on. What it says is the kind of error alone: a text may quote a message.
            except Exception as error:  # noqa: BLE001
                if line is not None:
                    line.close()
                    line = None
                    self._go_back(error)
                self._tell(getattr(error, "strerror", None) or type(error).__name__)
                self._ended.wait(0 if is_last else wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            if is_last:
                break
            self._news.wait(_LOOK_EVERY_S)
            self._news.clear()
        if line is not None:
            line.close()
        if self._lock_fd >= 0:
            self._keep_place()
            os.close(self._lock_fd)

    def _is_ours(self) -> bool:
        """Whether this process is the one that sends; where the other one ended, it becomes so."""
        if self._lock_fd >= 0:
            return True
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        fd = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._place = self._kept = self._read_place()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            os.close(fd)
            raise
        self._place = self._kept = self._read_place()
        self._lock_fd = fd
        return True

    def _connect(self) -> Line:
        line = connect(self._collector)
        self._tell("")
        return line

    def _tell(self, problem: str) -> None:
        is_up = not problem
        if is_up is not self._is_up:
            self._is_up = is_up
            self._told(problem)

    def _send_new(self, line: Line) -> None:
        for entry in self._new():
            is_warning = 'EventOutcomeIndicator="0"' not in entry.message
            line.send(format_message(
                entry.message, entry.at, is_warning=is_warning, hostname=self._hostname
            ))
            now = time.monotonic()
            self._recent.append((now, self._place))
            while self._recent[0][0] < now - _MAY_BE_LOST_S:
                self._recent.popleft()
            self._place = Place(entry.file, entry.end)
            if now > self._kept_at_s + _KEEP_PLACE_EVERY_S:
                self._keep_place()
        self._keep_place()

    def _new(self) -> Iterator[Entry]:
        place = self._place
        for path in self._trail.files():
            if path.name >= place.file:
                offset = place.offset if path.name == place.file else 0
                yield from self._trail.entries_after(path.name, offset)

    def _go_back(self, error: Exception) -> None:
        # A collector that takes no more has not read what it took last, however long ago that is.
        is_deaf = isinstance(error, TimeoutError)
        now = time.monotonic()
        for at, place in self._recent:
            if is_deaf or at >= now - _MAY_BE_LOST_S:
                self._place = place
                break
        self._recent.clear()

    def _keep_place(self) -> None:
        self._kept_at_s = time.monotonic()
        if self._place == self._kept:
            return
        content = json.dumps(vars(self._place)).encode()
        # What is not kept is sent twice after a restart.
        with contextlib.suppress(OSError):
            write_durably(str(self._folder / _PLACE), lambda file: file.write(content))
            self._kept = self._place

    def _read_place(self) -> Place:
        """The place that was kept, if the trail has it; otherwise the trail is sent as a whole."""
        try:
            document = json.loads((self._folder / _PLACE).read_bytes())
            place = Place(str(document["file"]), int(document["offset"]))
            sizes = {path.name: path.stat().st_size for path in self._trail.files()}
        except (OSError, ValueError, OverflowError, KeyError, TypeError, RecursionError):
            return Place()
        # A file that is gone and older than others was sent, and then removed by the site.
        is_there = 0 <= place.offset <= sizes.get(place.file, place.offset)
        return place if is_there and place.file <= max(sizes, default="") else Place()
