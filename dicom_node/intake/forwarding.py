"""What happens in a listener process, told to the node by a line each on the pipe between them.

    child   EventForwarder(events, fd) is a sink of these events
    parent  ChildVoice(pipe, tell) reads ``ready <port>``, then events, until the child ends

Instances are added up and told once a second; everything else is a line of JSON of its own,
``[name, arguments]``. The child logs for itself, so that the node only counts and audits.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import IO

from dicom_node.events import Events, Sink

_READY = b"ready"
_EVERY_S = 1.0
# What is told within a second, unless somebody attacks; more than that is not worth the memory.
_MOST_WAITING = 10_000
_LONGEST_LINE = 1 << 16
_END_PATIENCE_S = 2.0


class EventForwarder:
    """A sink that writes events to a pipe from a thread of its own, and never waits for it.

    What happens while ``most_waiting`` events wait for a parent that does not read is lost, and
    how much that was is told as an event too.

    Parameters
    ----------
    events
        What happens in this process.
    fd
        The pipe; stays open.
    """

    def __init__(self, events: Events, fd: int, most_waiting: int = _MOST_WAITING) -> None:
        self._events = events
        self._fd = fd
        self._most = most_waiting
        self._waiting: deque[tuple[str, dict[str, object]]] = deque()
        self._stored: dict[str, tuple[int, int]] = {}
        self._lost = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-forwarder", daemon=True)
        events.add_sink(self)

    def __call__(self, event: str, arguments: Mapping[str, object]) -> None:
        """Take one event; returns at once."""
        with self._lock:
            if event == "instance_stored":
                outcome, size = str(arguments["outcome"]), arguments["size_bytes"]
                count, total = self._stored.get(outcome, (0, 0))
                self._stored[outcome] = (count + 1, total + int(str(size)))
            elif len(self._waiting) < self._most or event == "events_lost":
                self._waiting.append((event, dict(arguments)))
            else:
                self._lost += 1

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, if the parent reads it soon."""
        self._ended.set()
        self._thread.join(_END_PATIENCE_S)

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            if not self._write_waiting():
                return
        self._write_waiting()

    def _write_waiting(self) -> bool:
        """Whether there is still somebody who reads."""
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost:
            self._events.events_lost(lost)
        with self._lock:
            events = [*self._waiting]
            self._waiting.clear()
            stored, self._stored = self._stored, {}
        events += [
            ("instances_stored", {"count": count, "size_bytes": size, "outcome": outcome})
            for outcome, (count, size) in stored.items()
        ]
        try:
            for event in events:
                self._write(json.dumps(event, default=str).encode() + b"\n")
        except OSError:
            return False
        return True

    def _write(self, line: bytes) -> None:
        if len(line) > _LONGEST_LINE:
            with self._lock:
                self._lost += 1
            return
        while line:
            line = line[os.write(self._fd, line):]


class ChildVoice:
    """Reads what one listener process says, in a thread of its own, until that process ends.

    Parameters
    ----------
    pipe
        The child's standard output; closed here once it has ended.
    tell
        Who gets the events.

    Attributes
    ----------
    is_ready
        Whether the child has said that it listens.
    """

    def __init__(self, pipe: IO[bytes], tell: Sink) -> None:
        self._pipe = pipe
        self._tell = tell
        self.is_ready = False
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener-events", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the child listens; False when it ends or has not said so in time."""
        self._settled.wait(max(0.0, timeout_s))
        return self.is_ready

    def join(self, timeout_s: float) -> None:
        """Wait until everything that an ended child said has been told."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with self._pipe:
            while line := self._pipe.readline(_LONGEST_LINE):
                if line.startswith(_READY):
                    self.is_ready = True
                    self._settled.set()
                else:
                    self._hear(line)
        self._settled.set()

    def _hear(self, line: bytes) -> None:
        try:
            event, arguments = json.loads(line)
        except ValueError:
            # The half of a line that a process leaves which is killed.
            return
        if isinstance(event, str) and isinstance(arguments, dict):
            self._tell(event, arguments)
