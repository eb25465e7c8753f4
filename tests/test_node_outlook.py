"""What jobs and results wait for where no host is left that would see to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config import Config
from dicom_node.ledger.hosts import HostState
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_outlook import Outlook
from dicom_node.records import SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result

LIVES = HostState("p1", "receiver-1", ("intake",), (), (), "1.2.3", 0.0, 0.0, 0.5)
WORKER = HostState("p2", "worker-1", ("work",), (), (), "1.2.3", 0.0, 1e9, 70.0, gone="silent")
DELIVERER = HostState("p3", "d-1", ("deliver",), (), (), "1.2.3", 0.0, 1e9, 0.1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    opened.index([instance(1)])
    assert opened.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    assert opened.jobs.route("1.2.3", [job()], "rule", seen=START)
    yield opened
    opened.close()


def waits(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *hosts: HostState) -> str:
    monkeypatch.setattr(ledger.hosts, "all", lambda: list(hosts))
    found = ledger.jobs.find("job-1")
    assert found is not None
    return Outlook(ledger, Config.model_validate({})).of_job(
        found, ledger.deliveries.of_job("job-1")
    )


def test_a_job_waits_for_a_host_where_none_works(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waits(ledger, monkeypatch) == "a free device, next in turn"
    told = waits(ledger, monkeypatch, LIVES, WORKER)
    assert told.startswith("a host that does it: no host does work since 2001-09-")
    ledger.jobs.start("job-1", 1)
    told = waits(ledger, monkeypatch, LIVES, WORKER)
    assert told.startswith("a host that goes on with it: no host does work since 2001-09-")
    living = HostState("p4", "worker-2", ("work",), (), (), "1.2.3", 0.0, 0.0, 0.1)
    assert waits(ledger, monkeypatch, LIVES, WORKER, living) == ""


def test_results_wait_for_a_host_where_none_delivers(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.jobs.start("job-1", 1)
    ledger.jobs.succeed("job-1", [result(1)], [delivery(1)], "found", {}, attempt=1)
    assert waits(ledger, monkeypatch, LIVES) == "pacs to take 1: no host does deliver"
    assert "no host" not in waits(ledger, monkeypatch, LIVES, DELIVERER)
