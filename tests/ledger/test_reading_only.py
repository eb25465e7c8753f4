"""A ledger that is only looked at: nothing is created, locked or changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import SeriesState
from tests.ledger.conftest import instance


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="there is no ledger at"):
        Ledger.open(tmp_path / "ledger.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_looking_sees_what_a_node_wrote_and_cannot_write(ledger: Ledger) -> None:
    looking = Ledger.open(ledger.url, read_only=True)
    ledger.index([instance(1)])
    assert looking.receipts.count_by_state() == {"receiving": 1}
    with pytest.raises(LedgerUnavailable, match="read-?only"):
        looking.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    looking.close()
    assert ledger.receipts.count_by_state() == {"receiving": 1}


def test_looking_works_when_no_node_runs_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    before = sorted(tmp_path.iterdir())
    looking = Ledger.open(path, read_only=True)
    assert looking.jobs.latest() == []
    looking.close()
    assert sorted(tmp_path.iterdir()) == before
