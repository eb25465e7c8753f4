"""What is asked of ledger and listeners to know whether the node lives; each answers at once.

The questions are put by the main loop, a few times a minute; what they found is read by
`dicom_node.operations.health`.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dicom_node.errors import LedgerDamaged, LedgerUnavailable

Address = tuple[str, int]
_ASK_EVERY_S = 10.0
# Above what a busy hour costs; a restart costs every association that is open.
_LONGEST_SILENCE_S = 120.0
_OPENS_WITHIN_S = 5.0
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound


class LedgerWatch:
    """Whether the ledger takes writes.

    Parameters
    ----------
    ask
        Begins and ends a transaction; raises `LedgerUnavailable`.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._next_s = 0.0
        self._answered_s = time.monotonic()
        self._found = ""

    def start(self) -> None:
        """The ledger has answered: the node has just read it."""
        self._answered_s = time.monotonic()

    def tick(self) -> None:
        """Ask, if it is time to.

        Raises
        ------
        LedgerDamaged
            The next start rebuilds it.
        """
        if time.monotonic() < self._next_s:
            return
        try:
            self._ask()
        except LedgerDamaged:
            raise
        except LedgerUnavailable as error:
            self._found = error.reason
        else:
            self._answered_s = time.monotonic()
            self._found = ""
        self._next_s = time.monotonic() + _ASK_EVERY_S

    def stop(self) -> None:
        """Nothing is held."""

    def problem(self) -> str:
        """What is wrong, once it has been for longer than a busy database is silent."""
        silent_s = time.monotonic() - self._answered_s
        if self._found and silent_s > _LONGEST_SILENCE_S:
            return f"has not taken a write for {silent_s:.0f} s ({self._found})"
        return ""


@dataclass
class _Knock:
    """One connection that was opened to see it closed; ``is_open`` once it was taken."""

    connection: socket.socket
    since_s: float
    is_open: bool = False
    is_refused: bool = False


class DoorWatch:
    """Whether the listeners take connections: one is opened and given up without a byte.

    A listener that works reads that nothing comes, and closes. One that hangs does not: the
    connection stays as it is, and so does what `problem` says.

    Parameters
    ----------
    doors
        Host and port of every listener, as they are bound.
    """

    def __init__(self, doors: Callable[[], Sequence[Address]]) -> None:
        self._doors = doors
        self._next_s = 0.0
        self._knocks: dict[Address, _Knock] = {}

    def start(self) -> None:
        """Nothing to begin."""

    def are_open(self, within_s: float = _OPENS_WITHIN_S) -> bool:
        """Whether each takes a connection and closes it, in the time given. Waits for it."""
        until_s = time.monotonic() + within_s
        return all(_takes_a_connection(door, until_s) for door in self._doors())

    def tick(self) -> None:
        """Look at what was asked, and ask again, if it is time to."""
        now = time.monotonic()
        for door, knock in list(self._knocks.items()):
            if _is_answered(knock):
                knock.connection.close()
                del self._knocks[door]
        if now < self._next_s:
            return
        self._next_s = now + _ASK_EVERY_S
        for door in self._doors():
            if door not in self._knocks:
                self._knocks[door] = _knock(door)

    def stop(self) -> None:
        """Close what is open; harmless when nothing is."""
        for knock in self._knocks.values():
            knock.connection.close()
        self._knocks.clear()

    def problem(self) -> str:
        """Which listener has left a connection unanswered for too long."""
        now = time.monotonic()
        for (_, port), knock in self._knocks.items():
            if now - knock.since_s > _LONGEST_SILENCE_S:
                return f"port {port} has not answered for {now - knock.since_s:.0f} s"
        return ""


def _reachable(door: Address) -> Address:
    host = door[0].strip("[]")
    return _EVERY_INTERFACE.get(host, host), door[1]


def _knock(door: Address) -> _Knock:
    host, port = _reachable(door)
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    connection.setblocking(False)
    # On the loopback a refusal may come at once.
    failure = connection.connect_ex((host, port))
    is_refused = failure not in (0, errno.EINPROGRESS)
    return _Knock(connection, time.monotonic(), is_refused=is_refused)


def _is_answered(knock: _Knock) -> bool:
    """Whether the other side has closed, or refuses: the process that would hang is not there."""
    if knock.is_refused:
        return True
    try:
        if not knock.is_open:
            knock.connection.shutdown(socket.SHUT_WR)
            knock.is_open = True
        return not knock.connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        # Not connected yet, unless an error says why it never will be.
        return knock.is_open or bool(
            knock.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        )


def _takes_a_connection(door: Address, until_s: float) -> bool:
    knock = _knock(door)
    with knock.connection as connection, selectors.DefaultSelector() as selector:
        while (left_s := until_s - time.monotonic()) > 0:
            if _is_answered(knock):
                return knock.is_open
            with contextlib.suppress(KeyError):
                selector.unregister(connection)
            wanted = selectors.EVENT_READ if knock.is_open else selectors.EVENT_WRITE
            selector.register(connection, wanted)
            selector.select(left_s)
    return False
