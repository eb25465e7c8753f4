"""Listener processes that share one port: started, watched and ended by the node.

    parent  start_listeners(config, database_url, tell) -> Listeners
    child   python -m dicom_node.intake.acceptor; reads one line of JSON on standard input, answers
            ``ready <port>`` on standard output, then its events (`dicom_node.intake.forwarding`),
            and ends when standard input does

The children share the port by SO_REUSEPORT and the count of associations by a memory file. They
hand over through spool and ledger alone.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dicom_node.errors import LedgerUnavailable, StorageFailed
from dicom_node.event_sinks import Sink
from dicom_node.freed_memory import GivingBack, share_arenas
from dicom_node.intake.active import (
    RECORD_BYTES,
    oldest_waiting_s,
    open_associations,
    refused_within,
)
from dicom_node.intake.forwarding import ChildVoice, EventForwarder
from dicom_node.intake.pressure import FullDisk
from dicom_node.intake.quota import Quotas, forget_places, part_bytes
from dicom_node.intake.settings import ListenerSettings, listener_count
from dicom_node.tls_context import server_context

if TYPE_CHECKING:
    from dicom_node.config import Config

_START_PATIENCE_S = 60.0
_END_PATIENCE_S = 25.0
_RESTART_AFTER_S = 2.0
_REFUSES_WITHIN_S = 300.0
_KEEP_TIME_EVERY_S = 10.0
_HEARD_WITHIN_S = 2.0


class Listeners:
    """The listener processes of a host; ``tell`` gets the events of all of them.

    ``process_id`` is the beginning of what they are called in the associations that they report.
    """

    def __init__(
        self, settings: ListenerSettings, database_url: str, count: int, logging: dict[str, str],
        tell: Sink = lambda *_: None, process_id: str = "",
    ) -> None:  # fmt: skip
        self._process_id = process_id or uuid4().hex[:16]
        self._count = count
        self._database_url = database_url
        self._logging = logging
        self._shared_fd = os.memfd_create("listeners")
        os.ftruncate(self._shared_fd, (RECORD_BYTES + part_bytes(settings)) * count)
        # Bound without listening: they keep the ports ours, and no connection ever reaches them.
        self._reservations = _reserve_all(settings)
        ports = [int(one.getsockname()[1]) for one in self._reservations]
        self.port = ports[0]
        # Where TLS is spoken; 0: nowhere.
        self.tls_port = ports[-1] if settings.tls is not None else 0
        self._settings = replace(
            settings, port=ports[0], tls_port=ports[1] if len(ports) > 1 else None
        )
        self._children: list[subprocess.Popen[bytes] | None] = [None] * count
        self._tell = tell
        self._voices: list[ChildVoice | None] = [None] * count
        self._started_at = [0.0] * count
        self._ids = [""] * count
        # Once closed: whether they kept something that the ledger was not told.
        self.left_unindexed = True
        self._is_full = FullDisk(settings.spool.root, settings.spool.refuse_below_free_bytes)

    @property
    def ids(self) -> list[str]:
        """What the latest child of every slot is called in the associations that it reports."""
        return list(self._ids)

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that run."""
        return [child.pid for child in self._children if child and child.poll() is None]

    def alive(self) -> bool:
        """Whether every child runs."""
        return len(self.pids) == self._count

    def listening(self) -> bool:
        """Whether every child runs and has said that it listens; a new one takes a while."""
        return self.alive() and all(voice is not None and voice.is_ready for voice in self._voices)

    @property
    def open_associations(self) -> int:
        """How many associations are open now, in all processes."""
        return open_associations(self._shared_fd, self._count) if self._shared_fd >= 0 else 0

    def oldest_waiting_s(self) -> float:
        """How long the oldest instance waits that is stored and not told to the ledger; 0: none.

        What a child that died could not tell counts until the child is replaced.
        """
        return oldest_waiting_s(self._shared_fd, self._count) if self._shared_fd >= 0 else 0.0

    def refuses_for_space(self) -> bool:
        """Whether the disk has no room for a study: by its measure, or somebody was refused."""
        return self._is_full() or (self._shared_fd >= 0 and refused_within(
            self._shared_fd, self._count, _REFUSES_WITHIN_S
        ))

    def start(self) -> None:
        """Start all children and wait until each listens.

        Raises
        ------
        StorageFailed
            A child ended or did not listen in time; none is left running.
        """
        try:
            for slot in range(self._count):
                self._spawn(slot)
            for slot in range(self._count):
                self._wait_ready(slot)
        except StorageFailed:
            self.close()
            raise

    def ensure_running(self) -> int:
        """Start children anew that have ended; returns how many (call it now and then)."""
        restarted = 0
        for slot, child in enumerate(self._children):
            ended = child is None or child.poll() is not None
            if ended and time.monotonic() - self._started_at[slot] > _RESTART_AFTER_S:
                os.pwrite(self._shared_fd, bytes(RECORD_BYTES), RECORD_BYTES * slot)
                forget_places(self._shared_fd, self._settings, slot, self._count)
                self._spawn(slot)
                restarted += 1
        return restarted

    def close(self) -> None:
        """Drain and end all children."""
        children = [child for child in self._children if child is not None]
        for child in children:
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + _END_PATIENCE_S
        for child in children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            _close_input(child)
        for voice in self._voices:
            if voice is not None:
                voice.join(_HEARD_WITHIN_S)
        self._children = [None] * self._count
        self.left_unindexed = self.oldest_waiting_s() > 0
        if self._shared_fd >= 0:
            os.close(self._shared_fd)
            self._shared_fd = -1
        for reservation in self._reservations:
            reservation.close()

    def _spawn(self, slot: int) -> None:
        former = self._children[slot]
        if former is not None:
            _close_input(former)
        child = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.intake.acceptor"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            pass_fds=[self._shared_fd],
            # Ctrl-C in a terminal goes to the node, which then drains its children.
            start_new_session=True,
            env=_environment(),
        )
        self._ids[slot] = f"{self._process_id}.{slot}.{uuid4().hex[:12]}"
        orders = {
            "listener_id": self._ids[slot],
            "settings": self._settings.to_json(),
            "database_url": self._database_url,
            "shared_fd": self._shared_fd,
            "slot": slot, "slots": self._count,
            "logging": self._logging,
        }
        self._children[slot] = child
        self._voices[slot] = ChildVoice(child.stdout, self._tell) if child.stdout else None
        self._started_at[slot] = time.monotonic()
        if child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(orders).encode() + b"\n")
                child.stdin.flush()

    def _wait_ready(self, slot: int) -> None:
        voice = self._voices[slot]
        if voice is None:
            raise StorageFailed("a listener process was not started", reason="intake.listener")
        if not voice.wait_ready(self._started_at[slot] + _START_PATIENCE_S - time.monotonic()):
            raise StorageFailed(
                "a listener process did not start: its own message stands above",
                reason="intake.listener",
            )


