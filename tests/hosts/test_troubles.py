"""Hosts are killed and cut off under load: nothing is lost, nothing is done twice.

The long run is ``python -m bench hosts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.hosts import Run, run_hosts
from tests import peers
from tests.hosts.modality import make_load
from tests.hosts.network import need_namespaces
from tests.hosts.site import Site
from tests.hosts.troubles import (
    Strike,
    all_without_power,
    cut_off_for,
    database_killed,
    freeze,
    receiver_that_could_not_tell,
    receiver_without_power,
    restart,
    without_database_for,
    worker_without_power,
)

pytestmark = [pytest.mark.network, pytest.mark.long, pytest.mark.timeout(1200)]
SERIES = 30


def run(
    folder: Path, plan: Sequence[tuple[float, Strike]], *, seed: int, workers: int = 2,
    deliverers: int = 1,
) -> Run:
    """All series under these troubles; what is found fails the test, with every host's log."""
    need_namespaces()
    peers.need_program("storescp")
    sent = make_load(folder / "series", SERIES, seed=seed)
    with Site(folder / "site", workers=workers, deliverers=deliverers) as site:
        done = run_hosts(site, sent, plan, every_s=0.4)
        assert done.verdict.findings() == [], site.log_tails()
    assert done.verdict.results == SERIES
    assert len(done.troubles) == len(plan)
    return done


def test_a_worker_and_a_receiver_die_and_another_worker_is_cut_off(tmp_path: Path) -> None:
    plan = [
        (0.2, worker_without_power("worker1")), (0.4, receiver_without_power("receiver1")),
        (0.6, cut_off_for("worker2", 15.0)),
    ]
    run(tmp_path, plan, seed=20261126, workers=3)


def test_the_database_is_out_of_reach_for_a_worker_and_for_a_receiver(tmp_path: Path) -> None:
    plan = [
        (0.2, without_database_for("worker1", 15.0)),
        (0.6, without_database_for("receiver1", 15.0)),
    ]
    run(tmp_path, plan, seed=2)


def test_a_receiver_dies_with_images_that_it_told_nobody_of(tmp_path: Path) -> None:
    done = run(tmp_path, [(0.4, receiver_that_could_not_tell("receiver1", 3.0))], seed=3)
    # It was in the middle of receiving: what was tried is what was meant.
    assert done.troubles[0].figures["acknowledged and not indexed"] > 0


def test_hosts_stand_still_while_others_take_over_and_go_on(tmp_path: Path) -> None:
    plan = [
        (0.2, freeze("worker1", 15.0)), (0.4, freeze("deliverer1", 15.0)),
        (0.6, freeze("receiver1", 15.0)),
    ]
    run(tmp_path, plan, seed=4, deliverers=2)


def test_the_database_is_killed_and_every_host_loses_its_power(tmp_path: Path) -> None:
    plan = [(0.2, database_killed(5.0)), (0.6, all_without_power(2.0))]
    run(tmp_path, plan, seed=5)


def test_hosts_are_restarted_one_after_the_other(tmp_path: Path) -> None:
    names = ("receiver1", "worker1", "deliverer1", "receiver2", "worker2")
    plan = [(0.1 + 0.15 * number, restart(name)) for number, name in enumerate(names)]
    run(tmp_path, plan, seed=6)
