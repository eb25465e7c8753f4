"""A disk that is full, read-only or broken, and a ledger that is locked: nothing is lost by it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.raw_scu import CT, RawScu
from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake.acceptor import Listeners, start_listeners
from dicom_node.ledger.ledger import Ledger
from dicom_node.node import Node
from dicom_node.records import Series, SeriesState
from dicom_node.spool import Spool
from tests.disk_images import Ext4Image, ext4_image, memory_of
from tests.intake.conftest import slice_of
from tests.intake.test_acceptor import config_of, until

SERIES = "1.2.3.2"
SIZE_BYTES = 50_000


def config(data_dir: Path, url: str | None = None) -> Config:
    made = config_of(data_dir, listener_processes=1)
    return Config.model_validate(
        {
            **made.model_dump(mode="json", exclude={"peers"}),
            "database": {"url": url},
            "completeness": {"after_release_s": 0.5, "quiet_period_s": 3, "give_up_after_s": 10},
        }
    )


class Sent:
    """What was sent, and what was answered for it."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self._kept: dict[str, bytes] = {}
        self._number = 0

    def to(self, port: int, count: int = 1) -> int:
        """Send the next instances in one association; the last status."""
        scu = RawScu(port)
        for _ in range(count):
            self._number += 1
            uid, data = slice_of(self._number, SIZE_BYTES)
            status = scu.store(CT, uid, data)
            self.statuses.append(status)
            if status == 0:
                self._kept[f"instances/1.2.3.1/{SERIES}/{uid}.dcm"] = data
        scu.release()
        return self.statuses[-1]

    def check(self, spool: Spool) -> None:
        """What was answered with success is kept, and nothing else is."""
        assert set(spool.stored()) == self._kept.keys()
        for name, data in self._kept.items():
            assert spool.resolve(name).read_bytes().endswith(data)

    def __len__(self) -> int:
        return len(self._kept)


@contextmanager
def receiving(settings: Config) -> Iterator[Node]:
    """A node that runs; it must still do so at the end."""
    node, stop = Node(settings, Events(), ["intake"]), threading.Event()
    loop = threading.Thread(target=node.run, args=(stop,))
    try:
        node.start()
        loop.start()
        yield node
        assert loop.is_alive(), "the node ended"
    finally:
        stop.set()
        if loop.is_alive():
            loop.join()
        node.close()


@contextmanager
def listening(settings: Config, url: str) -> Iterator[Listeners]:
    listeners = start_listeners(settings, url)
    try:
        yield listeners
    finally:
        listeners.close()


def closed_with(node: Node) -> Callable[[], Series | None]:
    """The series once it was closed, as the node's ledger has it."""

    def look() -> Series | None:
        found = node.ledger.receipts.find_series(SERIES)
        return found if found and found.state is not SeriesState.RECEIVING else None

    return look


def fill(folder: Path) -> Path:
    """Leave nothing free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 512):
            try:
                while file.write(b"\0" * size) == size:
                    continue
            except OSError:
                continue
    return filler


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Ext4Image]:
    with ext4_image(tmp_path, 64) as mounted:
        yield mounted


def test_a_spool_that_turns_read_only_refuses_for_the_moment_and_goes_on_by_itself(
    tmp_path: Path, image: Ext4Image
) -> None:
    url, sent = f"sqlite:///{tmp_path}/ledger.db", Sent()
    with listening(config(image.folder), url) as listeners:
        assert sent.to(listeners.port, 3) == 0
        assert until(lambda: image.read_only(True))
        assert sent.to(listeners.port, 2) & 0xFF00 == 0xA700
        assert listeners.alive()
        assert image.read_only(False)
        assert sent.to(listeners.port, 3) == 0
        sent.check(Spool(image.folder / "spool"))
        with closing(Ledger.open(url)) as ledger:
            assert until(lambda: len(ledger.receipts.instances(SERIES)) == 6)
    assert list((image.folder / "spool/incoming").iterdir()) == []


def test_a_disk_that_breaks_down_refuses_everything_and_the_node_lives(image: Ext4Image) -> None:
    settings, sent = config(image.folder / "data"), Sent()
    with receiving(settings) as node:
        assert sent.to(node.port, 4) == 0
        image.break_down()
        assert sent.to(node.port, 3) & 0xFF00 == 0xA700
        assert node.intake is not None and node.intake.listeners is not None
        assert node.intake.listeners.alive()
    image.mount_again()
    with receiving(settings) as node:
        sent.check(node.spool)
        assert sent.to(node.port, 2) == 0
        assert until(lambda: len(node.ledger.receipts.instances(SERIES)) == 6)


def test_a_full_spool_refuses_with_out_of_resources_and_takes_images_when_there_is_room(
    tmp_path: Path,
) -> None:
    sent = Sent()
    settings = config(tmp_path / "data", f"sqlite:///{tmp_path}/ledger.db")
    with memory_of(tmp_path / "data", 1500), receiving(settings) as node:
        ballast = tmp_path / "data/ballast"
        ballast.write_bytes(bytes(300_000))
        while sent.to(node.port) == 0:
            assert len(sent) < 100
        assert sent.statuses[-1] == 0xA700
        fill(tmp_path / "data")
        assert sent.to(node.port, 3) == 0xA700
        sent.check(node.spool)
        ballast.unlink()
        assert sent.to(node.port, 2) == 0
        sent.check(node.spool)
        assert list((node.spool.root / "incoming").iterdir()) == []


def test_a_full_disk_of_the_ledger_stops_no_image_and_closes_no_series_without_it(
    tmp_path: Path,
) -> None:
    sent, place = Sent(), tmp_path / "small"
    with memory_of(place, 8192):
        settings = config(tmp_path / "data", f"sqlite:///{place}/ledger.db")
        with receiving(settings) as node:
            assert sent.to(node.port, 2) == 0
            assert until(lambda: len(node.ledger.receipts.instances(SERIES)) == 2)
            filler = fill(place)
            assert sent.to(node.port, 200) == 0
            assert node.intake is not None and node.intake.listeners is not None
            listeners = node.intake.listeners
            assert until(lambda: listeners.oldest_waiting_s() > 1)
            filler.unlink()
            look = closed_with(node)
            assert until(lambda: look() is not None and len(node.ledger.receipts.instances(
                SERIES)) == 202, 90)
            sent.check(node.spool)


def test_a_locked_ledger_stops_no_image_and_closes_no_series_without_it(tmp_path: Path) -> None:
    sent, settings = Sent(), config(tmp_path / "data")
    with receiving(settings) as node:
        scu = RawScu(node.port)
        assert scu.store(CT, *slice_of(9001)) == 0
        assert until(lambda: len(node.ledger.receipts.instances(SERIES)) == 1)
        path = tmp_path / "data/ledger.db"
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert sent.to(node.port, 40) == 0
            scu.release()
            assert node.intake is not None and node.intake.listeners is not None
            listeners = node.intake.listeners
            # Longer than the quiet period, so that the closer waits for the lock as well.
            assert until(lambda: listeners.oldest_waiting_s() > 4)
            other.execute("ROLLBACK")
        look = closed_with(node)
        assert until(lambda: look() is not None, 60)
        complete = [t for t in node.ledger.history("series", SERIES) if t.to_state == "complete"]
        assert [t.reason.rpartition(", ")[2] for t in complete] == ["41 instances"]