def start_listeners(
    config: Config, database_url: str, tell: Sink = lambda *_: None, process_id: str = ""
) -> Listeners:
    """Start the listener processes of `config` on one port and wait until they listen.

    ``tell`` gets what happens in them, from threads of its own; they have logged it already.
    ``process_id`` says whose they are, without a dot.

    Raises
    ------
    ConfigurationError
        The files of ``security.tls`` cannot be used.
    StorageFailed
        The port is taken, or a process did not start.
    """
    if config.security.tls is not None:
        server_context(config.security.tls)
    listeners = Listeners(
        ListenerSettings.of(config),
        database_url,
        listener_count(config.intake.listener_processes),
        {"level": config.logging.level, "form": config.logging.format},
        tell,
        process_id,
    )
    listeners.start()
    return listeners


def _environment() -> dict[str, str]:
    """Ours, without the settings, which may hold passwords: a child gets its orders by the pipe."""
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith("DICOM_NODE__")
    }
    return {**ours, "PYTHONPATH": _python_path()}


def _python_path() -> str:
    # The child must find this package also when it is run from a source tree.
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def _reserve_all(settings: ListenerSettings) -> list[socket.socket]:
    reservations = [_reserve(settings.host, settings.port)]
    if settings.tls is not None and settings.tls_port is not None:
        try:
            reservations.append(_reserve(settings.host, settings.tls_port))
        except StorageFailed:
            reservations[0].close()
            raise
    return reservations


