"""Hosts are killed and cut off under load: nothing is lost, nothing is done twice.

The long run is ``python -m bench hosts``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.hosts import run_hosts
from tests import peers
from tests.hosts.modality import make_load
from tests.hosts.network import need_namespaces
from tests.hosts.site import Site
from tests.hosts.troubles import (
    cut_off_for,
    receiver_without_power,
    without_database_for,
    worker_without_power,
)

pytestmark = [pytest.mark.network, pytest.mark.long, pytest.mark.timeout(1200)]
SERIES = 30


def test_a_worker_and_a_receiver_die_and_another_worker_is_cut_off(tmp_path: Path) -> None:
    need_namespaces()
    peers.need_program("storescp")
    sent = make_load(tmp_path / "series", SERIES, seed=20261126)
    with Site(tmp_path / "site", receivers=2, workers=3) as site:
        plan = [
            (0.2, worker_without_power("worker1")), (0.4, receiver_without_power("receiver1")),
            (0.6, cut_off_for("worker2", 15.0)),
        ]
        run = run_hosts(site, sent, plan, every_s=0.4)
        assert run.verdict.findings() == [], site.log_tails()
    assert len(run.troubles) == 3
    assert run.verdict.results == SERIES


def test_the_database_is_out_of_reach_for_a_worker_and_for_a_receiver(tmp_path: Path) -> None:
    need_namespaces()
    peers.need_program("storescp")
    sent = make_load(tmp_path / "series", SERIES, seed=2)
    with Site(tmp_path / "site", receivers=2, workers=2) as site:
        plan = [
            (0.2, without_database_for("worker1", 15.0)),
            (0.6, without_database_for("receiver1", 15.0)),
        ]
        run = run_hosts(site, sent, plan, every_s=0.4)
        assert run.verdict.findings() == [], site.log_tails()
