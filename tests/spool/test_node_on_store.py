"""A whole node whose images and results are in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.node import Node
from dicom_node.records import JobState, SeriesState
from dicom_node.spool import withdrawn
from tests.delivery.scripted_peer import ScriptedPeer
from tests.dicom_samples import ct_series, write_series
from tests.s3_server import ObjectStore
from tests.test_node import archive, running, settings, until
from tests.test_node_removal import hurried, keeping_nothing, send

__all__ = ["archive", "hurried"]

pytestmark = pytest.mark.long


@pytest.fixture
def bucket(server: ObjectStore) -> Iterator[str]:
    return server.bucket()


def on_store(config: Config, server: ObjectStore, bucket: str) -> Config:
    """The same settings with the store; ``node.data_dir`` keeps the ledger."""
    storage = config.storage.model_copy(
        update={"spool": f"s3://{bucket}/node", "s3": server.settings()}
    )
    return config.model_copy(update={"storage": storage})


def keys(server: ObjectStore, bucket: str, prefix: str = "") -> list[str]:
    return [one.key for one in server.store(bucket).list(prefix)]


def test_a_study_is_received_answered_removed_and_received_again(
    tmp_path: Path, archive: ScriptedPeer, server: ObjectStore, bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(withdrawn, "_WAITS", -1)
    config = on_store(keeping_nothing(tmp_path, archive.port), server, bucket)
    paths = write_series(ct_series((12, 32, 40)), tmp_path / "series")
    with running(Node(config, Events())) as node:
        for times in (1, 2):
            send(node, paths)
            until(lambda times=times: len(node.ledger.removals.latest()) == times, "removal")
            until(lambda: not node.spool.leaving.tokens(), "its files")
            (series,) = node.ledger.receipts.recent_series(9)
            assert (series.state, series.instance_count) == (SeriesState.REMOVED, 0)
            assert not node.ledger.jobs.latest(JobState.DEAD)
            assert [one for one in keys(server, bucket) if one != "spool-id"] == []
        half = len(archive.received) // 2
        assert half and archive.received[:half] == archive.received[half:]


def test_a_ledger_that_is_lost_is_made_anew_from_the_store_on_another_host(
    tmp_path: Path, archive: ScriptedPeer, server: ObjectStore, bucket: str
) -> None:
    config = on_store(settings(tmp_path / "a", archive.port), server, bucket)
    paths = write_series(ct_series((12, 32, 40)), tmp_path / "series")
    with running(Node(config, Events())) as node:
        send(node, paths)
        until(lambda: bool(node.ledger.jobs.latest(JobState.SUCCEEDED)), "the job")
        first = {one.sop_instance_uid for one in node.ledger.jobs.results(
            node.ledger.jobs.latest(JobState.SUCCEEDED)[0].job_id
        )}
    assert len(keys(server, bucket, "instances/")) == 12
    again = on_store(settings(tmp_path / "b", archive.port), server, bucket)
    with running(Node(again, Events())) as node:
        until(lambda: bool(node.ledger.jobs.latest(JobState.SUCCEEDED)), "the job again")
        (series,) = node.ledger.receipts.recent_series(9)
        assert series.instance_count == 12
        second = {one.sop_instance_uid for one in node.ledger.jobs.results(
            node.ledger.jobs.latest(JobState.SUCCEEDED)[0].job_id
        )}
    assert first == second
    assert len(keys(server, bucket, "outbox/")) == len(first)
