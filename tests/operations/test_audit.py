"""The audit trail of a node: what ends up in it, and what happens when it cannot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations import audit
from dicom_node.operations.audit import Auditor
from dicom_node.operations.audit_subjects import Subjects
from dicom_node.operations.audit_trail import AuditTrail
from dicom_node.spool import Spool
from tests.cli.running import Site
from tests.intake.test_acceptor import until


class Told:
    """A sink of what the audit trail says of itself."""

    def __init__(self) -> None:
        self.audit: list[tuple[str, str]] = []

    def __call__(self, event: str, told: Mapping[str, object]) -> None:
        if event == "audit_changed":
            self.audit.append((str(told["what"]), str(told["reason"])))


@pytest.fixture
def subjects(tmp_path: Path) -> Iterator[Subjects]:
    ledger = Ledger.open(tmp_path / "ledger.db")
    yield Subjects(ledger, Spool(tmp_path / "spool", 0))
    ledger.close()


@pytest.fixture
def node(tmp_path: Path, subjects: Subjects) -> Callable[..., tuple[Auditor, Events, Told]]:
    def make(**settings: Any) -> tuple[Auditor, Events, Told]:
        config = Config.model_validate({"node": {"data_dir": tmp_path}, **settings})
        told = Told()
        events = Events(told)
        auditor = Auditor(config, subjects, events)
        events.add_sink(auditor.sink)
        return auditor, events, told

    return make


def codes(tmp_path: Path) -> list[str]:
    """The most telling code of each message."""
    found = []
    for entry in AuditTrail(tmp_path / "audit").entries():
        parts = entry.message.split('csd-code="')
        found.append((parts[2] if "<EventTypeCode" in entry.message else parts[1])[:6])
    return found


Made = Callable[..., tuple[Auditor, Events, Told]]


def test_a_node_is_audited_from_its_start_to_its_last_event(node: Made, tmp_path: Path) -> None:
    auditor, events, _ = node()
    events.association_refused("CT9", "NODE", "192.0.2.7", "access.unknown_caller")
    auditor.start()
    events.study_received("a", "CT01", "1.2", 3, address="192.0.2.7", patient_id="P1")
    events.node_changed("listening", port=104)
    events.node_changed("stopped")
    assert codes(tmp_path) == ["110120", "110126", "110104", "110121"]
    assert not AuditTrail(tmp_path / "audit").verify().problem
    # Nothing of it is for the log.
    assert "P1" in (tmp_path / "audit").joinpath(
        AuditTrail(tmp_path / "audit").files()[0].name
    ).read_text()


def test_who_sent_what_was_refused_is_audited_once_for_each_reason(
    node: Made, tmp_path: Path
) -> None:
    auditor, events, _ = node()
    auditor.start()
    for reason in ["dataset.not_understood"] * 3 + ["storage.out_of_space"]:
        events.instance_refused(0xC000, reason, quarantined=True, association_id="a",
                                calling_ae_title="CT9", address="192.0.2.7", sop_class_uid="1.2")
    events.node_changed("stopped")
    told = [one.message for one in AuditTrail(tmp_path / "audit").entries()
            if "110104" in one.message]
    assert all("CT9" in one and "192.0.2.7" in one for one in told)
    said = [one.partition("OutcomeDescription>")[2].partition("<")[0] for one in told]
    assert sorted(said) == [
        "refused: dataset.not_understood, 0xC000",
        "refused: dataset.not_understood, 0xC000, 2 more like this",
        "refused: storage.out_of_space, 0xC000",
    ]


def test_settings_that_differ_from_those_of_the_last_start_are_told_by_section(
    node: Made, tmp_path: Path
) -> None:
    secret = {"url": "postgresql://node:hunter2@db/ledger"}
    for settings in (
        {}, {}, {"access": {"max_associations": 7}, "database": secret},
        {"access": {"max_associations": 7}, "database": secret},
    ):
        auditor, events, _ = node(**settings)
        auditor.start()
        events.node_changed("stopped")
    kinds = [one for one in codes(tmp_path) if one not in ("110120", "110121")]
    assert sorted(kinds) == ["110129", "110131"]
    kept = json.loads((tmp_path / "audit" / "settings.json").read_text())
    assert len(kept["access"]) == 64 and "hunter2" not in json.dumps(kept)


def test_a_caller_that_keeps_trying_fills_no_disk(
    node: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_REPEATS_S", 0.3)
    auditor, events, _ = node()
    auditor.start()
    for number in range(500):
        events.association_refused(f"CT{number}", "NODE", "192.0.2.7", "access.unknown_caller")
        events.web_sign_in("", "192.0.2.8", succeeded=False)
    events.association_refused("CT", "NODE", "192.0.2.9", "access.unknown_caller")
    events.node_changed("stopped")
    found = codes(tmp_path)
    assert found.count("110126") <= 5 and found.count("110122") <= 4
    times = [
        entry.message for entry in AuditTrail(tmp_path / "audit").entries()
        if "more like this" in entry.message
    ]
    assert times


def test_a_full_disk_stops_nothing_is_told_and_leaves_its_mark(
    node: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_TRY_AGAIN_S", 0.05)
    monkeypatch.setattr(audit, "_MOST_WAITING", 20)
    auditor, events, told = node()
    auditor.start()
    assert until(lambda: codes(tmp_path) == ["110120"])
    monkeypatch.setattr(os, "write", _no_space)
    for number in range(600):
        events.study_received("a", "CT01", f"1.2.{number}", 1, patient_id="P1")
    assert until(lambda: told.audit == [("not written", "storage.out_of_space")])
    assert not auditor.standing().is_written
    monkeypatch.undo()
    assert until(lambda: told.audit[-1] == ("written", ""))
    events.node_changed("stopped")
    found = codes(tmp_path)
    assert found[-1] == "110121" and "110133" in found
    lost = next(e.message for e in AuditTrail(tmp_path / "audit").entries()
                if "110133" in e.message)
    assert "ParticipantObjectDetail" in lost
    assert not AuditTrail(tmp_path / "audit").verify().problem


def _no_space(_fd: int, _data: bytes) -> int:
    raise OSError(28, "no space left on device")


def test_whatever_keeps_the_trail_from_being_written_is_told_and_outlived(
    node: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(audit, "_TRY_AGAIN_S", 0.05)
    auditor, events, told = node()
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(auditor._trail, "append", lambda _: 1 / 0)
        auditor.start()
        assert until(lambda: told.audit == [("not written", "unexpected")])
        assert not auditor.standing().is_written
    assert until(lambda: told.audit[-1] == ("written", ""))
    events.node_changed("stopped")
    assert codes(tmp_path) == ["110120", "110121"]


def test_what_makes_no_message_stops_no_other(
    node: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auditor, events, _ = node()
    auditor.start()
    auditor.sink("study_received", {"calling_ae_title": "CT01"})
    events.study_received("a", "CT01", "1.2", 3)
    events.node_changed("stopped")
    assert codes(tmp_path) == ["110120", "110104", "110121"]


def test_the_command_prints_verifies_and_is_written_down_itself(
    node: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(tmp_path, capsys)
    auditor, events, _ = node(node={"data_dir": site.data_dir})
    auditor.start()
    events.association_refused("CT9", "NODE", "192.0.2.8", "access.calling_ae_title")
    events.study_received("a", "CT01", "1.2.840.77", 3, address="192.0.2.7", patient_id="PID-4711")
    events.node_changed("stopped")
    shown = site("audit")
    assert shown.code == 0, shown.err
    assert "DICOM Instances Transferred" in shown.out and "1.2.840.77" in shown.out
    assert "at (UTC)" in shown.out.splitlines()[0] and "reason" in shown.out.splitlines()[0]
    assert "association refused: access.calling_ae_title" in shown.out
    assert "CT01 192.0.2.7" in shown.out and "PID-4711" not in shown.out
    assert site("audit", "--since", "2199-01-01", "--json").json() == {"entries": []}
    full = site("audit", "--json").json()["entries"]
    assert "PID-4711" in json.dumps(full) and "110101" in full[-1]["message"]
    verdict = site("audit", "--verify")
    assert (verdict.code, verdict.out.split(":")[0]) == (0, "whole")
    [file] = AuditTrail(site.data_dir / "audit").files()
    file.write_text(file.read_text().replace("PID-4711", "PID-4712"))
    verdict = site("audit", "--verify")
    assert verdict.code == 1 and f"{file.name} line 4" in verdict.out
    verdict = site("audit", "--verify", "--json")
    assert verdict.code == 1 and verdict.json()["is_whole"] is False


def test_the_command_verifies_from_the_first_day_that_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(tmp_path, capsys)
    trail = AuditTrail(site.data_dir / "audit")
    for day in (1, 2):
        trail.append(["<AuditMessage/>"] * 2, datetime(2026, 11, day, tzinfo=UTC))
    trail.files()[0].unlink()
    shown = site("audit", "--verify")
    assert shown.code == 0
    assert "begins with line 3 of 2026-11-02: earlier days are not here" in shown.out
    assert site("audit", "--verify", "--json").json()["begins"] == "line 3 of 2026-11-02"
    strict = site("audit", "--verify", "--from-start")
    assert (strict.code, strict.out.split(":")[0]) == (1, "BROKEN")
