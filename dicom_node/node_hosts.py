"""This process among the hosts of the node: what it leads, who else lives, and who is told of it.

On SQLite a host is alone and leads all that it does. On PostgreSQL it has a place
(`dicom_node.ledger.host_session`) that a thread keeps, whatever the main loop waits for.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Protocol
from uuid import uuid4

import dicom_node
from dicom_node.config import Config
from dicom_node.errors import HostNameTaken, LedgerUnavailable
from dicom_node.events import Events
from dicom_node.intake.closing import WAITS_IN_VAIN_S
from dicom_node.ledger.host_session import SILENT_AFTER_S, HostSession, Process
from dicom_node.ledger.hosts import SILENT, HostState
from dicom_node.ledger.ledger import Ledger

INTAKE, WORK, DELIVER = "intake", "work", "deliver"
_ROUND_S = 1.0
_STOPPED_WITHIN_S = 10.0
# A former process on this host that was cut off or stood still has its name until then.
_NAME_WAITED_FOR_S, _NAME_PAUSE_S = 10.0, 0.2
# A main loop waits for nothing longer than the ledger.
_STUCK_AFTER_S = 90.0
# What waits for less is on its way, as something always is where much is received.
_STALLED_S = 0.8
# What is waited for at the least where something waited while the database was away.
_JUST_BACK_S = 5.0
# Of a receiver that is gone and whose files nobody has looked through yet.
_LONG_S = 60.0


class Place(Protocol):
    """What the node asks of its place among the hosts.

    Attributes
    ----------
    process_id
        Another one at every start; its first part ends at no dot.
    host_name
        Of the settings, or of the machine.
    is_shared
        Whether there may be other hosts on the same ledger.
    """

    process_id: str
    host_name: str
    is_shared: bool

    def start(self) -> None:
        """Take the place; on return the others can see it.

        Raises
        ------
        LedgerUnavailable
        HostNameTaken
            Another process lives that does the same under the same name.
        """

    def ready(self) -> None:
        """From here on this process can lead."""

    def turned(self) -> None:
        """The main loop has turned, or got on with something long: what it leads is done.

        Raises
        ------
        HostNameTaken
            Another process has taken this one's place while it was cut off.
        """

    def leads(self, duty: str) -> bool:
        """Whether this process, and no other, is to do what must be done once."""

    def say(self, devices: Collection[str], models: Collection[str]) -> None:
        """Let the others know what this process can do."""

    def others(self, role: str) -> list[HostState]:
        """The other living processes with a role, as of a second ago or two."""

    def silent(self, role: str) -> list[HostState]:
        """The processes with a role that went without a word within a day."""

    def to_index(self) -> list[HostState]:
        """Receivers that are gone, and that may have kept what the ledger does not know."""

    def settled(self, process_ids: Collection[str]) -> None:
        """What these kept is in the ledger now."""

    def waiting_here_s(self) -> float:
        """How long images wait here that could have been told the ledger meanwhile."""

    def others_waiting_s(self) -> float:
        """How long images may be waiting at other receivers that the ledger does not know."""

    def stop(self, *, to_index: bool = False) -> None:
        """Leave in order; ``to_index``: not all that was kept is in the ledger."""


class SoleHost:
    """The place of a host that has the ledger alone."""

    is_shared = False

    def __init__(self, config: Config, waiting_s: Callable[[], float] = lambda: 0.0) -> None:
        self.process_id = uuid4().hex
        self.host_name = host_name_of(config)
        self._waiting_s = waiting_s

    def start(self) -> None:
        """See `Place`."""

    def ready(self) -> None:
        """See `Place`."""

    def turned(self) -> None:
        """See `Place`."""

    def leads(self, duty: str) -> bool:
        """See `Place`."""
        return True

    def say(self, devices: Collection[str], models: Collection[str]) -> None:
        """See `Place`."""

    def others(self, role: str) -> list[HostState]:
        """See `Place`."""
        return []

    def silent(self, role: str) -> list[HostState]:
        """See `Place`."""
        return []

    def to_index(self) -> list[HostState]:
        """See `Place`."""
        return []

    def settled(self, process_ids: Collection[str]) -> None:
        """See `Place`."""

    def waiting_here_s(self) -> float:
        """See `Place`."""
        return self._waiting_s()

    def others_waiting_s(self) -> float:
        """See `Place`."""
        return 0.0

    def stop(self, *, to_index: bool = False) -> None:
        """See `Place`."""


class SharedPlace:
    """The place of a process whose ledger others may share.

    Parameters
    ----------
    session
        Where the place is kept.
    wants
        Duties to be taken where they are free.
    events
        Told who comes and goes and who leads.
    waiting_s
        How long the oldest image waits here that is kept and not told the ledger.
    """

    is_shared = True

    def __init__(
        self, session: HostSession, wants: Iterable[str], events: Events,
        waiting_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.process_id = session.process.process_id
        self.host_name = session.process.host_name
        self._session = session
        self._wants = frozenset(wants)
        self._events = events
        self._waiting_s = waiting_s
        self._led: frozenset[str] = frozenset()
        self._settled: frozenset[str] = frozenset()
        self._is_lost = self._is_ready = False
        self._taken: HostNameTaken | None = None
        self._turned_s = 0.0
        self._here_since_s = time.monotonic()
        self._turn = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hosts", daemon=True)

    def start(self) -> None:
        """See `Place`; who ended in order or was killed has given the name back already."""
        waited_s = 0.0
        while True:
            try:
                self._round()
                break
            except HostNameTaken:
                if waited_s >= _NAME_WAITED_FOR_S or self._stopping.wait(_NAME_PAUSE_S):
                    raise
                waited_s += _NAME_PAUSE_S
        self._events.host_changed(self.host_name, "is here", self._session.process.roles)
        self._thread.start()

    def ready(self) -> None:
        """See `Place`."""
        self.turned()
        self._is_ready = True
        self._turn.set()

    def turned(self) -> None:
        """See `Place`."""
        if self._taken is not None:
            raise self._taken
        self._turned_s = time.monotonic()

    def leads(self, duty: str) -> bool:
        """See `Place`."""
        return self._session.holds(duty)

    def say(self, devices: Collection[str], models: Collection[str]) -> None:
        """See `Place`."""
        self._session.say(devices, models)

    def others(self, role: str) -> list[HostState]:
        """See `Place`."""
        found, _ = self._session.hosts()
        return [
            one for one in found
            if one.lives and role in one.roles and one.process_id != self.process_id
        ]

    def silent(self, role: str) -> list[HostState]:
        """See `Place`."""
        found, _ = self._session.hosts()
        return [one for one in found if one.gone == SILENT and role in one.roles]

    def to_index(self) -> list[HostState]:
        """See `Place`."""
        return [
            one for one in self._session.hosts()[0]
            if one.to_index and not one.lives and one.process_id not in self._settled
        ]

    def settled(self, process_ids: Collection[str]) -> None:
        """See `Place`; until the next round reads it from the ledger."""
        self._settled |= set(process_ids)

    def waiting_here_s(self) -> float:
        """See `Place`.

        What waited while the database was away does not wait in vain: it is told in a moment.
        """
        return min(self._waiting_s(), self._here_for_s())

    def _here_for_s(self) -> float:
        here_for_s = 0.0 if self._is_lost else time.monotonic() - self._here_since_s
        return max(_JUST_BACK_S, here_for_s)

    def others_waiting_s(self) -> float:
        """See `Place`.

        A receiver that is silent may keep images all the while: it is waited for until the
        database lets go of its place, which takes seconds.
        """
        found, old_s = self._session.hosts()
        longest_s = _LONG_S if self.to_index() else 0.0
        for one in found:
            if not one.lives or INTAKE not in one.roles or one.process_id == self.process_id:
                continue
            age_s = abs(one.age_s) + old_s
            if one.waiting_s >= WAITS_IN_VAIN_S:
                # One that fails again and again is told of elsewhere, and must not hide others.
                continue
            if one.waiting_s > _STALLED_S or age_s > SILENT_AFTER_S:
                # After the database was away others are only about to give their sign.
                longest_s = max(longest_s, one.waiting_s + min(age_s, self._here_for_s()))
        return longest_s

    def stop(self, *, to_index: bool = False) -> None:
        """See `Place`."""
        self._stopping.set()
        self._turn.set()
        if self._thread.is_alive():
            self._thread.join(_STOPPED_WITHIN_S)
        self._session.end(to_index=to_index)

    def _run(self) -> None:
        was_taken = False
        while not self._stopping.is_set():
            # A place that was lost, or a duty that is wanted from now on, is not waited for long.
            self._turn.wait(_ROUND_S)
            self._turn.clear()
            try:
                self._round()
            except (LedgerUnavailable, HostNameTaken) as error:
                if not self._is_lost or isinstance(error, HostNameTaken):
                    self._events.host_changed(
                        self.host_name, "lost its place", self._session.process.roles, error.reason
                    )
                self._is_lost = True
                self._tell_led()
                if isinstance(error, HostNameTaken) and was_taken:
                    # Somebody replaced this host. The main loop is told, and ends the process.
                    self._taken = error
                    return
                # Once: the server may be letting go of what the former connection of this very
                # process held, one lock after the other.
                was_taken = isinstance(error, HostNameTaken)
            # A thread boundary: without rounds this process would lose its place for good.
            except Exception:  # noqa: BLE001
                self._events.unexpected("hosts")
            else:
                was_taken = False

    def _round(self) -> None:
        is_stuck = time.monotonic() - self._turned_s > _STUCK_AFTER_S
        if is_stuck:
            # Its disk does not answer, say: somebody else is to do what it cannot.
            for duty in self._led:
                self._session.give_back(duty)
        wants = self._wants if self._is_ready and not is_stuck else frozenset[str]()
        gone = self._session.round(wants, self.waiting_here_s())
        self._settled = frozenset()
        if self._is_lost:
            self._is_lost = False
            self._here_since_s = time.monotonic()
            self._events.host_changed(
                self.host_name, "has its place again", self._session.process.roles
            )
        for one in gone:
            self._events.host_changed(one.host_name, "is gone", one.roles, "silent")
        self._tell_led()

    def _tell_led(self) -> None:
        led = frozenset(duty for duty in self._wants if self._session.holds(duty))
        for duty in sorted(led - self._led):
            self._events.duty_taken(self.host_name, duty, taken=True)
        for duty in sorted(self._led - led):
            self._events.duty_taken(self.host_name, duty, taken=False)
        self._led = led


def host_name_of(config: Config) -> str:
    """``node.host_name``, or what the machine is called."""
    return config.node.host_name or machine_name()


def machine_name() -> str:
    """What the machine is called, in the characters and the length that a host name has here."""
    found = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in ".-_") else "-"
        for letter in socket.gethostname()
    )
    return found[:48].strip(".-_") or "host"


def place_of(
    config: Config, ledger: Ledger, roles: Collection[str], lanes: Iterable[str], events: Events,
    waiting_s: Callable[[], float],
) -> Place:
    """The place of a process with these roles; ``lanes`` are the destinations that it may serve."""
    if ledger.url.startswith("sqlite"):
        return SoleHost(config, waiting_s)
    wants = [role for role in (INTAKE, WORK, DELIVER) if role in roles]
    if DELIVER in roles:
        wants += [lane_duty(lane) for lane in lanes]
    process = Process(
        f"{os.getpid():x}-{uuid4().hex[:16]}", host_name_of(config), tuple(sorted(roles)),
        dicom_node.__version__,
    )
    return SharedPlace(HostSession(ledger.url, process), wants, events, waiting_s)


def lane_duty(lane: str) -> str:
    """The duty of sending to one destination."""
    return f"lane {lane}"
