"""Who was refused lately, as the audit trail has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from dicom_node.config import Config
from dicom_node.operations import refused_callers
from dicom_node.operations.audit_records import AuditRecords, Happened
from dicom_node.operations.audit_trail import AuditTrail
from dicom_node.operations.refused_callers import refused_lately

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def refuse(folder: Path, title: str = "NOBODY", at: datetime = NOW, **told: Any) -> None:
    """What the audit trail has of one refusal."""
    records = AuditRecords(Config(), "host", cast(Any, None))
    happened = Happened(at, "association_refused", {
        "calling_ae_title": title, "called_ae_title": "NODE", "address": "127.0.0.1",
        "reason": "access.calling_ae_title", **told,
    })
    AuditTrail(folder).append(records.messages(happened), at)


def test_refusals_of_the_last_day_are_counted_and_the_last_is_named(tmp_path: Path) -> None:
    assert refused_lately(tmp_path, NOW) is None
    refuse(tmp_path, at=NOW - timedelta(days=2), reason="access.address")
    refuse(tmp_path, at=NOW - timedelta(hours=23))
    refuse(tmp_path, "CT9", reason="access.network")
    refuse(tmp_path, times=3)
    found = refused_lately(tmp_path, NOW)
    assert found is not None
    assert found.in_words() == (
        "4 access.calling_ae_title, 1 access.network, last NOBODY 127.0.0.1"
    )
    assert found.last_at == NOW


def test_what_a_stranger_calls_itself_is_shown_in_printable_ascii(tmp_path: Path) -> None:
    refuse(tmp_path, "A\u202e\u00e9<b>\x1b[1m")
    refuse(tmp_path, "")
    refuse(tmp_path, "A\u202e\u00e9<b>\x1b[1m" + 99 * "x")
    found = refused_lately(tmp_path, NOW)
    assert found is not None
    assert found.last.isascii() and found.last.isprintable() and len(found.last) <= 64
    assert found.last.startswith("A ?<b>")


def test_a_trail_that_is_torn_or_longer_than_is_read_still_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(9):
        refuse(tmp_path)
    (path,) = AuditTrail(tmp_path).files()
    with path.open("ab") as opened:
        opened.write(path.read_bytes().splitlines()[0][:-40] + b"\n")
    monkeypatch.setattr(refused_callers, "_MOST_BYTES", path.stat().st_size // 2)
    found = refused_lately(tmp_path, NOW)
    assert found is not None
    assert 0 < found.by_reason["access.calling_ae_title"] < 9
    assert found.in_words().startswith("at least ")


def test_a_trail_that_may_not_be_read_is_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.symlink_to(folder)
    assert refused_lately(folder, NOW) is None
