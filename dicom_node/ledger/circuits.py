"""Which destinations are away, since when, and when they are asked again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.config import SENDER
from dicom_node.ledger import rows, tables, things
from dicom_node.ledger.database import Database
from dicom_node.records import Circuit, CircuitState

_c = tables.circuits


class Circuits:
    """The circuit of each destination that was ever away; the others are closed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Circuit]:
        """Every circuit that is known, by destination."""
        with self._database.read() as connection:
            found = [_to_circuit(row) for row in connection.execute(sa.select(_c))]
        return {circuit.destination: circuit for circuit in found}

    def find(self, destination: str) -> Circuit:
        """The circuit of one destination; closed where nothing is known."""
        with self._database.read() as connection:
            return _find(connection, destination)

    def change(
        self, destination: str, decide: Callable[[Circuit], Circuit]
    ) -> tuple[Circuit, Circuit]:
        """Apply a decision to a circuit in one transaction; returns it before and after.

        Opening and closing are recorded in the history of ``circuit``; a decision that leaves
        the circuit as it is writes nothing.
        """
        if decide(found := self.find(destination)) == found:
            return found, found
        with self._database.write(on=[things.circuit(destination)]) as connection:
            before = _find(connection, destination)
            after = decide(before)
            if after != before:
                _write(self._database, connection, before, after)
        return before, after

    def close_for(
        self, connection: sa.Connection, destinations: Collection[str], now: datetime
    ) -> None:
        """Within another book's transaction: an operator wants these destinations tried now.

        Who `sender` is stands in the settings and not here: then every absent destination is
        asked at once whether it is back.
        """
        for row in connection.execute(sa.select(_c).where(_c.c.state == str(CircuitState.OPEN))):
            before = _to_circuit(row)
            if before.destination in destinations:
                after = replace(
                    before, state=CircuitState.CLOSED, reason="retried_by_operator", failures=0,
                    opened_at=None, not_before=now, changed_at=now,
                )
            elif SENDER in destinations:
                after = replace(before, not_before=now)
            else:
                continue
            _write(self._database, connection, before, after)


def _find(connection: sa.Connection, destination: str) -> Circuit:
    row = connection.execute(
        sa.select(_c).where(_c.c.destination == destination)
    ).one_or_none()
    if row is not None:
        return _to_circuit(row)
    never = datetime.fromtimestamp(0, UTC)
    return Circuit(destination, CircuitState.CLOSED, 0, None, never, "", never)


def _write(
    database: Database, connection: sa.Connection, before: Circuit, after: Circuit
) -> None:
    values = {
        "destination": after.destination,
        "state": str(after.state),
        "failures": after.failures,
        "opened_at": rows.to_seconds(after.opened_at) if after.opened_at else None,
        "not_before": rows.to_seconds(after.not_before),
        "reason": after.reason,
        "changed_at": rows.to_seconds(after.changed_at),
    }
    insert = database.insert(_c).values(values)
    connection.execute(insert.on_conflict_do_update(index_elements=["destination"], set_=values))
    if after.state is not before.state:
        rows.record_transition(
            connection, "circuit", after.destination, before.state, after.state, after.reason,
            after.failures, rows.to_seconds(after.changed_at),
        )


def _to_circuit(row: sa.Row[Any]) -> Circuit:
    values = dict(row._mapping)
    values["state"] = CircuitState(values["state"])
    for name in ("not_before", "changed_at"):
        values[name] = rows.to_datetime(values[name])
    if values["opened_at"] is not None:
        values["opened_at"] = rows.to_datetime(values["opened_at"])
    return Circuit(**values)
