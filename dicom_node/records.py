"""What the node knows: frozen records and the words for their states.

The legal transitions between states stand in one table, ``dicom_node/ledger/states.py``.
Times are aware UTC datetimes (``_at``), durations are seconds (``_s``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class SeriesState(StrEnum):
    """Where a received series stands."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    ROUTED = "routed"
    DECLINED = "declined"
    REMOVED = "removed"


class JobState(StrEnum):
    """Where one model run on one series stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    HELD = "held"


# Why a job runs whose model has answered: it holds no device.
DRAFTING = "drafting"


class DeliveryState(StrEnum):
    """Where one result object on its way to one destination stands."""

    PENDING = "pending"
    SENT = "sent"
    COMMITTED = "committed"
    FAILED = "failed"
    DEAD = "dead"
    REPLACED = "replaced"


class CircuitState(StrEnum):
    """Whether deliveries go out to a destination."""

    CLOSED = "closed"
    OPEN = "open"


class DutyKind(StrEnum):
    """What the node owes beyond a job's first results: see `Duty`."""

    ANSWER = "answer"
    FORMS = "forms"


class Stage(StrEnum):
    """What a version of a model is used for; one without a stage is a candidate, and is not run."""

    LIVE = "live"
    SHADOW = "shadow"
    CANARY = "canary"
    RETIRED = "retired"


CANDIDATE = "candidate"
"""The word for a version that has no stage yet."""


class Priority(StrEnum):
    """Urgency of a job, as configured by the rule."""

    STAT = "stat"
    ROUTINE = "routine"
    BACKGROUND = "background"


@dataclass(frozen=True)
class Instance:
    """One received SOP instance, as indexed from its file.

    ``path`` is relative to the spool. ``fingerprint`` changes when and only when the bytes on
    disk change (``size_bytes`` and the file's modification time), so that an identical re-send
    is recognised without reading pixels. ``position_mm`` is Image Position (Patient) and
    ``orientation`` Image Orientation (Patient), both LPS, ``None`` where the object has none
    (or keeps them per frame). ``expected_instances`` is Number of Series Related Instances,
    ``images_in_acquisition`` the like-named element, which may count more than one series, and
    ``slices_in_series`` Number of Slices (0054,0081) of a PET: the most that its series may have.
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str
    study_instance_uid: str
    modality: str
    path: str
    size_bytes: int
    fingerprint: str
    received_at: datetime
    association_id: str
    calling_ae_title: str
    position_mm: tuple[float, float, float] | None = None
    orientation: tuple[float, ...] | None = None
    instance_number: int | None = None
    number_of_frames: int = 1
    expected_instances: int | None = None
    images_in_acquisition: int | None = None
    slices_in_series: int | None = None


@dataclass(frozen=True)
class Series:
    """One received series and why it is in its state."""

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    state: SeriesState
    reason: str
    calling_ae_title: str
    instance_count: int
    first_received_at: datetime
    last_received_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Study:
    """The series of one study."""

    study_instance_uid: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Job:
    """One model on one series under one rule.

    ``job_id`` is derived from the inputs' fingerprints, the rule, the model, its version and
    weights, so the same work is one job however often it is asked for. A ``shadow`` runs beside
    the job of the live version and is compared with it: it has no results and no destinations.
    """

    job_id: str
    series_instance_uid: str
    study_instance_uid: str
    rule: str
    model_id: str
    model_version: str
    destinations: tuple[str, ...]
    priority: Priority
    state: JobState
    reason: str
    attempt: int
    not_before: datetime
    created_at: datetime
    changed_at: datetime
    shadow: bool = False


@dataclass(frozen=True)
class JobInput:
    """A series that a job takes beside its own, by its ``role`` in the rule.

    ``series_instance_uid`` is empty while it is waited for, and where there is none; ``reason``
    says why this one, or why none, as a report may end a sentence with it. ``waits``: the job has
    not been done with it, or without it, so far. ``content`` stands for the images of the series
    as the job takes them, and is the ledger's to find out.
    """

    role: str
    series_instance_uid: str
    study_instance_uid: str
    reason: str
    waits: bool = False
    content: str = ""


PRIOR = "prior"
"""The role of an earlier examination of the same patient; every other role is of the same study."""

FETCHED_AS_PRIOR = "fetched_as_prior"
"""Why a series is declined that is here only because a job asked for an earlier examination."""


@dataclass(frozen=True)
class ModelStage:
    """What a version of a model is used for.

    ``share`` is the part of the series that a canary gets, 0 to 1. ``previous`` is the version
    that was live before this one became so.
    """

    model_id: str
    version: str
    stage: Stage
    share: float
    changed_at: datetime
    previous: str


@dataclass(frozen=True)
class ModelProblem:
    """Why the running node does not use a model folder as it is; ``since`` its card was written."""

    folder: str
    model_id: str
    message: str
    since: datetime


@dataclass(frozen=True)
class RuleWithoutModel:
    """A rule whose model cannot be run now, and why; ``reason`` is the code that its jobs get."""

    rule: str
    model_id: str
    reason: str
    message: str
    since: datetime


@dataclass(frozen=True)
class CanaryFailure:
    """A job that the canary could not do, and that the live version did in its place."""

    job_id: str
    model_id: str
    version: str
    live_version: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Agreement:
    """How a shadow version's answer on one series compares with that of the live one."""

    job_id: str
    model_id: str
    live_version: str
    shadow_version: str
    document: Mapping[str, Any]
    at: datetime


