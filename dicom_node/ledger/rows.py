"""Rows to records and back, and the one way in which a state changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import states, tables
from dicom_node.records import (
    Delivery,
    DeliveryState,
    Instance,
    Job,
    JobState,
    Priority,
    Result,
    Series,
    SeriesState,
    Transition,
)


def to_seconds(at: datetime) -> float:
    """Aware datetime to seconds since the epoch."""
    return at.timestamp()


def to_datetime(seconds: float) -> datetime:
    """Seconds since the epoch to aware UTC datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def instance_values(instance: Instance) -> dict[str, Any]:
    """The columns of an instance."""
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "series_instance_uid": instance.series_instance_uid,
        "study_instance_uid": instance.study_instance_uid,
        "modality": instance.modality,
        "path": instance.path,
        "size_bytes": instance.size_bytes,
        "fingerprint": instance.fingerprint,
        "received_at": to_seconds(instance.received_at),
        "association_id": instance.association_id,
        "calling_ae_title": instance.calling_ae_title,
        "position_mm": json.dumps(instance.position_mm) if instance.position_mm else None,
        "orientation": json.dumps(instance.orientation) if instance.orientation else None,
        "instance_number": instance.instance_number,
        "number_of_frames": instance.number_of_frames,
        "expected_instances": instance.expected_instances,
        "images_in_acquisition": instance.images_in_acquisition,
        "slices_in_series": instance.slices_in_series,
    }


def to_instance(row: sa.Row[Any]) -> Instance:
    """The record of a row of `tables.instances`."""
    values = dict(row._mapping)
    values["received_at"] = to_datetime(values["received_at"])
    for name in ("position_mm", "orientation"):
        values[name] = tuple(json.loads(values[name])) if values[name] else None
    return Instance(**values)


def to_series(row: sa.Row[Any]) -> Series:
    """The record of a row of `tables.series`."""
    values = dict(row._mapping)
    values["state"] = SeriesState(values["state"])
    for name in ("first_received_at", "last_received_at", "changed_at"):
        values[name] = to_datetime(values[name])
    return Series(**values)


def to_job(row: sa.Row[Any]) -> Job:
    """The record of a row of `tables.jobs`."""
    values = dict(row._mapping)
    values.pop("seconds_by_stage")
    values["destinations"] = tuple(json.loads(values["destinations"]))
    values["priority"] = Priority(values["priority"])
    values["shadow"] = bool(values["shadow"])
    values["state"] = JobState(values["state"])
    for name in ("not_before", "created_at", "changed_at"):
        values[name] = to_datetime(values[name])
    return Job(**values)


def to_result(row: sa.Row[Any]) -> Result:
    """The record of a row of `tables.results`."""
    values = dict(row._mapping)
    values["created_at"] = to_datetime(values["created_at"])
    return Result(**values)


def to_delivery(row: sa.Row[Any]) -> Delivery:
    """The record of a row of `tables.deliveries`."""
    values = dict(row._mapping)
    values.pop("created_at")
    values["state"] = DeliveryState(values["state"])
    for name in ("not_before", "changed_at"):
        values[name] = to_datetime(values[name])
    return Delivery(**values)


def to_transition(row: sa.Row[Any]) -> Transition:
    """The record of a row of `tables.transitions`."""
    values = dict(row._mapping)
    values.pop("id")
    values["at"] = to_datetime(values["at"])
    return Transition(**values)


_KEYS = {
    "series": (tables.series, tables.series.c.series_instance_uid, SeriesState),
    "job": (tables.jobs, tables.jobs.c.job_id, JobState),
    "delivery": (tables.deliveries, tables.deliveries.c.delivery_id, DeliveryState),
}


def is_inserted(connection: sa.Connection, insert: sa.Insert) -> bool:
    """Insert one row unless it is there; whether it was not.

    Of an INSERT the number of rows is not kept otherwise: with PostgreSQL it would be -1.
    """
    done = connection.execute(insert, execution_options={"preserve_rowcount": True})
    return done.rowcount > 0


def record_transition(
    connection: sa.Connection,
    kind: str,
    key: str,
    from_state: str,
    to_state: str,
    reason: str,
    attempt: int,
    at: float,
) -> None:
    """Append one line to the history of a series, job or delivery."""
    connection.execute(
        sa.insert(tables.transitions).values(
            kind=kind,
            key=key,
            from_state=str(from_state),
            to_state=str(to_state),
            reason=reason,
            attempt=attempt,
            at=at,
        )
    )


def change_state(
    connection: sa.Connection,
    kind: str,
    key: str,
    to_state: SeriesState | JobState | DeliveryState,
    reason: str,
    at: float,
    **columns: Any,
) -> None:
    """Move a series, job or delivery along the table of states and record why.

    Parameters
    ----------
    connection
        An open write transaction.
    kind, key
        ``"series"``, ``"job"`` or ``"delivery"`` and its primary key.
    columns
        Further columns to set, for example ``attempt``.

    Raises
    ------
    IllegalTransition
        When the table does not have the change.
    KeyError
        When there is no such row.
    """
    table, column, enum = _KEYS[kind]
    row = connection.execute(sa.select(table).where(column == key)).one_or_none()
    if row is None:
        raise KeyError(f"no {kind} {key}")
    from_state = enum(row.state)
    states.check(from_state, to_state)
    connection.execute(
        sa.update(table)
        .where(column == key)
        .values(state=str(to_state), reason=reason, changed_at=at, **columns)
    )
    attempt = columns.get("attempt", getattr(row, "attempt", 0))
    record_transition(connection, kind, key, from_state, to_state, reason, attempt, at)
