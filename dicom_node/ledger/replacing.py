"""One choice of forms in place of another: what of a job goes to one destination."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from dicom_node.ledger import duties, rows, states, tables
from dicom_node.ledger.database import Database
from dicom_node.ledger.outbox import insert_deliveries
from dicom_node.records import Delivery, DeliveryState, Duty

_d, _u = tables.deliveries, tables.duties
_REPLACEABLE = [str(state) for state in (*states.OPEN_DELIVERIES, DeliveryState.DEAD)]


def replace(
    database: Database,
    connection: sa.Connection,
    shipment: tuple[str, str],
    keep: Collection[str],
    additions: Sequence[Delivery],
    reason: str,
    now: float,
) -> None:
    """Within a transaction: see `dicom_node.ledger.deliveries.Deliveries.replace`.

    ``shipment`` is job and destination.
    """
    job_id, destination = shipment
    of_shipment = (_d.c.job_id == job_id, _d.c.destination == destination)
    wanted = {*keep, *(one.sop_instance_uid for one in additions)}
    for row in list(connection.execute(sa.select(_d).where(*of_shipment))):
        is_wanted = row.sop_instance_uid in wanted
        if not is_wanted and row.state in _REPLACEABLE:
            rows.change_state(
                connection, "delivery", row.delivery_id, DeliveryState.REPLACED, reason, now
            )
        elif is_wanted and row.state == DeliveryState.REPLACED:
            rows.change_state(
                connection, "delivery", row.delivery_id, DeliveryState.PENDING, reason, now,
                attempt=row.attempt + 1, not_before=now, created_at=now,
            )
    insert_deliveries(database, connection, additions, now)


def end_duty(
    connection: sa.Connection, shipment: tuple[str, str], duty: Duty | None
) -> None:
    """Within a transaction: the forms are chosen, unless they are to be chosen anew meanwhile."""
    if duty is not None:
        duties.end(connection, duty)
        return
    key = ":".join(shipment)
    connection.execute(sa.delete(_u).where(_u.c.kind == duties.FORMS, _u.c.key == key))
