"""The ledger's tables. Times are seconds since the epoch (UTC); lists are JSON text.

Patient names, IDs and dates are not kept here: they stay in the files of the spool.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()
# SQLite counts by itself only in a column of this very type, and as far in it.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

instances = Table(
    "instances",
    metadata,
    # Not unique: what claims a UID of another series must not take that series' image away.
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("path", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("association_id", String(64), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("position_mm", Text),
    Column("orientation", Text),
    Column("instance_number", Integer),
    Column("number_of_frames", Integer, nullable=False),
    Column("expected_instances", Integer),
    Column("images_in_acquisition", Integer),
    Column("slices_in_series", Integer),
    Index("instances_by_series", "series_instance_uid", "association_id"),
    Index("instances_by_uid", "sop_instance_uid"),
)

associations = Table(
    "associations",
    metadata,
    Column("association_id", String(64), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("listener_id", String(64), nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("ended", String(16), nullable=False),
    Index("associations_by_end", "ended", "listener_id"),
)

series = Table(
    "series",
    metadata,
    Column("series_instance_uid", String(64), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("first_received_at", Float, nullable=False),
    Column("last_received_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Index("series_by_state", "state", "changed_at"),
    Index("series_by_study", "study_instance_uid"),
    Index("series_by_receipt", "last_received_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("series_instance_uid", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("rule", Text, nullable=False),
    Column("model_id", String(128), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("destinations", Text, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("seconds_by_stage", Text, nullable=False),
    # 1: beside the live version of its model; sends nothing, and its series does not wait for it.
    Column("shadow", Integer, nullable=False, server_default="0"),
    Index("jobs_by_state", "state", "changed_at"),
    Index("jobs_by_series", "series_instance_uid"),
    Index("jobs_by_creation", "created_at"),
    Index("jobs_by_turn", "state", "priority", "created_at"),
)

# Series that a job takes beside its own; without a series while it is waited for.
job_inputs = Table(
    "job_inputs",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("role", String(64), primary_key=True),
    Column("series_instance_uid", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    # 1: the job has not been done with what stands here, or without it, so far.
    Column("waits", Integer, nullable=False, server_default="0"),
    # Of the images of the series as the job takes them; "" where there is none.
    Column("content", String(64), nullable=False, server_default=""),
    Index("job_inputs_by_series", "series_instance_uid"),
    Index("job_inputs_by_waiting", "waits"),
)

results = Table(
    "results",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("path", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    # The form in which a destination takes the object made_from; both "" for what is kept of all.
    Column("form", String(32), nullable=False, server_default=""),
    Column("made_from", String(64), nullable=False, server_default=""),
    Index("results_by_job", "job_id"),
    Index("results_by_origin", "made_from"),
)

# What a destination takes; ``accepted`` is JSON {class: [syntax, ...]}, ``refused`` [class, ...].
destination_profiles = Table(
    "destination_profiles",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("accepted", Text, nullable=False),
    Column("refused", Text, nullable=False),
    Column("probed_at", Float),
)

# What the node owes beyond a job's first results: see records.Duty.
duties = Table(
    "duties",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("key", String(160), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Index("duties_by_time", "not_before"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", String(160), primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", Integer),
    Column("not_before", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    # What became of storage commitment: wanted, asked, unanswered, not_offered; "" when not asked.
    Column("commitment", String(16), nullable=False, server_default=""),
    UniqueConstraint("sop_instance_uid", "destination"),
    Index("deliveries_by_state", "state", "not_before"),
    Index("deliveries_by_job", "job_id", "destination"),
    Index("deliveries_by_commitment", "commitment", "destination"),
)

# Whether a destination answers; ``not_before`` is when it is asked again while it does not.
circuits = Table(
    "circuits",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("opened_at", Float),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", Float, nullable=False),
)

# Storage commitment that the node asked a destination for.
commitments = Table(
    "commitments",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_at", Float, nullable=False),
    # Who was asked and so has to report; how long what it does not commit is sent again.
    Column("ae_title", String(16), nullable=False, server_default=""),
    Column("retry_for_s", Float, nullable=False, server_default="0"),
    Index("commitments_by_state", "state", "not_before"),
    Index("commitments_by_destination", "destination", "asked_at"),
)

commitment_items = Table(
    "commitment_items",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("delivery_id", String(160), primary_key=True),
    # The delivery's attempt: once it is sent again, older transactions say nothing of it.
    Column("attempt", Integer, nullable=False, server_default="0"),
    Index("commitment_items_by_delivery", "delivery_id"),
)

# Storage commitment that somebody asked the node for; ``items`` is JSON [[class, instance], ...].
commitment_requests = Table(
    "commitment_requests",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("calling_ae_title", String(16), primary_key=True),
    Column("items", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Index("commitment_requests_by_state", "state", "not_before"),
)

# Studies with instances that the node has committed to, and when it last did.
committed_studies = Table(
    "committed_studies",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("at", Float, nullable=False),
)

# Studies whose images and results were deleted; ``token`` names the folder in which they were set
# aside for that.
removals = Table(
    "removals",
    metadata,
    Column("token", String(64), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("instances", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("removals_by_study", "study_instance_uid"),
    Index("removals_by_time", "at"),
)

# Studies that an operator wants to be gone.
removal_requests = Table(
    "removal_requests",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("at", Float, nullable=False),
)

# How many instances a series has, as somebody says: evidence for completeness.
announcements = Table(
    "announcements",
    metadata,
    Column("series_instance_uid", String(64), primary_key=True),
    Column("source", String(16), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("expected_instances", Integer, nullable=False),
    Column("said_by", String(16), nullable=False),
    Column("final", Integer, nullable=False),
    Column("at", Float, nullable=False),
)

# Modality Performed Procedure Steps, between N-CREATE and the N-SET that ends them.
procedure_steps = Table(
    "procedure_steps",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
)

# Which version of a model runs; one that is not here is a candidate, and does not.
model_stages = Table(
    "model_stages",
    metadata,
    Column("model_id", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("stage", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("previous", String(64), nullable=False),
    Index(
        "one_live_version", "model_id", unique=True,
        sqlite_where=text("stage = 'live'"), postgresql_where=text("stage = 'live'"),
    ),
)

# Folders that the running node does not use as they are.
model_problems = Table(
    "model_problems",
    metadata,
    Column("folder", Text, primary_key=True),
    Column("model_id", String(128), nullable=False),
    Column("message", Text, nullable=False),
    Column("since", Float, nullable=False),
)

# Rules whose model the running node cannot run now.
rules_without_model = Table(
    "rules_without_model",
    metadata,
    Column("rule", Text, primary_key=True),
    Column("model_id", String(128), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("since", Float, nullable=False),
)

# Jobs that a canary could not do, and that the live version did in its place.
canary_failures = Table(
    "canary_failures",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("model_id", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("live_version", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("canary_failures_by_model", "model_id", "version", "at"),
)

# What the model of a job said, as numbers without patient data; ``document`` is JSON.
predictions = Table(
    "predictions",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("document", Text, nullable=False),
    Column("at", Float, nullable=False),
)

# What a model's encoder made of an input, by the scanner that it came from; ``vector`` is JSON.
encoder_features = Table(
    "encoder_features",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("model_id", String(128), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("scanner", Text, nullable=False),
    Column("vector", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("encoder_features_by_model", "model_id", "model_version", "at"),
)

# How a shadow version's answer on a series compares with that of the live one.
agreements = Table(
    "agreements",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("model_id", String(128), nullable=False),
    Column("live_version", String(64), nullable=False),
    Column("shadow_version", String(64), nullable=False),
    Column("document", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("agreements_by_model", "model_id", "shadow_version"),
)

transitions = Table(
    "transitions",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("key", String(160), nullable=False),
    Column("from_state", String(16), nullable=False),
    Column("to_state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Index("transitions_by_key", "kind", "key"),
)
