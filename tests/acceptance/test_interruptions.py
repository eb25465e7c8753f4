"""What happens when the node dies, or the archive is away: the result arrives, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import peers
from tests.acceptance import series
from tests.acceptance.running_node import RunningNode, wait_until
from tests.databases import NodeDatabase

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(900)]


def test_node_killed_after_the_answers_and_again_while_it_computes_still_delivers_once(
    tmp_path: Path, node_database: NodeDatabase
) -> None:
    sent = series.thin_phantom(tmp_path / "ct", seed=33)
    uid = sent.series_instance_uid
    with (
        peers.Orthanc(tmp_path) as archive,
        RunningNode(tmp_path / "node", archive.peer, database=node_database()) as node,
    ):
        node.send(sent.paths)
        node.kill()
        wait_until(lambda: not node.living(), "the processes of the dead node end")
        assert archive.count() == 0

        node.start()
        node.wait_for_running(uid)
        node.kill()
        wait_until(lambda: not node.living(), "the processes of the dead node end")
        assert archive.count() == 0

        node.start()
        (job,) = node.wait_for_series(uid)
        assert job.state == "succeeded", job.reason
        results = {r.sop_instance_uid for r in node.ledger.jobs.results(job.job_id)}
        assert len(results) == 3
        assert sorted(archive.find_instances()) == sorted(results)
        assert node.times_sent(uid) == dict.fromkeys(results, 1)
        assert node.ledger.receipts.find_series(uid).instance_count == len(sent.paths)  # type: ignore[union-attr]


@pytest.mark.long_on_postgresql
def test_results_wait_for_an_archive_that_is_down_and_arrive_once(
    tmp_path: Path, node_database: NodeDatabase
) -> None:
    sent = series.thin_phantom(tmp_path / "ct", seed=34)
    uid = sent.series_instance_uid
    archive = peers.Orthanc(tmp_path)
    with RunningNode(tmp_path / "node", archive.peer, database=node_database()) as node:
        node.send(sent.paths)

        def refused() -> bool:
            dead = [j.reason for j in node.ledger.jobs.of_series(uid) if j.state == "dead"]
            assert not dead, dead
            found = node.deliveries(uid)
            return bool(found) and all(d.state == "pending" and d.attempt > 1 for d in found)

        wait_until(refused, "the first attempt to deliver fails")
        assert {d.reason.split(".")[0] for d in node.deliveries(uid)} == {"peer"}
        assert node.times_sent(uid) == dict.fromkeys(node.times_sent(uid), 0)

        with archive:
            node.wait_for_series(uid)
            assert sorted(archive.find_instances()) == sorted(node.times_sent(uid))
        assert node.times_sent(uid) == dict.fromkeys(node.times_sent(uid), 1)
        assert len(node.times_sent(uid)) == 3


@pytest.mark.long_on_postgresql
def test_node_told_to_stop_ends_with_0_and_leaves_no_process(
    tmp_path: Path, node_database: NodeDatabase
) -> None:
    nobody = peers.Orthanc(tmp_path).peer
    with RunningNode(tmp_path / "node", nobody, database=node_database()) as node:
        assert node.living()
        assert node.stop() == 0
        wait_until(lambda: not node.living(), "every process of the node ends", 30.0)
