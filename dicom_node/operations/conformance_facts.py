"""What a conformance statement is made of: facts that other parts of the node know.

`dicom_node.cli.conformance_facts` collects them from intake, delivery, results and the report
templates; nothing in here is known twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.operations.conformance_objects import CreatedObject


@dataclass(frozen=True)
class Context:
    """One abstract syntax in these transfer syntaxes; ``role`` is the node's: SCU, SCP or both."""

    name: str
    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]
    role: str


@dataclass(frozen=True)
class Status:
    """A DIMSE status, or a range of them, what it means and what is done upon it."""

    codes: str
    meaning: str
    action: str = ""


@dataclass(frozen=True)
class Negotiation:
    """What the node says of itself in every association (PS3.7 annex D)."""

    implementation_class_uid: str
    implementation_version_name: str
    initiator_maximum_pdu_bytes: int


@dataclass(frozen=True)
class Waits:
    """How long the node waits for a peer as initiator, in seconds, by what it waits for."""

    storage: tuple[tuple[str, float], ...]
    query: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Accepted:
    """What the acceptor really offers, and what it answers."""

    verification: tuple[Context, ...]
    storage: tuple[Context, ...]
    services: tuple[Context, ...]
    requests: tuple[tuple[str, str], ...]
    rejections: tuple[tuple[str, int, int, int], ...]
    store_statuses: tuple[Status, ...]
    service_statuses: tuple[Status, ...]
    commitment_failures: tuple[Status, ...]


@dataclass(frozen=True)
class Proposed:
    """What the node proposes as initiator, and what it does upon each answer."""

    verification: tuple[Context, ...]
    storage: tuple[Context, ...]
    commitment: tuple[Context, ...]
    commitment_report: tuple[Context, ...]
    query: tuple[Context, ...]
    retrieve: tuple[Context, ...]
    store_statuses: tuple[Status, ...]
    contexts_at_most: int


@dataclass(frozen=True)
class Concept:
    """A code that reports may hold: of which report template it is and where it stands there."""

    value: str
    scheme: str
    meaning: str
    template: str
    place: str


@dataclass(frozen=True)
class Facts:
    """Everything beside the settings."""

    version: str
    negotiation: Negotiation
    waits: Waits
    accepted: Accepted
    proposed: Proposed
    objects: tuple[CreatedObject, ...]
    concepts: tuple[Concept, ...]
