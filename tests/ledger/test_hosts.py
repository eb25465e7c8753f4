"""What the end of a process means for what it was receiving."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Association
from tests.ledger.conftest import START, instance
from tests.ledger.test_claims import host

pytestmark = pytest.mark.postgresql


@pytest.fixture
def shared(postgresql_url: str) -> Iterator[Ledger]:
    """A ledger with associations that are open at two processes and at none."""
    opened = Ledger.open(postgresql_url)
    for name in ("a.0.1", "a.1.2", "ab.0.3", "retrieval"):
        opened.index(
            [instance(1, series=f"1.2.{name}", association_id=name)],
            [Association(name, "CT01", name, START)],
        )
    yield opened
    opened.close()


def open_ones(ledger: Ledger) -> set[str]:
    names = ("a.0.1", "a.1.2", "ab.0.3", "retrieval")
    return {one for one in names if ledger.receipts.associations_of(f"1.2.{one}").open}


def test_open_associations_of_processes_that_are_gone_are_lost(shared: Ledger) -> None:
    host(shared, "a")
    host(shared, "ab")
    assert shared.hosts.lose_associations() == 0
    host(shared, "a", gone="silent")
    assert shared.hosts.lose_associations() == 2
    assert open_ones(shared) == {"ab.0.3", "retrieval"}
    assert shared.receipts.associations_of("1.2.a.0.1").aborted == 1


def test_what_the_leader_before_fetched_itself_is_lost_when_the_next_one_begins(
    shared: Ledger,
) -> None:
    host(shared, "a")
    host(shared, "ab")
    assert shared.hosts.lose_associations(of_no_process=True) == 1
    assert open_ones(shared) == {"a.0.1", "a.1.2", "ab.0.3"}


def test_listeners_that_a_process_replaced_lose_their_associations_and_others_do_not(
    shared: Ledger,
) -> None:
    assert shared.receipts.lose_associations(["a.1.2"], "a") == 1
    assert open_ones(shared) == {"a.1.2", "ab.0.3", "retrieval"}


def test_a_host_is_marked_when_its_files_are_looked_through(shared: Ledger) -> None:
    host(shared, "a", gone="silent")
    assert [(one.process_id, one.gone) for one in shared.hosts.all()] == [("a", "silent")]
    shared.hosts.indexed(["a", "b"])
    (found,) = shared.hosts.all()
    assert not found.to_index and not found.lives
