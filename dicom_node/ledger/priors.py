"""Series that the node fetched only because a job asked for an earlier examination."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.database import Database
from dicom_node.records import Series, SeriesState

# A clock may be set back between the question and what comes.
_CLOCK_S = 86_400.0
# A retrieval ends after a quarter of an hour; what it brings may be written down a little later.
_RETRIEVAL_S = 960.0
_s = tables.series

# Written before the first image is asked for: a series that arrives is known for what it is.
fetched = sa.Table(
    "fetched_priors",
    tables.metadata,
    sa.Column("series_instance_uid", sa.String(64), primary_key=True),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("job_id", sa.String(64), nullable=False),
    # Of the peer that is asked for it.
    sa.Column("ae_title", sa.String(16), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


class FetchedPriors:
    """What was asked of peers as an earlier examination."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def expect(
        self, series_instance_uid: str, study_instance_uid: str, job_id: str, ae_title: str
    ) -> None:
        """Say that a series is about to be fetched, unless that is known or some of it is here.

        What is here has come for its own sake. Of several questions the latest counts.
        """
        insert = self._database.insert(fetched).values(
            series_instance_uid=series_instance_uid, study_instance_uid=study_instance_uid,
            job_id=job_id, ae_title=ae_title, at=datetime.now(UTC).timestamp(),
        )
        here = sa.select(_s.c.state).where(_s.c.series_instance_uid == series_instance_uid)
        with self._database.write() as connection:
            if connection.execute(here).scalar() not in (None, str(SeriesState.REMOVED)):
                return
            connection.execute(insert.on_conflict_do_update(
                index_elements=["series_instance_uid"],
                set_={name: insert.excluded[name] for name in ("job_id", "ae_title", "at")},
            ))

    def is_fetched(self, series: Series) -> bool:
        """Whether a series is here only because it was asked for.

        Nothing of it was here before, and it came from the peer that was asked, or from anybody
        within the time of a retrieval: archives send under other titles than they are called by.
        """
        query = sa.select(fetched).where(
            fetched.c.series_instance_uid == series.series_instance_uid
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return False
        after_s = rows.to_seconds(series.first_received_at) - row.at
        if row.ae_title == series.calling_ae_title:
            return bool(after_s >= -_CLOCK_S)
        return bool(0 <= after_s <= _RETRIEVAL_S)
