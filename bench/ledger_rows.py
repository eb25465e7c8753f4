"""A ledger of a million instances, as some months of a hospital leave it behind.

Nine in ten instances belong to CT series of 90, the others are radiographs; each series went
through one model, whose three results were sent to one archive and committed. A little of it is
still open: series that arrive, jobs that wait, and results for an archive that is away.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.ledger.ledger import Ledger

CT_IMAGES = 90
RECEIVING, QUEUED, PENDING_JOBS = 12, 2000, 2000
_CT, _DX = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"
_SEG, _SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33"
_EXPLICIT = "1.2.840.10008.1.2.1"
_NOW = time.time()


@dataclass(frozen=True)
class Generated:
    """How much there is, and where to find some of it."""

    instances: int
    series: int
    jobs: int
    deliveries: int
    transitions: int
    ct_series: int


def series_uid(number: int) -> str:
    """The UID of a series; CT series have the lowest numbers."""
    return f"1.2.826.0.1.3680043.8.498.2.{number:010d}"


def study_uid(number: int) -> str:
    """The UID of the study of a series: four CT series, or one radiograph."""
    return f"1.2.826.0.1.3680043.8.498.1.{number // 4:010d}"


def instance_path(series: int, number: int) -> str:
    """The spool path of an instance."""
    name = f"1.2.826.0.1.3680043.8.498.3.{series:010d}.{number}"
    return f"instances/{study_uid(series)}/{series_uid(series)}/{name}.dcm"


def job_id(number: int) -> str:
    """The job of a series."""
    return f"{number:016x}"


def delivery_id(number: int, position: int) -> str:
    """A delivery of the job of a series."""
    return f"{job_id(number)}:pacs:{position:02d}"


def generate(path: Path, instances: int) -> Generated:
    """Fill a new ledger at ``path``."""
    Ledger.open(path).close()
    ct_series = instances * 9 // 10 // CT_IMAGES
    series = ct_series + instances // 10
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # What is generated is not worth waiting for the disk; measured is with the node's own.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-200000")
        connection.execute("BEGIN")
        counts = [
            _fill(connection, "instances", _instances(ct_series, series)),
            _fill(connection, "associations", _associations(series)),
            _fill(connection, "series", _series(ct_series, series)),
            _fill(connection, "jobs", _jobs(series)),
            _fill(connection, "results", _results(series)),
            _fill(connection, "deliveries", _deliveries(series)),
            _fill(connection, "commitments", _commitments(series)),
            _fill(connection, "commitment_items", _commitment_items(series)),
            _fill(connection, "transitions", _transitions(series)),
        ]
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    return Generated(counts[0], counts[2], counts[3], counts[5], counts[8], ct_series)


def _fill(connection: sqlite3.Connection, table: str, rows: Iterable[dict[str, Any]]) -> int:
    """Insert rows that all have the keys of the first; returns how many."""
    iterator = iter(rows)
    first = next(iterator)
    columns, places = ", ".join(f'"{name}"' for name in first), ", ".join("?" * len(first))
    statement = f'INSERT INTO "{table}" ({columns}) VALUES ({places})'
    connection.execute(statement, tuple(first.values()))
    done = connection.executemany(statement, (tuple(row.values()) for row in iterator))
    return 1 + int(done.rowcount)


def _at(number: int, total: int) -> float:
    """When series ``number`` came: over half a year, the last just now."""
    return _NOW - (total - number) * 180 * 86400.0 / total


def _instances(ct_series: int, series: int) -> Iterator[dict[str, Any]]:
    for one in range(series):
        at = _at(one, series)
        is_ct = one < ct_series
        for number in range(CT_IMAGES if is_ct else 1):
            path = instance_path(one, number)
            yield {
                "sop_instance_uid": path.rpartition("/")[2][:-4],
                "sop_class_uid": _CT if is_ct else _DX,
                "transfer_syntax_uid": _EXPLICIT,
                "series_instance_uid": series_uid(one),
                "study_instance_uid": study_uid(one),
                "modality": "CT" if is_ct else "DX",
                "path": path,
                "size_bytes": 526_336,
                "fingerprint": f"526336-{int(at)}{number:09d}",
                "received_at": at + number / 100,
                "association_id": f"{one:032x}",
                "calling_ae_title": "SCANNER1",
                "position_mm": json.dumps([-100.0, -100.0, number * 2.5]) if is_ct else None,
                "orientation": json.dumps([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]) if is_ct else None,
                "instance_number": number + 1,
                "number_of_frames": 1,
            }


def _associations(series: int) -> Iterator[dict[str, Any]]:
    for one in range(series):
        is_open = one >= series - RECEIVING
        yield {
            "association_id": f"{one:032x}",
            "calling_ae_title": "SCANNER1",
            "listener_id": f"{one // 1000:032x}",
            "opened_at": _at(one, series),
            "closed_at": None if is_open else _at(one, series) + 5,
            "ended": "" if is_open else "released",
        }


def _series(ct_series: int, series: int) -> Iterator[dict[str, Any]]:
    for one in range(series):
        receiving = one >= series - RECEIVING
        yield {
            "series_instance_uid": series_uid(one),
            "study_instance_uid": study_uid(one),
            "modality": "CT" if one < ct_series else "DX",
            "state": "receiving" if receiving else "routed",
            "reason": "first_instance" if receiving else "rules: all",
            "calling_ae_title": "SCANNER1",
            "instance_count": CT_IMAGES if one < ct_series else 1,
            "first_received_at": _at(one, series),
            "last_received_at": _at(one, series) + 1,
            "changed_at": _at(one, series) + 8,
        }


def _done(series: int) -> range:
    """The series whose job has ended."""
    return range(series - RECEIVING - QUEUED)


def _jobs(series: int) -> Iterator[dict[str, Any]]:
    ended = _done(series)
    for one in range(series - RECEIVING):
        dead = one % 500 == 499
        yield {
            "job_id": job_id(one),
            "series_instance_uid": series_uid(one),
            "study_instance_uid": study_uid(one),
            "rule": "all",
            "model_id": "lungs-ct",
            "model_version": "1.0.0",
            "destinations": '["pacs"]',
            "priority": "stat" if one % 20 == 0 else "routine",
            "state": ("dead" if dead else "succeeded") if one in ended else "queued",
            "reason": "result",
            "attempt": 1,
            "not_before": _at(one, series) + 8,
            "created_at": _at(one, series) + 8,
            "changed_at": _at(one, series) + 30,
            "seconds_by_stage": '{"load": 1.0, "model": 4.0}',
        }


def _results(series: int) -> Iterator[dict[str, Any]]:
    for one in _done(series):
        for position, kind in enumerate(("segmentation", "volumetric report", "planar report")):
            yield {
                "sop_instance_uid": _result_uid(one, position),
                "sop_class_uid": _SR if position else _SEG,
                "series_instance_uid": f"2.25.{one:030d}{position}",
                "study_instance_uid": study_uid(one),
                "job_id": job_id(one),
                "kind": kind,
                "path": f"outbox/{job_id(one)}/{_result_uid(one, position)}.dcm",
                "created_at": _at(one, series) + 29,
            }


def _result_uid(one: int, position: int) -> str:
    return f"2.25.9{one:030d}{position}"


def _deliveries(series: int) -> Iterator[dict[str, Any]]:
    ended = _done(series)
    for one in ended:
        waits = one >= len(ended) - PENDING_JOBS
        for position in range(3):
            yield {
                "delivery_id": delivery_id(one, position),
                "job_id": job_id(one),
                "sop_instance_uid": _result_uid(one, position),
                "destination": "pacs",
                "state": "pending" if waits else "committed",
                "reason": "peer.unreachable" if waits else "",
                "attempt": 3 if waits else 1,
                "status": None if waits else 0,
                "not_before": _at(one, series) + 30,
                "created_at": _at(one, series) + 30,
                "changed_at": _at(one, series) + 31,
                "commitment": "",
            }


def _commitments(series: int) -> Iterator[dict[str, Any]]:
    for one in _done(series)[:-PENDING_JOBS]:
        yield {
            "transaction_uid": f"2.25.8{one:030d}",
            "destination": "pacs",
            "state": "answered",
            "attempt": 1,
            "asked_at": _at(one, series) + 32,
            "not_before": _at(one, series) + 3632,
            "reason": "",
            "changed_at": _at(one, series) + 33,
        }


def _commitment_items(series: int) -> Iterator[dict[str, Any]]:
    for one in _done(series)[:-PENDING_JOBS]:
        for position in range(3):
            yield {
                "transaction_uid": f"2.25.8{one:030d}",
                "delivery_id": delivery_id(one, position),
                "attempt": 1,
            }


def _transitions(series: int) -> Iterator[dict[str, Any]]:
    def told(kind: str, key: str, states: Sequence[str], at: float) -> Iterator[dict[str, Any]]:
        for former, state in zip(("", *states), states, strict=False):
            yield {
                "kind": kind, "key": key, "from_state": former, "to_state": state,
                "reason": "because", "attempt": 1, "at": at,
            }  # fmt: skip

    for one in _done(series):
        at = _at(one, series)
        yield from told("series", series_uid(one), ("receiving", "complete", "routed"), at)
        yield from told("job", job_id(one), ("queued", "running", "succeeded"), at + 8)
        for position in range(3):
            states = ("pending", "sent", "committed")
            yield from told("delivery", delivery_id(one, position), states, at + 30)
