"""The hosts of a node as `/metrics`, the page of peers and `status` show them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dicom_node.ledger.hosts import HostState
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.metrics_gauges import Gauges, Surroundings

WORKER = HostState(
    "p1", "worker-1", ("web", "work"), ("cuda:0",), ("lungs-ct",), "1.2.3", 0.0, 0.0, 0.5,
    clock_ahead_s=61.0, leads=("work",),
)
GONE = replace(WORKER, process_id="p2", host_name="worker-2", gone="silent", age_s=70.0, leads=())


def test_hosts_are_told_by_role_and_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db")
    registry = CollectorRegistry()
    registry.register(Gauges(ledger, Surroundings(tmp_path)))
    labels = {"host": "worker-1", "role": "work", "state": "alive"}
    assert registry.get_sample_value("dicom_node_hosts", labels) is None
    monkeypatch.setattr(ledger.hosts, "all", lambda: [WORKER, GONE])
    told = registry.get_sample_value
    assert told("dicom_node_hosts", labels) == 1
    assert told("dicom_node_hosts", {**labels, "host": "worker-2", "state": "gone"}) == 1
    assert told("dicom_node_role_processes", {"role": "work"}) == 1
    # Also after a day, when nobody remembers who did it.
    assert told("dicom_node_role_processes", {"role": "deliver"}) == 0
    assert told("dicom_node_host_leads", {"host": "worker-1", "duty": "work"}) == 1
    assert told("dicom_node_host_seen_seconds", {"host": "worker-1"}) == 0.5
    assert told("dicom_node_host_seen_seconds", {"host": "worker-2"}) is None
    assert told("dicom_node_host_clock_ahead_seconds", {"host": "worker-1"}) == 61
    ledger.close()
