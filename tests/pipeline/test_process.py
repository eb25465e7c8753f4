"""A job from the spool to the outbox: what is on disk and in the ledger when it is done."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import pydicom
import pytest

from dicom_node.errors import ModelFailed, OutOfSpace, StorageFailed, UnknownName, WorkerLost
from dicom_node.imaging.decoded import Decoded
from dicom_node.ledger.overtaking import Overtaken
from dicom_node.pipeline.laid_out import LaidOut
from dicom_node.pipeline.made_ready import MadeReady
from dicom_node.pipeline.process import process
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import JobState, SeriesState
from tests.pipeline.conftest import Pool, started


def test_results_lie_in_the_outbox_and_wait_for_every_destination(workshop: Workshop) -> None:
    asked = started(workshop, "job-1", destinations=("pacs", "sender"))
    done = process(asked, workshop)
    results = workshop.ledger.jobs.results("job-1")
    assert [r.kind for r in results] == [kind for kind, _ in done.objects]
    for result, (_, dataset) in zip(results, done.objects, strict=True):
        read = pydicom.dcmread(workshop.spool.resolve(result.path))
        assert read.SOPInstanceUID == dataset.SOPInstanceUID == result.sop_instance_uid
    for destination in ("pacs", "sender"):
        waiting = workshop.ledger.deliveries.pending("job-1", destination)
        assert [d.sop_instance_uid for d in waiting] == [r.sop_instance_uid for r in results]
    found = workshop.ledger.jobs.find("job-1")
    assert found is not None and (found.state, found.reason) == (JobState.SUCCEEDED, "result")
    assert workshop.ledger.jobs.seconds_by_stage("job-1") == done.seconds_by_stage


def test_the_same_objects_of_another_job_are_neither_written_nor_sent_again(
    workshop: Workshop,
) -> None:
    process(started(workshop, "job-1"), workshop)
    files = sorted((workshop.spool.root / "outbox").rglob("*.dcm"))
    stamps = [path.stat().st_mtime_ns for path in files]
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    process(started(workshop, "job-2"), workshop)
    assert sorted((workshop.spool.root / "outbox").rglob("*.dcm")) == files
    assert [path.stat().st_mtime_ns for path in files] == stamps
    assert [s.job_id for s in workshop.ledger.deliveries.open_shipments()] == ["job-1"]
    again = workshop.ledger.jobs.find("job-2")
    assert again is not None and again.reason == "result, same objects as job job-1"


def test_the_shorter_deadline_counts(workshop: Workshop) -> None:
    process(started(workshop, "job-1"), workshop)
    assert cast(Pool, workshop.pool).deadlines_s == [60.0]


def test_the_ledger_says_which_version_ran_when_the_card_has_changed(workshop: Workshop) -> None:
    process(dataclasses.replace(started(workshop, "job-1"), model_version="1"), workshop)
    found = workshop.ledger.jobs.find("job-1")
    assert found is not None and found.model_version == "2"


def test_a_model_that_is_gone_is_named(workshop: Workshop) -> None:
    asked = dataclasses.replace(started(workshop, "job-1"), model_id="gone")
    with pytest.raises(UnknownName) as refused:
        process(asked, workshop)
    assert refused.value.reason == "model.unknown"


def test_a_model_that_was_damaged_since_is_looked_at_again_and_others_are_not(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubted: list[str] = []
    monkeypatch.setattr(workshop.catalog, "doubt", lambda card: doubted.append(card.id))
    asked = started(workshop, "job-1")
    for reason in ("model.failed", "model.hash_mismatch"):
        def damaged(*_: object, reason: str = reason, **__: object) -> None:
            raise ModelFailed("the weights have another SHA-256", reason=reason)

        monkeypatch.setattr(workshop.pool, "predict", damaged)
        with pytest.raises(ModelFailed):
            process(asked, workshop)
    assert doubted == ["tiny"]


def test_images_that_this_host_has_lost_sight_of_are_not_left_out(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = started(workshop, "job-1")
    seen = workshop.spool.resolve_all
    # A copy of a stored object that had to go while the others were read.
    monkeypatch.setattr(
        workshop.spool, "resolve_all",
        lambda paths: [seen(paths)[0].with_name("gone.dcm"), *seen(paths)[1:]],
    )
    with pytest.raises(StorageFailed, match="kept"):
        process(asked, workshop)


def test_a_folder_that_is_mounted_no_more_is_no_fault_of_the_series(workshop: Workshop) -> None:
    workshop.ledger.places.set_spool(workshop.spool.mark("this one"))
    asked = started(workshop, "job-1")
    root = workshop.spool.root
    root.rename(root.with_name("elsewhere"))
    (root / "instances").mkdir(parents=True)
    with pytest.raises(StorageFailed, match="where it was"):
        process(asked, workshop)


def test_nothing_is_recorded_when_the_outbox_is_full(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OutOfSpace("full")

    asked = started(workshop, "job-1")
    with monkeypatch.context() as away:
        away.setattr(workshop.spool, "put_result", full)
        with pytest.raises(OutOfSpace):
            process(asked, workshop)
    assert workshop.ledger.jobs.results("job-1") == []
    assert workshop.ledger.deliveries.open_shipments() == []


def test_an_overtaken_attempt_leaves_nothing_to_send(workshop: Workshop) -> None:
    asked = started(workshop, "job-1")
    workshop.ledger.jobs.bump("job-1", 1, "engine_lost_it")
    # The other one has ended, and what it said stands beside what it made.
    workshop.ledger.predictions.keep("job-1", {"task": "of the other"})
    with pytest.raises(Overtaken):
        process(asked, workshop)
    assert workshop.ledger.deliveries.open_shipments() == []
    assert workshop.ledger.predictions.of("job-1") == {"task": "of the other"}


def test_what_was_laid_out_for_a_job_is_gone_when_the_job_ended_before_its_model_read_it(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Taken back while it waited for a device, or its worker could not be started: what lay ready
    # for it showed a patient on the disk, and stayed in memory, for as long as the node ran.
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    laid = LaidOut(scratch)
    ready = MadeReady(Decoded(64 << 20), laid.lay, laid.forget)
    workshop = dataclasses.replace(workshop, made_ready=ready)
    asked = started(workshop, "job-1")
    instances = workshop.ledger.receipts.instances("1.2.3")
    paths = workshop.spool.resolve_all([one.path for one in instances])
    card = workshop.catalog.card_for(asked.model_id, asked.model_version)
    assert ready.make("1.2.3", paths, card.input)
    assert len(list(scratch.glob("*/source.npy"))) == 1

    def lost(*_: object, **__: object) -> None:
        raise WorkerLost("no worker can be started")

    monkeypatch.setattr(workshop.pool, "predict", lost)
    with pytest.raises(WorkerLost):
        process(asked, workshop)
    assert not list(scratch.iterdir()) and not ready.series
