"""The files on disk against a real ledger: what differs is mended, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.synthetic import ct_slice
from dicom_node.events import Events
from dicom_node.intake import inventory
from dicom_node.intake.file_meta import build_file_meta
from dicom_node.intake.inventory import Inventory, take_inventory
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import SeriesState
from dicom_node.spool import Spool

SYNTAX = "1.2.840.10008.1.2.1"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def keep(spool: Spool, number: int, series: str = "1.3", pixels: bytes = b"ab") -> str:
    sop = f"1.2.3.{number}"
    part = spool.begin("a")
    part.write_meta(build_file_meta(b"1.2", sop.encode(), SYNTAX, "CT1", "NODE"), SYNTAX)
    part.write([ct_slice(sop, "1.4", series, number, pixels, sop_class="1.2")])
    return spool.commit(part, "1.4", series, sop).path


def compare(ledger: Ledger, spool: Spool) -> Inventory:
    return take_inventory(ledger, spool, "restart", Events(), forget=True)


def test_files_that_nobody_indexed_are_found_however_they_sort(
    ledger: Ledger, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_PAGE", 3)
    # "1.3/" sorts behind "1.3.1/", and a page ends within a series.
    paths = {keep(spool, n, series) for series in ("1.3", "1.3.1", "1.30") for n in (1, 2, 10)}
    assert compare(ledger, spool) == Inventory(9, 0, 0)
    assert ledger.paths_known(paths) == paths
    assert compare(ledger, spool) == Inventory(0, 0, 0)
    spool.remove("instances/1.4/1.3.1/1.2.3.10.dcm")
    keep(spool, 7, "1.3.1")
    assert compare(ledger, spool) == Inventory(1, 1, 0)


def test_a_file_that_was_replaced_just_before_a_crash_reopens_its_series(
    ledger: Ledger, spool: Spool
) -> None:
    keep(spool, 1)
    compare(ledger, spool)
    ledger.receipts.change("1.3", SeriesState.COMPLETE, "quiet_period")
    path = keep(spool, 1, pixels=b"other pixels")
    assert compare(ledger, spool) == Inventory(1, 0, 0)
    (found,) = ledger.receipts.instances("1.3")
    status = spool.resolve(path).stat()
    assert found.fingerprint == f"{status.st_size}-{status.st_mtime_ns}"
    series = ledger.receipts.find_series("1.3")
    assert series is not None
    assert (series.state, series.instance_count) == (SeriesState.RECEIVING, 1)


def test_a_file_that_people_lost_is_written_down_and_the_rest_goes_on(
    ledger: Ledger, spool: Spool
) -> None:
    paths = [keep(spool, number) for number in range(4)]
    compare(ledger, spool)
    ledger.receipts.change("1.3", SeriesState.COMPLETE, "quiet_period")
    spool.resolve(paths[2]).unlink()
    assert compare(ledger, spool) == Inventory(0, 1, 0)
    series = ledger.receipts.find_series("1.3")
    assert series is not None
    assert (series.state, series.instance_count) == (SeriesState.COMPLETE, 3)
    assert ledger.history("series", "1.3")[-1].reason == "files_missing: 1"
    assert len(ledger.receipts.instances("1.3")) == 3


def test_a_spool_that_is_not_there_at_all_makes_nobody_forget(
    ledger: Ledger, spool: Spool
) -> None:
    paths = [keep(spool, number) for number in range(3)]
    compare(ledger, spool)
    for path in paths:
        spool.resolve(path).unlink()
    assert compare(ledger, spool) == Inventory(0, 0, 0)
    assert ledger.paths_known(paths) == set(paths)


def test_a_file_that_cannot_be_read_is_counted_and_stays(ledger: Ledger, spool: Spool) -> None:
    keep(spool, 1)
    broken = spool.resolve(keep(spool, 2))
    broken.write_bytes(b"\0" * 500)
    assert compare(ledger, spool) == Inventory(1, 0, 1)
    assert broken.exists()


def test_a_series_that_counts_wrong_counts_again(ledger: Ledger, spool: Spool) -> None:
    for number in range(3):
        keep(spool, number)
    compare(ledger, spool)
    with ledger._database.write() as connection:
        connection.exec_driver_sql("UPDATE series SET instance_count = 9")
    assert ledger.files.mend_counts() == 1
    assert ledger.files.mend_counts() == 0
    series = ledger.receipts.find_series("1.3")
    assert series is not None and series.instance_count == 3
    assert ledger.history("series", "1.3")[-1].reason == "counted_again: 9 said, 3 here"
