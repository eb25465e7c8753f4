"""No SOP Instance UID leaves the node with two contents, wherever a job is cut off."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import LedgerUnavailable
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.overtaking import Superseded
from dicom_node.pipeline.destinations import Destinations
from dicom_node.pipeline.outbox import take_up_results
from dicom_node.pipeline.process import Workshop, process
from dicom_node.records import SeriesState
from dicom_node.results.profile import Wanted
from tests.pipeline.conftest import wanting
from tests.pipeline.test_packing import read
from tests.pipeline.test_process import started


def contents(workshop: Workshop) -> dict[str, str]:
    """What may be sent: SHA-256 of the file that the ledger names, by SOP Instance UID."""
    files = [path for path, _ in workshop.spool.results()]
    known = workshop.ledger.outbox.paths_known(Path(path).stem for path in files)
    return {
        uid: hashlib.sha256(workshop.spool.resolve(path).read_bytes()).hexdigest()
        for uid, path in known.items()
    }


def on_disk(workshop: Workshop) -> dict[str, str]:
    return {
        Path(path).stem: hashlib.sha256(workshop.spool.resolve(path).read_bytes()).hexdigest()
        for path, _ in workshop.spool.results()
    }


def test_a_job_cut_off_between_outbox_and_ledger_takes_what_it_wrote(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = started(workshop, "job-1")

    def cut_off(*_: object, **__: object) -> None:
        raise LedgerUnavailable("locked")

    with monkeypatch.context() as away:
        away.setattr(workshop.ledger.jobs, "succeed", cut_off)
        with pytest.raises(LedgerUnavailable):
            process(asked, workshop)
    first = on_disk(workshop)
    assert first and not contents(workshop)
    process(asked, workshop)
    assert contents(workshop) == first


def test_a_new_ledger_learns_the_objects_on_disk_and_another_job_takes_them(
    workshop: Workshop, tmp_path: Path
) -> None:
    instances = workshop.ledger.receipts.instances("1.2.3")
    process(started(workshop, "job-1"), workshop)
    first = contents(workshop)
    kinds = [one.sop_class_uid for one in workshop.ledger.jobs.results("job-1")]
    rebuilt = Ledger.open(tmp_path / "rebuilt.db")
    anew = dataclasses.replace(workshop, ledger=rebuilt)
    rebuilt.index(instances)
    assert take_up_results(anew.spool, rebuilt, Events()) == len(first)
    assert take_up_results(anew.spool, rebuilt, Events()) == 0
    assert sorted(one.sop_class_uid for one in rebuilt.jobs.results("job-1")) == sorted(kinds)
    process(started(anew, "job-2"), anew)
    assert contents(anew) == first == on_disk(anew)
    waiting = [one.sop_instance_uid for one in rebuilt.deliveries.pending("job-2", "pacs")]
    assert sorted(waiting) == sorted(first)
    rebuilt.close()


def test_a_new_ledger_learns_from_the_job_what_the_objects_on_disk_are(
    workshop: Workshop, tmp_path: Path
) -> None:
    forms = Wanted(pdf=True, secondary_capture="always")
    pictures = wanting(workshop, pacs=forms)
    process(started(pictures, "job-1"), pictures)
    known = {one.sop_instance_uid: one for one in workshop.ledger.jobs.results("job-1")}
    rebuilt = Ledger.open(tmp_path / "rebuilt.db")
    destinations = Destinations(rebuilt, {"pacs": forms}, {})
    anew = dataclasses.replace(pictures, ledger=rebuilt, destinations=destinations)
    rebuilt.index(workshop.ledger.receipts.instances("1.2.3"))
    take_up_results(anew.spool, rebuilt, Events())
    asked = started(anew, "job-1")
    assert rebuilt.versions.previous(asked) is None
    process(asked, anew)
    learnt = {one.sop_instance_uid: one for one in rebuilt.jobs.results("job-1")}
    assert {(u, r.kind, r.form, r.made_from) for u, r in learnt.items()} == {
        (u, r.kind, r.form, r.made_from) for u, r in known.items()
    }
    rebuilt.close()


def test_a_job_that_was_cut_off_is_no_predecessor_of_itself(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = started(workshop, "job-1")
    put_result, written = workshop.spool.put_result, list[str]()

    def put_two(*arguments: Any) -> str:
        if len(written) == 2:
            raise LedgerUnavailable("the power is gone")
        written.append(put_result(*arguments))
        return written[-1]

    with monkeypatch.context() as power:
        power.setattr(workshop.spool, "put_result", put_two)
        with pytest.raises(LedgerUnavailable):
            process(asked, workshop)
    assert take_up_results(workshop.spool, workshop.ledger, Events()) == 2
    process(asked, workshop)
    results = workshop.ledger.jobs.results("job-1")
    assert sorted(one.kind for one in results) == [
        "planar report", "segmentation", "volumetric report",
    ]
    for one in results:
        assert "PredecessorDocumentsSequence" not in read(workshop, one)


def test_half_written_results_go_at_start(workshop: Workshop) -> None:
    folder = workshop.spool.root / "outbox/job-1"
    folder.mkdir()
    (folder / "1.2.3.dcm.77-88.new.77-88.tmp").write_bytes(b"half")
    (folder / "1.2.3.dcm.77-88.new").write_bytes(b"whole, and without its name")
    assert take_up_results(workshop.spool, workshop.ledger, Events()) == 0
    assert list(folder.iterdir()) == []


def test_a_result_that_can_no_longer_be_read_is_made_anew(workshop: Workshop) -> None:
    (workshop.spool.root / "outbox/job-1").mkdir()
    broken = workshop.spool.root / "outbox/job-1/1.2.3.dcm"
    broken.write_bytes(b"\0" * 1000)
    assert take_up_results(workshop.spool, workshop.ledger, Events()) == 0
    assert not broken.exists()
    assert len(list((workshop.spool.root / "quarantine").glob("*.bin"))) == 1


def test_of_two_jobs_that_make_one_object_at_once_the_file_that_may_be_sent_stays(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = started(workshop, "job-1")
    workshop.ledger.receipts.change("1.2.3", SeriesState.RECEIVING, "late_instances")
    second = started(workshop, "job-2")
    put_result = workshop.spool.put_result
    others: list[str] = []

    def put_after_the_other(*arguments: object) -> str:
        if not others:
            others.append("job-2")
            process(second, workshop)
        return put_result(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(workshop.spool, "put_result", put_after_the_other)
    with pytest.raises(Superseded):
        process(first, workshop)
    assert len(list(workshop.spool.results())) == len(on_disk(workshop)) == len(contents(workshop))
    assert on_disk(workshop) == contents(workshop)


def test_the_twin_of_an_object_that_may_have_been_sent_goes_at_start(workshop: Workshop) -> None:
    process(started(workshop, "job-1"), workshop)
    sendable = contents(workshop)
    twin = workshop.spool.root / "outbox/job-0" / f"{next(iter(sendable))}.dcm"
    twin.parent.mkdir()
    twin.write_bytes(b"the same object, made at another time")
    assert take_up_results(workshop.spool, workshop.ledger, Events()) == 0
    assert not twin.exists()
    assert on_disk(workshop) == contents(workshop) == sendable