def _reserve(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reservation = socket.socket(family, socket.SOCK_STREAM)
    try:
        _refuse_taken(family, host, port)
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((host, port))
    except OSError as failure:
        reservation.close()
        raise StorageFailed(
            f"cannot listen on {host} port {port}: {failure.strerror}", reason="intake.port"
        ) from failure
    return reservation


def _refuse_taken(family: int, host: str, port: int) -> None:
    # With SO_REUSEPORT a second node of the same user would silently share the port.
    if port:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))


def _run_child(orders: dict[str, Any], parent: int) -> None:
    from dicom_node.events import Events, configure_logging
    from dicom_node.intake.active import ActiveAssociations
    from dicom_node.intake.indexer import Indexer
    from dicom_node.intake.listener import Listener
    from dicom_node.intake.normalised import NormalisedServices
    from dicom_node.ledger.ledger import Ledger

    configure_logging(orders["logging"]["level"], orders["logging"]["form"])
    _let_the_node_tell()
    settings = ListenerSettings.from_json(orders["settings"])
    events = Events()
    forwarder = EventForwarder(events, sys.stdout.fileno())
    spool = settings.spool.open()
    ledger = Ledger.open(orders["database_url"])
    threading.Thread(target=_keep_time, args=(ledger.keep_time,), name="time", daemon=True).start()
    share = (orders["shared_fd"], orders["slot"], orders["slots"])
    active = ActiveAssociations(*share)
    indexer = Indexer(
        ledger, spool, orders["listener_id"], events, waits_since=active.waits_since
    )
    services = NormalisedServices(ledger, spool, events)
    listener = Listener(
        settings, spool, indexer, events, active, services, ledger.files.recent_study_bytes,
        Quotas(settings, *share),
    )
    _allow_open_files(settings)
    indexer.start()
    # What was imported stays: later collections need not look at it again.
    gc.collect()
    gc.freeze()
    port = listener.start()
    sys.stdout.write(f"ready {port}\n")
    sys.stdout.flush()
    forwarder.start()
    _wait_for_the_end(parent)
    listener.close()
    indexer.close()
    ledger.close()
    forwarder.close()


def _keep_time(by_the_ledger: Callable[[], None]) -> None:
    """Receive by the clock of the ledger, also after this computer's was set."""
    while True:
        with contextlib.suppress(LedgerUnavailable):
            by_the_ledger()
        time.sleep(_KEEP_TIME_EVERY_S)


def _let_the_node_tell() -> None:
    """What peers send wrong is told as the end of their association, and not by line of code."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    for of_handlers in ("service_class", "service_class_n", "events"):
        logging.getLogger(f"pynetdicom.{of_handlers}").setLevel(logging.ERROR)


def _allow_open_files(settings: ListenerSettings) -> None:
    """As many open files as the system lets us have: each connection is one, or three."""
    if settings.receive_path == "streamed":
        # pynetdicom's own path knows select(2) alone, which ends at 1024.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _close_input(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()


def _wait_for_the_end(parent: int) -> None:
    """Until SIGTERM, or until the parent's end of the pipe is closed, so also when it dies."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    poller = select.poll()
    poller.register(parent, select.POLLIN | select.POLLHUP)
    freed = GivingBack()
    while not ended.is_set():
        freed.tick()
        if poller.poll(500) and not os.read(parent, 4096):
            return


def main() -> None:
    """Run one listener process under the orders on standard input."""
    share_arenas()
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1 << 16)
        if not piece:
            return
        line += piece
    _run_child(json.loads(line), 0)


if __name__ == "__main__":
    main()
