"""What others say about how many instances a series has: evidence, durable, the latest of each.

    c-find   the peer that sent the series, asked by us
    ian      an Instance Availability Notification that reached us
    mpps     a Modality Performed Procedure Step that is over, COMPLETED or DISCONTINUED

Each source has one line per series; what it says later replaces what it said before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from dicom_node.ledger import clock, rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import SeriesState

Source = Literal["c-find", "ian", "mpps"]
MOST_INSTANCES = 1_000_000
_n, _s = tables.announcements, tables.series


@dataclass(frozen=True)
class Announcement:
    """One source's count of a series.

    ``final``: the source says that the count will not grow. ``at``: when it was asked or told us.
    """

    series_instance_uid: str
    source: str
    study_instance_uid: str
    expected_instances: int
    said_by: str
    final: bool
    at: datetime


class Announcements:
    """The announcements of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        series_instance_uid: str,
        source: Source,
        study_instance_uid: str,
        expected_instances: int,
        said_by: str,
        final: bool,
        at: datetime | None = None,
    ) -> bool:
        """Keep what a source says of a series, in place of what it said before.

        Parameters
        ----------
        said_by
            The AE title of who said it.
        at
            When the source was asked; now when it is left out.

        Returns
        -------
        bool
            False, and nothing is kept, when the count or a UID is not one of this world: all of
            this comes from outside.

        Raises
        ------
        LedgerUnavailable
        """
        uids = (series_instance_uid, study_instance_uid)
        if not 0 <= expected_instances <= MOST_INSTANCES or not all(map(_may_be_uid, uids)):
            return False
        values = {
            "study_instance_uid": study_instance_uid,
            "expected_instances": expected_instances,
            "said_by": said_by[:16],
            "final": int(final),
            "at": rows.to_seconds(at or clock.now()),
        }
        insert = self._database.insert(_n).values(
            series_instance_uid=series_instance_uid, source=source, **values
        )
        with self._database.write() as connection:
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["series_instance_uid", "source"], set_=values
                )
            )
        return True

    def of_series(self, series_instance_uid: str) -> list[Announcement]:
        """What every source says of a series, by source."""
        query = (
            sa.select(_n)
            .where(_n.c.series_instance_uid == series_instance_uid)
            .order_by(_n.c.source)
        )
        with self._database.read() as connection:
            return [_to_announcement(row) for row in connection.execute(query)]

    def note(self, series_instance_uid: str, reason: str, attempt: int) -> bool:
        """Tell in the history of a series that is being received what is done to complete it.

        False when it is no longer being received: nothing is written then.
        """
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_s)
                .where(_s.c.series_instance_uid == series_instance_uid)
                .where(_s.c.state == str(SeriesState.RECEIVING))
                .values(reason=reason)
            )
            if not done.rowcount:
                return False
            rows.record_transition(
                connection, "series", series_instance_uid, SeriesState.RECEIVING,
                SeriesState.RECEIVING, reason, attempt, clock.seconds(),
            )
        return True


def _may_be_uid(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isascii() and text.isprintable()


def _to_announcement(row: sa.Row[tuple[object, ...]]) -> Announcement:
    values = dict(row._mapping)
    values["at"] = rows.to_datetime(values["at"])
    values["final"] = bool(values["final"])
    return Announcement(**values)
