"""The index follows the spool, whatever the ledger does meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.synthetic import ct_slice
from dicom_node.errors import LedgerUnavailable
from dicom_node.intake.file_meta import build_file_meta
from dicom_node.intake.indexer import Indexer
from dicom_node.records import Association, Instance
from dicom_node.spool import Spool

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPEN = Association("a1", "CT1", "listener", NOW)
ENDED = replace(OPEN, closed_at=NOW, ended="released")


class FakeLedger:
    """Remembers what it is told, in order; ``fails`` makes it unavailable."""

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.associations: list[Association] = []
        self.batches: list[int] = []
        self.fails = False
        self.changed = threading.Condition()

    def index(
        self, instances: Sequence[Instance], associations: Sequence[Association] = (), **_: object
    ) -> None:
        with self.changed:
            self.changed.notify_all()
            if self.fails:
                self.batches.append(-1)
                raise LedgerUnavailable("made to fail")
            self.batches.append(len(instances))
            self.instances.update({one.path: one for one in instances})
            self.associations += associations

    def files_after(self, path: str, limit: int) -> list[tuple[str, str]]:
        later = sorted(one for one in self.instances if one > path)
        return [(one, self.instances[one].fingerprint) for one in later[:limit]]

    def forget_files(self, paths: Sequence[str]) -> int:
        raise AssertionError("a listener forgets nothing")

    def wait_for(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(self.instances) >= count, 20)


def instance(number: int) -> Instance:
    return Instance(
        f"1.2.{number}", "1.2", "1.2", "1.3", "1.4", "CT", f"instances/1/2/{number}.dcm", 10, "f",
        NOW, "a1", "CT1",
    )  # fmt: skip


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


@pytest.fixture
def indexer(ledger: FakeLedger, spool: Spool) -> Iterator[Indexer]:
    made = Indexer(ledger, spool, "listener", backlog_limit=1000)
    made.start()
    yield made
    made.close()


def test_what_is_stored_reaches_the_ledger_in_batches(
    indexer: Indexer, ledger: FakeLedger
) -> None:
    for number in range(700):
        indexer.stored(instance(number), OPEN)
    assert ledger.wait_for(700)
    assert max(ledger.batches) <= 256


def test_the_end_of_an_association_never_comes_before_its_last_instance(
    indexer: Indexer, ledger: FakeLedger
) -> None:
    for number in range(600):
        indexer.stored(instance(number), OPEN)
    indexer.ended(ENDED)
    assert indexer.close()
    assert len(ledger.instances) == 600
    assert ledger.associations[-1] == ENDED
    assert [one.ended for one in ledger.associations[:-1]].count("released") == 0


def test_a_batch_that_the_ledger_refused_is_tried_again(
    indexer: Indexer, ledger: FakeLedger
) -> None:
    ledger.fails = True
    indexer.stored(instance(1), OPEN)
    with ledger.changed:
        assert ledger.changed.wait_for(lambda: -1 in ledger.batches, 20)
    ledger.fails = False
    assert ledger.wait_for(1)


def _keep(spool: Spool, number: int) -> str:
    sop = f"1.2.3.{number}"
    part = spool.begin("a")
    syntax = "1.2.840.10008.1.2.1"
    part.write_meta(build_file_meta(b"1.2", sop.encode(), syntax, "CT1", "NODE"), syntax)
    part.write([ct_slice(sop, "1.4", "1.3", number, b"ab", sop_class="1.2")])
    return spool.commit(part, "1.4", "1.3", sop).path


def test_a_backlog_over_its_bound_is_dropped_and_read_again_from_the_spool(
    ledger: FakeLedger, spool: Spool
) -> None:
    paths = {_keep(spool, number) for number in range(30)}
    ledger.fails = True
    indexer = Indexer(ledger, spool, "listener", backlog_limit=10)
    for number in range(25):
        indexer.stored(instance(number), OPEN)
        assert len(indexer._instances) <= 10
    ledger.fails = False
    indexer.start()
    assert ledger.wait_for(30)
    assert indexer.close()
    assert paths <= set(ledger.instances)


def test_reindexing_adds_what_the_ledger_does_not_know_and_only_that(
    indexer: Indexer, ledger: FakeLedger, spool: Spool
) -> None:
    paths = [_keep(spool, number) for number in range(3)]
    assert indexer.reindex(spool) == 3
    found = ledger.instances[paths[0]]
    assert (found.sop_instance_uid, found.calling_ae_title) == ("1.2.3.0", "CT1")
    assert (found.series_instance_uid, found.transfer_syntax_uid[-3:]) == ("1.3", "2.1")
    assert indexer.reindex(spool) == 0


def test_a_damaged_file_is_left_and_the_others_are_indexed(
    indexer: Indexer, ledger: FakeLedger, spool: Spool
) -> None:
    good, bad = _keep(spool, 1), _keep(spool, 2)
    spool.resolve(bad).write_bytes(b"damaged")
    assert indexer.reindex(spool) == 1
    assert set(ledger.instances) == {good}
    assert spool.resolve(bad).exists()


def test_an_unavailable_ledger_never_holds_up_the_one_who_stores(
    ledger: FakeLedger, spool: Spool
) -> None:
    block = threading.Event()
    ledger.index = lambda *_: block.wait(30)  # type: ignore[assignment,method-assign]
    indexer = Indexer(ledger, spool, "listener")
    indexer.start()
    for number in range(2000):
        indexer.stored(instance(number), OPEN)
    assert not block.is_set()
    block.set()


def test_since_when_the_oldest_instance_waits_is_told_until_the_ledger_has_it(
    ledger: FakeLedger, spool: Spool
) -> None:
    told: list[float] = []
    ledger.fails = True
    made = Indexer(ledger, spool, "listener", waits_since=told.append)
    made.start()
    before = time.monotonic()
    made.stored(instance(1), OPEN)
    first = told[-1]
    assert before <= first <= time.monotonic()
    made.stored(instance(2), OPEN)
    assert told[-1] == first
    ledger.fails = False
    made.close()
    assert told[-1] == 0.0


def test_what_was_dropped_counts_as_waiting_until_the_spool_was_read_again(
    ledger: FakeLedger, spool: Spool
) -> None:
    told: list[float] = []
    made = Indexer(ledger, spool, "listener", backlog_limit=2, waits_since=told.append)
    for number in range(3):
        made.stored(instance(number), OPEN)
    first = told[0]
    made.stored(instance(3), OPEN)
    assert told[-1] == first
    made.start()
    made.close()
    assert told[-1] == 0.0
