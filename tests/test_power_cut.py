"""The power goes while images arrive: whatever was acknowledged is on the disk, whole."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.raw_scu import CT, Closed, RawScu
from dicom_node.events import Events
from dicom_node.intake.acceptor import Listeners, start_listeners
from dicom_node.node import Node
from dicom_node.spool import uid_to_name
from tests.disk_images import Ext4Image, ext4_image
from tests.intake.conftest import slice_of
from tests.intake.test_acceptor import config_of

SENDERS, CUTS = 4, 3
STUDY = "1.2.3.1"


class Load:
    """Senders that never pause, and what they were told is kept: data set by path."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._acknowledged: dict[str, bytes] = {}
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(SENDERS)]

    def _send(self, sender: int) -> None:
        number = sender * 100_000
        with contextlib.suppress(OSError, Closed):
            while not self._stop.is_set():
                scu = RawScu(self._port)
                series = f"1.2.3.2.{number}"
                for _ in range(8):
                    number += 1
                    uid, data = slice_of(number, 20_000, series)
                    if scu.store(CT, uid, data) == 0:
                        name = f"instances/{STUDY}/{uid_to_name(series)}/{uid}.dcm"
                        with self._lock:
                            self._acknowledged[name] = data
                scu.release()

    def acknowledged(self) -> dict[str, bytes]:
        with self._lock:
            return dict(self._acknowledged)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def stopped(listeners: Listeners) -> Iterator[None]:
    pids = listeners.pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Ext4Image]:
    with ext4_image(tmp_path) as mounted:
        yield mounted


def check_after_power_cut(data_dir: Path, acknowledged: dict[str, bytes]) -> None:
    """Start as always on what the disk held, and compare it with what was promised."""
    node = Node(config_of(data_dir), Events(), ["intake"])
    try:
        node.start()
        assert list((node.spool.root / "incoming").iterdir()) == []
        kept = set(node.spool.stored())
        assert kept >= acknowledged.keys(), f"{len(acknowledged.keys() - kept)} lost"
        for name, data in acknowledged.items():
            assert node.spool.resolve(name).read_bytes().endswith(data), "a file is not whole"
        for name in kept - acknowledged.keys():
            # Kept and not yet answered for: whole or not there at all.
            number = int(Path(name).stem.rpartition(".")[2])
            series = Path(name).parent.name
            assert node.spool.resolve(name).read_bytes().endswith(
                slice_of(number, 20_000, series)[1]
            )
        assert node.ledger.paths_known(kept) == kept
        assert node.ledger.history("node", "ledger") == [], "a power cut must not damage it"
    finally:
        node.close()


def test_what_was_acknowledged_survives_power_cuts_at_random_instants(
    tmp_path: Path, image: Ext4Image
) -> None:
    data_dir = image.folder / "data"
    config = config_of(data_dir, listener_processes=2)
    config = config.model_copy(
        update={"access": config.access.model_copy(update={"max_associations": 64})}
    )
    data_dir.mkdir()
    # What one who opens the ledger before has made of it, so that listeners only write.
    listeners = start_listeners(config, f"sqlite:///{data_dir}/ledger.db")
    chance = random.Random(20260105)
    try:
        with Load(listeners.port) as load:
            for cut in range(CUTS):
                enough = len(load.acknowledged()) + chance.randrange(20, 120)
                deadline = time.monotonic() + 120
                while len(load.acknowledged()) < enough:
                    assert time.monotonic() < deadline, "the listeners do not answer"
                    time.sleep(0.001 * chance.randrange(1, 20))
                never_synced = image.folder / f"never synced {cut}"
                with stopped(listeners):
                    promised = load.acknowledged()
                    never_synced.write_bytes(b"x" * 100_000)
                    with image.as_after_power_cut(tmp_path / f"cut {cut}") as after:
                        lost = after / never_synced.name
                        assert not lost.exists() or lost.read_bytes() != b"x" * 100_000
                        check_after_power_cut(after / "data", promised)
    finally:
        listeners.close()
    assert len(promised) >= 20 * CUTS
