"""DICOM audit messages as XML, by the schema of PS3.15 A.5.1 and the tables of A.5.3. Pure.

What a person may be known by is here and nowhere else: PS3.15 requires the Patient ID wherever
instances of a patient are transferred or removed. Names are not required, and stay empty.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = "0", "4", "8"
_MACHINE_NAME, _IP_ADDRESS = "1", "2"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'

Code = tuple[str, str, str]
"""Code value, coding scheme, meaning."""

APPLICATION_ACTIVITY: Code = ("110100", "DCM", "Application Activity")
BEGIN_TRANSFERRING: Code = ("110102", "DCM", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED: Code = ("110103", "DCM", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Code = ("110104", "DCM", "DICOM Instances Transferred")
STUDY_DELETED: Code = ("110105", "DCM", "DICOM Study Deleted")
AUDIT_LOG_USED: Code = ("110101", "DCM", "Audit Log Used")
QUERY: Code = ("110112", "DCM", "Query")
SECURITY_ALERT: Code = ("110113", "DCM", "Security Alert")
USER_AUTHENTICATION: Code = ("110114", "DCM", "User Authentication")

APPLICATION_START: Code = ("110120", "DCM", "Application Start")
APPLICATION_STOP: Code = ("110121", "DCM", "Application Stop")
LOGIN: Code = ("110122", "DCM", "Login")
LOGOUT: Code = ("110123", "DCM", "Logout")
NODE_AUTHENTICATION: Code = ("110126", "DCM", "Node Authentication")
NETWORK_CONFIGURATION: Code = ("110128", "DCM", "Network Configuration")
SECURITY_CONFIGURATION: Code = ("110129", "DCM", "Security Configuration")
SOFTWARE_CONFIGURATION: Code = ("110131", "DCM", "Software Configuration")
RESTRICTED_FUNCTION: Code = ("110132", "DCM", "Use of Restricted Function")
RECORDING_STOPPED: Code = ("110133", "DCM", "Audit Recording Stopped")
RECORDING_STARTED: Code = ("110134", "DCM", "Audit Recording Started")

APPLICATION: Code = ("110150", "DCM", "Application")
DESTINATION: Code = ("110152", "DCM", "Destination Role ID")
SOURCE: Code = ("110153", "DCM", "Source Role ID")

_STUDY_UID: Code = ("110180", "DCM", "Study Instance UID")
_CLASS_UID: Code = ("110181", "DCM", "SOP Class UID")
_NODE_ID: Code = ("110182", "DCM", "Node ID")
_PATIENT_NUMBER: Code = ("2", "RFC-3881", "Patient Number")
_URI: Code = ("12", "RFC-3881", "URI")


@dataclass(frozen=True)
class Event:
    """What happened: ``action`` is one of C R U D E; ``at`` an aware time."""

    id: Code
    action: str
    at: datetime
    outcome: str = SUCCESS
    type: Code | None = None
    description: str = ""


@dataclass(frozen=True)
class Participant:
    """Who took part; ``address`` is an IP address or a machine's name."""

    user_id: str
    is_requestor: bool
    role: Code | None = None
    alternative_id: str = ""
    name: str = ""
    address: str = ""


@dataclass(frozen=True)
class ParticipantObject:
    """What it was about; codes of type, role and life cycle are those of PS3.15 A.5.1.2."""

    id: str
    id_type: Code
    type: str
    role: str = ""
    life_cycle: str = ""
    name: str = ""
    query: bytes | None = None
    details: Mapping[str, str] | None = None
    sop_classes: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Source:
    """Who reports; ``id`` names this system, ``site`` the place it is at."""

    id: str
    site: str = ""


def study(uid: str, sop_classes: Mapping[str, int], life_cycle: str = "") -> ParticipantObject:
    """A study of which instances of these classes are meant."""
    return ParticipantObject(
        uid, _STUDY_UID, "2", "3", life_cycle, sop_classes=sop_classes
    )


def patient(patient_id: str) -> ParticipantObject:
    """A patient by the ID in the images; empty where they have none."""
    return ParticipantObject(patient_id, _PATIENT_NUMBER, "1", "1")


def queried(sop_class_uid: str, query: bytes) -> ParticipantObject:
    """A question; ``query`` is its identifier as it was encoded (Implicit VR Little Endian)."""
    return ParticipantObject(
        sop_class_uid, _CLASS_UID, "2", "3", query=query,
        details={"TransferSyntax": "1.2.840.10008.1.2"},
    )


