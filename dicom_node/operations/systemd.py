"""What systemd is told of the node: ready, alive, stopping, and how it is.

The protocol of sd_notify(3): datagrams of ``NAME=value`` lines to the Unix socket that
``NOTIFY_SOCKET`` names. Without that variable nobody is told anything, and nothing else changes.

The watchdog is fed by the round of the main loop that has just found the node alive, and by no
thread of its own: a node whose main loop hangs falls silent, and systemd starts it again.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from dicom_node.operations.health import HealthCheck

# Longer than anything that the start waits for without doing something: a worker that lists GPUs.
_MORE_TIME_S = 180.0
_ASK_EVERY_S = 10.0
# The listeners, the engine and the workers are given a while each, and no more, to end.
_LONGEST_END_S = 90.0
_STATUS_EVERY_S = 30.0
_LONGEST_STATUS = 400


class ServiceManager:
    """Who started the node and wants to hear of it; nobody, where ``address`` is empty.

    Parameters
    ----------
    address
        Path of a Unix datagram socket; with ``@`` in front a name in the abstract namespace.
    watchdog_s
        Seconds of silence after which the node is taken for dead; 0: it is not watched.
    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """The one that the environment names; its variables go, for children are not the service.

        ``WATCHDOG_PID`` says which process is watched (sd_watchdog_enabled(3)).
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", "")
        is_ours = watched in ("", str(os.getpid())) and microseconds.isdecimal()
        return cls(address, int(microseconds) / 1e6 if is_ours else 0.0)

    @property
    def is_there(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def tell(self, **assignments: str | int) -> bool:
        """Send one message, such as ``READY=1``; whether it was taken. Never waits."""
        if not self._address:
            return False
        lines = (f"{name}={_in_one_line(str(value))}" for name, value in assignments.items())
        message = "\n".join(lines).encode("utf-8", "replace")
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as sender:
                sender.sendto(message, self._address)
        except OSError:
            # A full queue, or nobody any more: the caller says it again, or nobody wants to know.
            return False
        return True

    @contextmanager
    def patient(self, status: str) -> Iterator[None]:
        """Ask for more time for as long as the calling thread gets on with what it does.

        Getting on is measured, not supposed: the thread has computed, read or written since it was
        last asked. One that hangs is given up after `TimeoutStartSec=`, or three minutes after it
        last did something.
        """
        ended = threading.Event()
        work = _Work()
        self.tell(STATUS=status)

        def ask() -> None:
            before = work.done()
            while not ended.wait(_ASK_EVERY_S):
                now = work.done()
                if now != before:
                    self.tell(EXTEND_TIMEOUT_USEC=int(_MORE_TIME_S * 1e6), STATUS=status)
                before = now

        asking = threading.Thread(target=ask, name="service-manager", daemon=True)
        if self.is_there:
            asking.start()
        try:
            yield
        finally:
            ended.set()
            if self.is_there:
                asking.join()


class _Work:
    """What the thread that makes this has done: hundredths of seconds computed, bytes moved."""

    def __init__(self) -> None:
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._io = Path(f"/proc/self/task/{threading.get_native_id()}/io")

    def done(self) -> tuple[int, str]:
        try:
            moved = self._io.read_text("ascii")
        except OSError:
            moved = ""
        return int(time.clock_gettime(self._clock) * 100), moved


class SystemdCare:
    """Tells the service manager, from the main loop (`dicom_node.node_operations.Care`).

    Parameters
    ----------
    report
        How the parts of the node are.
    is_open
        Whether every listener takes a connection now; may wait a few seconds.
    status
        What the node has to do, in a line without anything of a patient.
    """

    def __init__(
        self, manager: ServiceManager, report: Callable[[], Sequence[HealthCheck]],
        is_open: Callable[[], bool], status: Callable[[], str],
    ) -> None:
        self._manager = manager
        self._report = report
        self._is_open = is_open
        self._status = status
        self._is_begun = self._is_ready = False
        self._next_feed_s = self._next_status_s = 0.0

    def start(self) -> None:
        """Say ready, if a connection was taken; otherwise `tick` tries again."""
        self._is_begun = True
        if self._manager.is_there and self._is_open():
            self._is_ready = self._manager.tell(READY=1, STATUS="ready")
            self._next_feed_s = self._next_status_s = 0.0

    def tick(self) -> None:
        """Say that the node is alive, if it is, in half the time that the watchdog allows.

        Says nothing before `start`, and nothing after `stop`.
        """
        if not self._manager.is_there or not self._is_begun:
            return
        if not self._is_ready:
            self.start()
        now = time.monotonic()
        if self._is_ready and self._manager.watchdog_s and now >= self._next_feed_s:
            self._feed(now)
        if now >= self._next_status_s:
            self._next_status_s = now + _STATUS_EVERY_S
            self._manager.tell(STATUS=self._in_a_line())

    def stop(self) -> None:
        """Say that the node ends, and how long that may take at most."""
        self._is_begun = False
        self._manager.tell(
            STOPPING=1, EXTEND_TIMEOUT_USEC=int(_LONGEST_END_S * 1e6),
            STATUS="stopping: what is being received and computed comes to its end",
        )

    def _feed(self, now: float) -> None:
        if any(check.problem for check in self._report() if check.for_liveness):
            return
        if self._manager.tell(WATCHDOG=1):
            self._next_feed_s = now + self._manager.watchdog_s / 2

    def _in_a_line(self) -> str:
        problems = [f"{one.name}: {one.problem}" for one in self._report() if one.problem]
        return "; ".join(problems) or self._status()


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_STATUS]
