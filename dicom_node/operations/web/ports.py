"""What the web page needs of other rooms, handed in by `dicom_node.node_web` as callables.

All of them are called in threads of their own, never in the event loop, and may take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.health import Health
from dicom_node.records import Delivery, Job, Series
from dicom_node.spool import Spool


@dataclass(frozen=True)
class Patient:
    """Whom a series shows: for authenticated people only, never for a log or an address."""

    name: str
    patient_id: str
    birth_date: str
    accession_number: str
    study_date: str
    study_description: str


@dataclass(frozen=True)
class Mismatch:
    """On what a rule fails; ``found`` may identify a patient."""

    keyword: str
    expected: str
    found: str


@dataclass(frozen=True)
class RuleAnswer:
    """What one rule says of one series; without ``mismatches`` it matches."""

    rule: str
    model: str
    send_to: tuple[str, ...]
    priority: str
    mismatches: tuple[Mismatch, ...]


@dataclass(frozen=True)
class RuleDifference:
    """What another set of rules would change for one rule's name: Series Instance UIDs."""

    rule: str
    before: int
    after: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class Replay:
    """What the rules would have done with the series of the last days.

    ``not_kept`` counts the series whose images are gone, ``limit`` how many are looked at at most.
    """

    days: float
    series: int
    not_kept: int
    limit: int
    rules: tuple[RuleDifference, ...]
    unmatched_before: int
    unmatched_after: int
    problem: str = ""


@dataclass(frozen=True)
class Segment:
    """One layer that can be shown over the images, with its colour as ``#rrggbb``."""

    number: int
    name: str
    color: str
    voxels: int


@dataclass(frozen=True)
class Sides:
    """Letters of the patient's directions at the edges of a picture; empty where not known."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class Album:
    """The pictures of one job: slices of its series, and the segments that lie over them.

    ``first`` is the slice that shows most. ``every`` is above 1 where only each so manieth slice
    is kept, for a series that would need too much memory. ``aspect`` is the height of a pixel by
    its width.
    """

    slices: int
    columns: int
    rows: int
    sides: Sides
    segments: tuple[Segment, ...]
    first: int
    every: int = 1
    aspect: float = 1.0
    window: str = ""
    demonstration: bool = False


class Pictures(Protocol):
    """Draws the images of a job and what was found in them."""

    def album(self, job: Job) -> Album:
        """What there is to be seen; raises NodeError where nothing can be shown."""

    def image(self, job: Job, slice_index: int) -> bytes:
        """One slice in grey as PNG; raises NodeError, or IndexError for a slice that is not there.
        """

    def layer(self, job: Job, slice_index: int, segment: int) -> bytes:
        """One segment on one slice as a PNG that is clear elsewhere; raises as `image`."""


class Scanners(Protocol):
    """How the inputs of each scanner look to the models that watch it."""

    def versions(self) -> list[tuple[str, str]]:
        """Models and their versions of which anything is kept."""

    def document(self, model_id: str, version: str) -> Mapping[str, Any]:
        """As ``dicom-node shift --json`` prints it; raises NodeError."""

    def picture(self, model_id: str, version: str, method: Literal["pca", "tsne"]) -> bytes:
        """All inputs as points of a plane, a PNG; raises NodeError."""


@dataclass(frozen=True)
class ModelFacts:
    """One version of a model as the page shows it."""

    model_id: str
    version: str
    name: str
    stage: str
    share: float | None
    task: str
    modality: tuple[str, ...]
    licence: str
    intended_use: str
    demonstration: bool
    agreement: Mapping[str, Any] | None


@dataclass(frozen=True)
class ModelProblemFacts:
    """A model folder, or a rule, that is not served as it is, and why."""

    what: str
    message: str
    since: datetime


@dataclass(frozen=True)
class PeerTakes:
    """What a destination accepted when it was asked; ``asked_at`` is ``None`` where never."""

    takes: tuple[str, ...]
    takes_not: tuple[str, ...]
    asked_at: datetime | None


@dataclass(frozen=True)
class Ports:
    """The rooms behind the page.

    Attributes
    ----------
    metrics
        The Prometheus document and its content type.
    documents
        Series with everything known of each, as ``dicom-node show --json`` prints them.
    waits_for
        Of jobs: what each waits for, and its age in seconds, by job id.
    patient
        Whom a series shows; ``None`` where its images are gone.
    why_not
        What each rule says of a series; raises NodeError where its images cannot be read.
    rules_text
        The rules as read, as YAML.
    replay
        What ``rules`` (YAML) would do with the series of so many days; raises ConfigurationError.
    reroute
        Queue a rule's model on a series by hand: returns the job; raises NodeError.
    echo
        Seconds that a peer took to answer; raises NodeError.
    probe
        Ask a peer what it takes; raises NodeError.
    takes
        What is known of that.
    models, model_problems
        The catalogue, and what is wrong with it.
    scanners
        How their inputs look to models, by scanner.
    """

    config: Config
    ledger: Ledger
    spool: Spool
    events: Events
    health: Health
    metrics: Callable[[], tuple[bytes, str]]
    documents: Callable[[Sequence[tuple[Series, Sequence[Job]]]], list[dict[str, Any]]]
    waits_for: Callable[[Sequence[tuple[Job, Sequence[Delivery]]]], dict[str, tuple[str, float]]]
    patient: Callable[[str], Patient | None]
    why_not: Callable[[str], Sequence[RuleAnswer]]
    rules_text: Callable[[], str]
    replay: Callable[[float, str], Replay]
    reroute: Callable[[str, str], Job]
    echo: Callable[[str], float]
    probe: Callable[[str], None]
    takes: Callable[[str], PeerTakes]
    models: Callable[[], Sequence[ModelFacts]]
    model_problems: Callable[[], Sequence[ModelProblemFacts]]
    pictures: Pictures
    scanners: Scanners