UNKNOWN_KIND = "unknown"
"""Kind of an object that was found in the outbox and that no job has made again yet."""


@dataclass(frozen=True)
class Result:
    """One DICOM object that a job made; ``path`` is relative to the spool.

    ``form`` is empty for what the node keeps of every result; otherwise the form in which a
    destination takes the object ``made_from`` (a SOP Instance UID), such as ``labelmap``.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    job_id: str
    kind: str
    path: str
    created_at: datetime
    form: str = ""
    made_from: str = ""


@dataclass(frozen=True)
class DestinationProfile:
    """What a destination takes, as far as it is known.

    ``accepted`` maps SOP class UIDs to the transfer syntaxes accepted in an association that
    offered every class and syntax that results have; what is not in it was rejected. ``refused``
    are SOP classes that were refused in the answer to an object (0x0122). ``probed_at`` is
    ``None`` while it was never asked: then everything counts as taken that was not refused.
    """

    destination: str
    accepted: Mapping[str, tuple[str, ...]]
    refused: frozenset[str]
    probed_at: datetime | None

    def takes(self, sop_class_uid: str) -> bool:
        """Whether objects of this class can be sent there."""
        if sop_class_uid in self.refused:
            return False
        return self.probed_at is None or bool(self.accepted.get(sop_class_uid))


@dataclass(frozen=True)
class Duty:
    """Something the node owes beyond a job's first results.

    ``answer``: a job that is dead, by ``key``, has no result and owes an answer that says so.
    ``forms``: what the job sends to a destination (``key`` is ``job:destination``) is to be
    chosen anew, because the destination takes other forms than was thought.
    """

    kind: str
    key: str
    attempt: int
    not_before: datetime
    reason: str


@dataclass(frozen=True)
class Delivery:
    """One result on its way to one destination; ``status`` is the peer's last DIMSE status.

    ``commitment`` says what became of storage commitment: ``wanted``, ``asked``, ``unanswered``,
    ``not_offered``, or empty when it is not asked for.
    """

    delivery_id: str
    job_id: str
    sop_instance_uid: str
    destination: str
    state: DeliveryState
    reason: str
    attempt: int
    status: int | None
    not_before: datetime
    changed_at: datetime
    commitment: str = ""


@dataclass(frozen=True)
class Circuit:
    """Whether a destination answers.

    ``failures`` counts what went wrong since its last answer to a delivery. While it is ``open``
    nothing is sent; ``not_before`` is when the destination is asked again, ``opened_at`` since
    when it is away, ``changed_at`` when that was last found out.
    """

    destination: str
    state: CircuitState
    failures: int
    opened_at: datetime | None
    not_before: datetime
    reason: str
    changed_at: datetime


@dataclass(frozen=True)
class Transition:
    """One recorded change of state of a series, a job or a delivery."""

    kind: str
    key: str
    from_state: str
    to_state: str
    reason: str
    attempt: int
    at: datetime


@dataclass(frozen=True)
class Association:
    """One association that delivered at least one instance.

    ``ended`` is empty while it is open, then ``released``, ``aborted`` or ``lost`` (its listener
    process ended first).
    """

    association_id: str
    calling_ae_title: str
    listener_id: str
    opened_at: datetime
    closed_at: datetime | None = None
    ended: str = ""


@dataclass(frozen=True)
class SendOutcome:
    """What a peer answered for one object: its C-STORE status, or ``None`` with a reason."""

    sop_instance_uid: str
    status: int | None
    stored: bool
    transient: bool
    reason: str = ""
