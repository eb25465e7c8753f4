"""Which audit messages of PS3.15 A.5.3 an event of the node makes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

from dicom_node.config import SENDER, Config
from dicom_node.operations import audit_messages as a
from dicom_node.operations.audit_subjects import Subject, Subjects

STARTED, SETTINGS, NOT_RECORDED = "node_started", "settings_changed", "events_not_recorded"
_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_IMPORT, _EXPORT, _ACCESS, _ERASED = "2", "10", "6", "15"
_TYPES = {
    "access": a.SECURITY_CONFIGURATION, "security": a.SECURITY_CONFIGURATION,
    "web": a.SECURITY_CONFIGURATION, "node": a.NETWORK_CONFIGURATION,
    "peers": a.NETWORK_CONFIGURATION,
}
_READS = ("view", "download")

Told = Mapping[str, Any]


@dataclass(frozen=True)
class Happened:
    """One event, and when it was told."""

    at: datetime
    name: str
    told: Told


class AuditRecords:
    """Makes the messages of one node.

    Parameters
    ----------
    config
        Names of the node and of its peers.
    hostname
        Of this machine.
    subjects
        Where studies and patients are looked up.
    """

    def __init__(self, config: Config, hostname: str, subjects: Subjects) -> None:
        self._config = config
        self._hostname = hostname
        self._subjects = subjects
        self._source = a.Source(
            f"{config.node.ae_title}@{hostname}", config.security.audit.site
        )
        self._makers: dict[str, Callable[[datetime, Told], list[str]]] = {
            STARTED: self._started,
            "node_changed": self._node,
            SETTINGS: self._settings,
            NOT_RECORDED: self._not_recorded,
            "association_refused": self._refused,
            "study_received": self._received,
            "instance_refused": self._instance_refused,
            "results_sending": self._sending,
            "results_sent": self._sent,
            "study_removed": self._removed,
            "peer_asked": self._asked,
            "model_changed": self._model,
            "web_sign_in": self._sign_in,
            "web_action": self._web_action,
        }

    def concerns(self, name: str, told: Told) -> bool:
        """Whether an event makes a message."""
        return name in self._makers and (name != "node_changed" or told["what"] == "stopped")

    def messages(self, happened: Happened) -> list[str]:
        """The messages of one event, as XML."""
        return self._makers[happened.name](happened.at, happened.told)

    def _message(
        self, event: a.Event, participants: Sequence[a.Participant],
        objects: Sequence[a.ParticipantObject] = (),
    ) -> str:  # fmt: skip
        return a.message(event, participants, self._source, objects)

    def _node_itself(self, *, is_requestor: bool, role: a.Code | None = None) -> a.Participant:
        return a.Participant(
            str(os.getpid()), is_requestor, role, f"AETITLES={self._config.node.ae_title}",
            "dicom-node", self._hostname,
        )

    def _started(self, at: datetime, _: Told) -> list[str]:
        event = a.Event(a.APPLICATION_ACTIVITY, "E", at, type=a.APPLICATION_START)
        return [self._message(event, [self._node_itself(is_requestor=False, role=a.APPLICATION)])]

    def _node(self, at: datetime, _: Told) -> list[str]:
        event = a.Event(a.APPLICATION_ACTIVITY, "E", at, type=a.APPLICATION_STOP)
        return [self._message(event, [self._node_itself(is_requestor=False, role=a.APPLICATION)])]

    def _settings(self, at: datetime, told: Told) -> list[str]:
        by_type: dict[a.Code, list[str]] = {}
        for section in told["sections"]:
            by_type.setdefault(_TYPES.get(section, a.SOFTWARE_CONFIGURATION), []).append(section)
        return [
            self._alert(
                at, kind, a.SUCCESS,
                a.resource("urn:dicom-node:settings", "settings",
                           f"changed since the last start: {', '.join(sections)}"),
            )
            for kind, sections in by_type.items()
        ]

    def _not_recorded(self, at: datetime, told: Told) -> list[str]:
        return [self._alert(
            at, a.RECORDING_STOPPED, a.SERIOUS_FAILURE,
            a.resource("urn:dicom-node:audit", "Security Audit Log",
                       f"{told['count']} events were not recorded: {told['reason']}"),
        )]

    def _model(self, at: datetime, told: Told) -> list[str]:
        name = f"{told['model_id']} {told['version']}"
        return [self._alert(
            at, a.SOFTWARE_CONFIGURATION, a.SUCCESS,
            a.resource(f"urn:dicom-node:model:{name.replace(' ', ':')}", name,
                       f"model version: {told['what']}"),
        )]

    def _alert(
        self, at: datetime, kind: a.Code, outcome: str, about: a.ParticipantObject,
        *performers: a.Participant,
    ) -> str:  # fmt: skip
        event = a.Event(a.SECURITY_ALERT, "E", at, outcome, kind)
        reporter = self._node_itself(is_requestor=not performers, role=a.APPLICATION)
        return self._message(event, [reporter, *performers], [about])

    def _refused(self, at: datetime, told: Told) -> list[str]:
        address, calling = str(told["address"]), str(told["calling_ae_title"]).strip()
        times = int(told.get("times", 1))
        description = f"association refused: {told['reason']}" + (
            f", {times} more like this" if "times" in told else ""
        )
        caller = a.Participant(
            calling or address or "unknown", False,
            alternative_id=f"AETITLES={calling}" if calling else "",
            name=str(told.get("tls_identity", "")), address=address,
        )
        return [self._alert(
            at, a.NODE_AUTHENTICATION, a.MINOR_FAILURE,
            a.alert_about(address or calling or "unknown", description), caller,
        )]

    def _received(self, at: datetime, told: Told) -> list[str]:
        title = str(told["calling_ae_title"])
        source = a.Participant(title, True, a.SOURCE, f"AETITLES={title}",
                               address=str(told["address"]))
        event = a.Event(a.INSTANCES_TRANSFERRED, "C", at)
        subject = Subject(
            str(told["study_instance_uid"]), str(told["patient_id"]),
            cast(Mapping[str, int], told["sop_class_uids"]),
        )
        here = self._node_itself(is_requestor=False, role=a.DESTINATION)
        return [self._message(event, [source, here], _about(subject, _IMPORT))]

    def _instance_refused(self, at: datetime, told: Told) -> list[str]:
        """Of which study and patient it was may not be known, and is not told (PS3.15 A.5.3.7)."""
        title, sop_class = str(told.get("calling_ae_title", "")), str(told.get("sop_class_uid", ""))
        source = a.Participant(title or "unknown", True, a.SOURCE,
                               f"AETITLES={title}" if title else "",
                               address=str(told.get("address", "")))
        times = f", {told['times']} more like this" if "times" in told else ""
        event = a.Event(
            a.INSTANCES_TRANSFERRED, "C", at, a.MINOR_FAILURE,
            description=f"refused: {told['reason']}, 0x{int(told['status']):04X}{times}",
        )
        subject = Subject("", sop_classes={sop_class: 1} if sop_class else {})
        here = self._node_itself(is_requestor=False, role=a.DESTINATION)
        return [self._message(event, [source, here], _about(subject, _IMPORT))]

    def _sending(self, at: datetime, told: Told) -> list[str]:
        subject = self._subjects.of_results(told["job_id"], told["sop_instance_uids"])
        event = a.Event(a.BEGIN_TRANSFERRING, "E", at)
        return [self._message(event, self._way_out(told, subject), _about(subject, _EXPORT))]

    def _sent(self, at: datetime, told: Told) -> list[str]:
        made = []
        for outcome, uids in ((a.SUCCESS, told["stored"]), (a.MINOR_FAILURE, told["failed"])):
            if uids:
                subject = self._subjects.of_results(told["job_id"], uids)
                # Whether the receiver had them is not known to who sends: then it is a reading.
                event = a.Event(a.INSTANCES_TRANSFERRED, "R", at, outcome)
                made.append(self._message(
                    event, self._way_out(told, subject), _about(subject, _EXPORT)
                ))
        return made

    def _way_out(self, told: Told, subject: Subject) -> list[a.Participant]:
        name, title = str(told["destination"]), subject.calling_ae_title
        peer = self._config.peers.get(name)
        if name == SENDER:
            peer = next((one for one in self._config.peers.values() if one.ae_title == title), None)
        host = ""
        if peer is not None:
            title = peer.ae_title or name
            host = peer.host
            if peer.dicomweb is not None:
                host = urlsplit(peer.dicomweb.url).hostname or ""
        there = a.Participant(
            title or name, False, a.DESTINATION, f"AETITLES={title}" if title else "", name, host
        )
        return [self._node_itself(is_requestor=True, role=a.SOURCE), there]

    def _removed(self, at: datetime, told: Told) -> list[str]:
        event = a.Event(a.STUDY_DELETED, "D", at, description=f"removed: {told['reason']}")
        subject = Subject(str(told["study_instance_uid"]), str(told.get("patient_id", "")))
        return [self._message(
            event, [self._node_itself(is_requestor=True)], _about(subject, _ERASED)
        )]

    def _asked(self, at: datetime, told: Told) -> list[str]:
        title = str(told["ae_title"])
        event = a.Event(a.QUERY, "E", at)
        asked = a.Participant(title, False, a.DESTINATION, f"AETITLES={title}",
                              str(told["peer"]), str(told["address"]))
        query = identifier(str(told["study_instance_uid"]), str(told["series_instance_uid"]))
        return [self._message(
            event, [self._node_itself(is_requestor=True, role=a.SOURCE), asked],
            [a.queried(_FIND, query)],
        )]

    def _sign_in(self, at: datetime, told: Told) -> list[str]:
        outcome = a.SUCCESS if told["succeeded"] else a.MINOR_FAILURE
        times = f", {told['times']} more like this" if "times" in told else ""
        event = a.Event(
            a.USER_AUTHENTICATION, "E", at, outcome, a.LOGIN,
            "" if told["succeeded"] else f"a token that is none{times}",
        )
        person = a.Participant(str(told["user"]) or "unknown", True, address=str(told["address"]))
        return [self._message(event, [person, self._node_itself(is_requestor=False)])]

    def _web_action(self, at: datetime, told: Told) -> list[str]:
        person = a.Participant(str(told["user"]) or "unknown", True)
        here = self._node_itself(is_requestor=False)
        action, study = str(told["action"]), str(told.get("study_instance_uid", ""))
        if study and action.startswith(_READS):
            event = a.Event(a.INSTANCES_ACCESSED, "R", at)
            subject = self._subjects.of_study(study)
            return [self._message(event, [person, here], _about(subject, _ACCESS))]
        event = a.Event(a.SECURITY_ALERT, "E", at, a.SUCCESS, a.RESTRICTED_FUNCTION)
        about = a.resource("urn:dicom-node:web", "web page", f"{action}: {told['key']}")
        return [self._message(event, [here, person], [about])]


def _about(subject: Subject, life_cycle: str) -> list[a.ParticipantObject]:
    return [
        a.study(subject.study_instance_uid, subject.sop_classes, life_cycle),
        a.patient(subject.patient_id),
    ]


def identifier(study_instance_uid: str, series_instance_uid: str) -> bytes:
    """The keys of a C-FIND at series level, in Implicit VR Little Endian."""
    keys = ((0x0008, 0x0052, "SERIES"), (0x0020, 0x000D, study_instance_uid),
            (0x0020, 0x000E, series_instance_uid))
    encoded = b""
    for group, element, text in keys:
        value = text.encode("ascii", "replace")
        padding = b" " if element == 0x0052 else b"\0"
        value += padding * (len(value) % 2)
        encoded += struct.pack("<HHL", group, element, len(value)) + value
    return encoded


def ordered(config: Config, hostname: str, user: str, called_by: str, order: str) -> str:
    """The message that a user of this machine gave an order at the command line.

    Use of Restricted Function (PS3.15 A.5.3.11); ``called_by`` is whom ``sudo`` names, or empty.
    """
    source = a.Source(f"{config.node.ae_title}@{hostname}", config.security.audit.site)
    person = a.Participant(
        user, True, alternative_id=f"SUDO_USER={called_by}" if called_by else "",
        name=f"{called_by} by sudo" if called_by else "", address=hostname,
    )
    event = a.Event(a.SECURITY_ALERT, "E", datetime.now(UTC), a.SUCCESS, a.RESTRICTED_FUNCTION)
    about = a.resource("urn:dicom-node:command-line", "command line", order)
    return a.message(event, [person], source, [about])


def log_used(config: Config, hostname: str, user: str, folder: str) -> str:
    """The message that somebody has read the trail (PS3.15 A.5.3.2)."""
    source = a.Source(f"{config.node.ae_title}@{hostname}", config.security.audit.site)
    return a.message(
        a.Event(a.AUDIT_LOG_USED, "R", datetime.now(UTC)),
        [a.Participant(user, True, address=hostname)], source,
        [a.resource(f"file://{folder}", "Security Audit Log")],
    )
