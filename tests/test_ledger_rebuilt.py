"""A node whose ledger was destroyed does its work again, and sends nothing but what it sent."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.events import Events
from dicom_node.node import Node
from dicom_node.records import JobState
from tests.delivery.scripted_peer import ScriptedPeer
from tests.dicom_samples import ct_series, write_series
from tests.test_node import archive, running, settings, until

__all__ = ["archive"]
PAGE = 4096


def contents(archive: ScriptedPeer) -> dict[str, set[str]]:
    """SHA-256 of every data set that came, by SOP Instance UID."""
    found: dict[str, set[str]] = defaultdict(set)
    for uid, data in zip(archive.received, archive.data_sets, strict=True):
        found[uid].add(hashlib.sha256(data).hexdigest())
    return dict(found)


def destroy(ledger: Path) -> None:
    ledger.write_bytes(b"\x5a" * ledger.stat().st_size)


def destroy_instances(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'instances'"
        (page,) = connection.execute(query).fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\x5a" * PAGE)


def one_run(config: Config, archive: ScriptedPeer, paths: list[Path]) -> None:
    """Receive, compute and deliver one series."""
    with running(Node(config, Events())) as node:
        peer = PeerSettings(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port)
        assert all(outcome.stored for outcome in Sender("SCANNER").send(peer, paths))
        until(lambda: bool(node.ledger.jobs.latest(JobState.SUCCEEDED)), "the job")
        until(lambda: node.ledger.deliveries.count_by_state().get("sent", 0) > 1, "delivery")
        until(lambda: not node.ledger.deliveries.open_shipments(), "delivery")


def run_again(config: Config) -> None:
    """Start on what is there, and wait until everything is computed and delivered."""
    with running(Node(config, Events())) as node:
        (told,) = node.ledger.history("node", "ledger")
        assert told.to_state == "rebuilt"
        until(lambda: bool(node.ledger.receipts.count_by_state().get("routed")), "routed again")
        until(lambda: bool(node.ledger.jobs.latest(JobState.SUCCEEDED)), "the job again")
        until(lambda: node.ledger.deliveries.count_by_state().get("sent", 0) > 1, "delivery")
        until(lambda: not node.ledger.deliveries.open_shipments(), "delivery again")
        assert len(node.ledger.jobs.latest()) == 1


@pytest.mark.parametrize(("damage", "times_sent"), [
    (destroy, 2), pytest.param(destroy_instances, 1, marks=pytest.mark.long),
])
def test_a_rebuilt_node_comes_to_the_same_objects_and_no_uid_has_two_contents(
    tmp_path: Path, archive: ScriptedPeer, damage: Callable[[Path], None], times_sent: int
) -> None:
    config = settings(tmp_path, archive.port)
    one_run(config, archive, write_series(ct_series((12, 32, 40)), tmp_path / "series"))
    before = contents(archive)
    ledger = config.node.data_dir / "ledger.db"
    damage(ledger)
    Path(f"{ledger}-wal").unlink(missing_ok=True)
    run_again(config)
    assert contents(archive) == before
    assert all(len(found) == 1 for found in before.values())
    assert {archive.received.count(uid) for uid in before} == {times_sent}
