"""What each destination takes: what it accepted when it was asked, and what it refused since."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import DestinationProfile

_p = tables.destination_profiles


class Profiles:
    """The profile of each destination that was ever asked or ever refused a SOP class."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, destination: str) -> DestinationProfile | None:
        """What one destination takes; ``None`` while nothing is known of it."""
        with self._database.read() as connection:
            return find_profile(connection, destination)

    def all(self) -> dict[str, DestinationProfile]:
        """Every profile that is known, by destination."""
        with self._database.read() as connection:
            found = [_to_profile(row) for row in connection.execute(sa.select(_p))]
        return {profile.destination: profile for profile in found}

    def put(self, profile: DestinationProfile) -> None:
        """Keep a profile in place of the former one of that destination."""
        with self._database.write() as connection:
            put_profile(self._database, connection, profile)

    def refuse(self, destination: str, sop_class_uid: str) -> bool:
        """Note that a destination refused an object of this class; true when that is new."""
        with self._database.write() as connection:
            return note_refusal(self._database, connection, destination, sop_class_uid)


def find_profile(connection: sa.Connection, destination: str) -> DestinationProfile | None:
    """Within a transaction: what one destination takes."""
    row = connection.execute(
        sa.select(_p).where(_p.c.destination == destination)
    ).one_or_none()
    return _to_profile(row) if row is not None else None


def put_profile(
    database: Database, connection: sa.Connection, profile: DestinationProfile
) -> None:
    """Within a transaction: keep a profile in place of the former one."""
    accepted = {uid: list(syntaxes) for uid, syntaxes in profile.accepted.items()}
    values = {
        "destination": profile.destination,
        "accepted": json.dumps(accepted),
        "refused": json.dumps(sorted(profile.refused)),
        "probed_at": rows.to_seconds(profile.probed_at) if profile.probed_at else None,
    }
    insert = database.insert(_p).values(values)
    connection.execute(insert.on_conflict_do_update(index_elements=["destination"], set_=values))


def note_refusal(
    database: Database, connection: sa.Connection, destination: str, sop_class_uid: str
) -> bool:
    """Within a transaction: add a class to those that a destination refused; true when new."""
    profile = find_profile(connection, destination)
    profile = profile or DestinationProfile(destination, {}, frozenset(), None)
    if sop_class_uid in profile.refused:
        return False
    refused = profile.refused | {sop_class_uid}
    changed = DestinationProfile(destination, profile.accepted, refused, profile.probed_at)
    put_profile(database, connection, changed)
    return True


def _to_profile(row: sa.Row[Any]) -> DestinationProfile:
    accepted = {uid: tuple(syntaxes) for uid, syntaxes in json.loads(row.accepted).items()}
    probed_at = rows.to_datetime(row.probed_at) if row.probed_at is not None else None
    return DestinationProfile(
        row.destination, accepted, frozenset(json.loads(row.refused)), probed_at
    )
