"""The ledger's tables of a node on several hosts; part of `dicom_node.ledger.tables`.

On SQLite they stay empty.
"""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, String, Table, Text

from dicom_node.ledger.tables import metadata

# One row per process, from its start on; times are those of the database's clock.
hosts = Table(
    "hosts",
    metadata,
    Column("process_id", String(64), primary_key=True),
    Column("host_name", String(64), nullable=False),
    # JSON lists.
    Column("roles", Text, nullable=False),
    Column("devices", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("version", String(32), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    # How long its oldest image then waited that was kept and not told the ledger.
    Column("waiting_s", Double, nullable=False),
    # "" while it lives, then why it counts as gone.
    Column("gone", String(16), nullable=False),
    # 1: it is gone and may have kept images that the ledger does not know.
    Column("to_index", Integer, nullable=False),
    Column("clock_ahead_s", Double, nullable=False),
    # JSON list of the duties that it leads.
    Column("leads", Text, nullable=False, server_default="[]"),
    Index("hosts_by_life", "gone"),
)

# Which process has an attempt of a job; a claim of another attempt than the job's is none.
job_claims = Table(
    "job_claims",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("process_id", String(64), nullable=False),
    Column("claimed_at", Double, nullable=False),
    Index("job_claims_by_process", "process_id"),
)