def alert_about(node: str, description: str) -> ParticipantObject:
    """The other system that an alert is about."""
    return ParticipantObject(
        node, _NODE_ID, "2", "13", name=node, details={"Alert Description": description}
    )


def resource(uri: str, name: str, description: str = "") -> ParticipantObject:
    """Something of this system that was changed or read."""
    details = {"Alert Description": description} if description else None
    return ParticipantObject(uri, _URI, "2", "13", name=name, details=details)


def message(
    event: Event, participants: Sequence[Participant], source: Source,
    objects: Iterable[ParticipantObject] = (),
) -> str:
    """One AuditMessage, with its XML declaration, on one line."""
    root = ElementTree.Element("AuditMessage")
    _add_event(root, event)
    for participant in participants:
        _add_participant(root, participant)
    reporter = ElementTree.SubElement(
        root, "AuditSourceIdentification", _present(AuditEnterpriseSiteID=source.site)
        | {"AuditSourceID": _text(source.id)},
    )
    ElementTree.SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})
    for one in objects:
        _add_object(root, one)
    return _DECLARATION + ElementTree.tostring(root, "unicode")


def utc(at: float) -> datetime:
    """Seconds since the epoch as a time."""
    return datetime.fromtimestamp(at, UTC)


def _add_event(root: ElementTree.Element, event: Event) -> None:
    made = ElementTree.SubElement(root, "EventIdentification", {
        "EventActionCode": event.action,
        "EventDateTime": event.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": event.outcome,
    })
    _add_code(made, "EventID", event.id)
    if event.type is not None:
        _add_code(made, "EventTypeCode", event.type)
    if event.description:
        ElementTree.SubElement(made, "EventOutcomeDescription").text = _text(event.description)


def _add_participant(root: ElementTree.Element, who: Participant) -> None:
    address: dict[str, str] = {}
    if who.address:
        is_ip = who.address.replace(".", "").isdigit() or ":" in who.address
        address = {
            "NetworkAccessPointID": _text(who.address),
            "NetworkAccessPointTypeCode": _IP_ADDRESS if is_ip else _MACHINE_NAME,
        }
    made = ElementTree.SubElement(root, "ActiveParticipant", {
        "UserID": _text(who.user_id),
        **_present(AlternativeUserID=who.alternative_id, UserName=who.name),
        "UserIsRequestor": "true" if who.is_requestor else "false", **address,
    })
    if who.role is not None:
        _add_code(made, "RoleIDCode", who.role)


def _add_object(root: ElementTree.Element, about: ParticipantObject) -> None:
    made = ElementTree.SubElement(root, "ParticipantObjectIdentification", {
        "ParticipantObjectID": _text(about.id), "ParticipantObjectTypeCode": about.type,
        **_present(
            ParticipantObjectTypeCodeRole=about.role,
            ParticipantObjectDataLifeCycle=about.life_cycle,
        ),
    })
    _add_code(made, "ParticipantObjectIDTypeCode", about.id_type)
    if about.query is not None:
        query = ElementTree.SubElement(made, "ParticipantObjectQuery")
        query.text = base64.b64encode(about.query).decode()
    else:
        ElementTree.SubElement(made, "ParticipantObjectName").text = _text(about.name)
    for name, value in (about.details or {}).items():
        encoded = base64.b64encode(value.encode()).decode()
        ElementTree.SubElement(made, "ParticipantObjectDetail", {"type": name, "value": encoded})
    if about.sop_classes:
        described = ElementTree.SubElement(made, "ParticipantObjectDescription")
        for uid, count in about.sop_classes.items():
            ElementTree.SubElement(
                described, "SOPClass", {"UID": _text(uid), "NumberOfInstances": str(count)}
            )


def _add_code(parent: ElementTree.Element, name: str, code: Code) -> None:
    value, scheme, meaning = code
    ElementTree.SubElement(parent, name, {
        "csd-code": value, "codeSystemName": scheme, "originalText": meaning,
    })


def _present(**attributes: str) -> dict[str, str]:
    return {name: _text(value) for name, value in attributes.items() if value}


def _text(value: str) -> str:
    """What XML 1.0 can hold, on one line: what a stranger sent may be anything."""
    return "".join(one if one.isprintable() and ord(one) < 0xFFFE else " " for one in value)
