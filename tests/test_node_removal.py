"""Delivered studies go, what is not delivered stays, and what is sent again is new."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.events import Events
from dicom_node.node import Node
from dicom_node.records import JobState, SeriesState
from tests.delivery.scripted_peer import ScriptedPeer
from tests.dicom_samples import ct_series, write_series
from tests.test_node import archive, running, settings, until

__all__ = ["archive"]


def keeping_nothing(folder: Path, port: int) -> Config:
    """The settings of a node that removes at once what it may."""
    config = settings(folder, port)
    return config.model_copy(
        update={
            "completeness": config.completeness.model_copy(
                update={"after_release_s": 0.5, "quiet_period_s": 1.5}
            ),
            "storage": config.storage.model_copy(
                update={"keep_delivered_for_h": 0.0, "make_room_below_free_bytes": 0}
            ),
            "web": config.web.model_copy(update={"enabled": False}),
            "delivery": config.delivery.model_copy(update={"storage_commitment": "off"}),
        }
    )


def send(node: Node, paths: list[Path]) -> None:
    peer = PeerSettings(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port)
    assert all(outcome.stored for outcome in Sender("SCANNER").send(peer, paths))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.operations.retention._REST_S", 0.0)


def test_a_delivered_study_goes_and_comes_back_with_the_same_result_uids(
    tmp_path: Path, archive: ScriptedPeer
) -> None:
    told: list[tuple[str, dict[str, object]]] = []
    config = keeping_nothing(tmp_path, archive.port)
    paths = write_series(ct_series((12, 32, 40)), tmp_path / "series")
    events = Events(lambda name, fields: told.append((name, dict(fields))))
    with running(Node(config, events)) as node:
        spool = node.spool.root
        for times in (1, 2):
            send(node, paths)
            until(lambda times=times: len(node.ledger.removals.latest()) == times, "removal")
            until(lambda: not list((spool / "removing").iterdir()), "its files")
            (series,) = node.ledger.receipts.recent_series(9)
            assert (series.state, series.instance_count) == (SeriesState.REMOVED, 0)
            assert series.reason == "delivered"
            assert not list((spool / "instances").iterdir())
            assert not list((spool / "outbox").iterdir())
            assert not node.ledger.jobs.latest(JobState.DEAD)
        first, second = archive.received[: len(archive.received) // 2], archive.received[
            len(archive.received) // 2 :
        ]
        assert first == second, "the same objects, sent again"
        assert node.ledger.removals.totals()[0] == 2
    removed = [fields for name, fields in told if name == "study_removed"]
    assert [one["instances"] for one in removed] == [12, 12]
    assert all(int(str(one["size_bytes"])) > 12 * 32 * 40 for one in removed)

    with running(Node(config, Events())) as node:
        assert node.ledger.receipts.count_by_state() == {"removed": 1}
        history = node.ledger.history("series", series.series_instance_uid)
        assert not [t for t in history if "missing" in t.reason]


def test_a_study_whose_results_cannot_be_delivered_stays(tmp_path: Path) -> None:
    config = keeping_nothing(tmp_path, 1)
    paths = write_series(ct_series((12, 32, 40)), tmp_path / "series")
    with running(Node(config, Events())) as node:
        send(node, paths)
        until(lambda: bool(node.ledger.jobs.latest(JobState.SUCCEEDED)), "the job")
        (series,) = node.ledger.receipts.recent_series(9)
        rounds = node.ledger.removals.settled
        until(lambda: bool(rounds(series.changed_at)), "it is looked at")
        assert len(list(node.spool.stored())) == 12
        assert node.ledger.removals.latest() == []
