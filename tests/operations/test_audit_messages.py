"""Audit messages under the schema of PS3.15 A.5.1 and the tables of A.5.3."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from lxml import etree
from pydicom.dataset import Dataset, FileMetaDataset

from dicom_node.config import Config
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.audit_records import (
    NOT_RECORDED,
    SETTINGS,
    STARTED,
    AuditRecords,
    Happened,
    identifier,
    log_used,
)
from dicom_node.operations.audit_subjects import Subjects
from dicom_node.records import SeriesState
from dicom_node.spool import Spool
from tests.ledger.conftest import START, delivery, instance, job, result

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_schema.rng")))
AT = datetime(2026, 11, 26, 8, 30, tzinfo=UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
# Event name, arguments, EventID, EventTypeCode, action, outcome, and how many objects.
CASES: list[tuple[str, Mapping[str, Any], str, str, str, str, int]] = [
    (STARTED, {}, "110100", "110120", "E", "0", 0),
    ("node_changed", {"what": "stopped"}, "110100", "110121", "E", "0", 0),
    (SETTINGS, {"sections": ["web"]}, "110113", "110129", "E", "0", 1),
    (SETTINGS, {"sections": ["peers"]}, "110113", "110128", "E", "0", 1),
    (SETTINGS, {"sections": ["rules"]}, "110113", "110131", "E", "0", 1),
    (NOT_RECORDED, {"count": 4, "reason": "full"}, "110113", "110133", "E", "8", 1),
    ("association_refused", {
        "calling_ae_title": "CT 9", "called_ae_title": "NODE", "address": "192.0.2.7",
        "reason": "access.unknown_caller", "tls_identity": "",
    }, "110113", "110126", "E", "4", 1),
    ("association_refused", {
        "calling_ae_title": "", "called_ae_title": "", "address": "2001:db8::7",
        "reason": "tls.certificate_has_expired", "tls_identity": "ct9.example", "times": 31,
    }, "110113", "110126", "E", "4", 1),
    ("study_received", {
        "association_id": "a", "calling_ae_title": "CT01", "study_instance_uid": "1.2",
        "instances": 3, "address": "192.0.2.7", "patient_id": "P<1>&\x00\x1b", "size_bytes": 5,
        "sop_class_uids": {CT: 2, SEG: 1},
    }, "110104", "", "C", "0", 2),
    ("instance_refused", {
        "status": 0xC000, "reason": "dataset.not_understood", "quarantined": True,
        "association_id": "a", "calling_ae_title": "CT 9", "address": "192.0.2.7",
        "sop_class_uid": CT, "times": 7,
    }, "110104", "", "C", "4", 2),
    ("results_sending", {
        "job_id": "job-1", "destination": "pacs", "sop_instance_uids": ["2.25.1", "2.25.2"],
    }, "110102", "", "E", "0", 2),
    ("results_sent", {
        "job_id": "job-1", "destination": "sender", "stored": ["2.25.1"], "failed": [],
    }, "110104", "", "R", "0", 2),
    ("results_sent", {
        "job_id": "job-1", "destination": "web", "stored": [], "failed": ["2.25.2"],
    }, "110104", "", "R", "4", 2),
    ("study_removed", {
        "study_instance_uid": "1.2", "instances": 3, "size_bytes": 5, "reason": "retention.age",
        "patient_id": "P1",
    }, "110105", "", "D", "0", 2),
    ("peer_asked", {
        "peer": "pacs", "ae_title": "ORTHANC", "address": "pacs.example",
        "study_instance_uid": "1.2", "series_instance_uid": "1.2.3",
    }, "110112", "", "E", "0", 1),
    ("model_changed", {
        "model_id": "lungs-ct", "version": "1.2", "what": "live", "reason": "promoted",
    }, "110113", "110131", "E", "0", 1),
    ("web_sign_in", {"user": "anna", "address": "::1", "succeeded": True},
     "110114", "110122", "E", "0", 0),
    ("web_sign_in", {"user": "", "address": "192.0.2.9", "succeeded": False, "times": 4},
     "110114", "110122", "E", "4", 0),
    ("web_action", {"user": "anna", "action": "retry", "key": "job-1"},
     "110113", "110132", "E", "0", 1),
    ("web_action", {
        "user": "anna", "action": "view study", "key": "abc", "study_instance_uid": "1.2",
    }, "110103", "", "R", "0", 2),
]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[AuditRecords]:
    ledger = Ledger.open(tmp_path / "ledger.db")
    spool = Spool(tmp_path / "spool", 0)
    ledger.index([instance(1), instance(2)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job()], "rules", seen=START)
    ledger.jobs.start("job-1", 1)
    ledger.jobs.succeed("job-1", [result(1), result(2)], [delivery(1), delivery(2)], "", {})
    for path in ("outbox/job-1/2.25.1.dcm", "outbox/job-1/2.25.2.dcm",
                 "instances/1.2/1.2.3/1.dcm"):
        write_object(spool.resolve(path))
    config = Config.model_validate({
        "node": {"data_dir": tmp_path, "ae_title": "AINODE"},
        "peers": {
            "pacs": {"ae_title": "ORTHANC", "host": "192.0.2.1", "port": 104},
            "ct": {"ae_title": "CT01", "host": "ct.example", "port": 104},
            "web": {"dicomweb": {"url": "https://web.example/dicom-web"}},
        },
        "security": {"audit": {"site": "Example Hospital"}},
    })
    yield AuditRecords(config, "host-1", Subjects(ledger, spool))
    ledger.close()


def write_object(path: Path) -> None:
    data_set = Dataset()
    data_set.PatientName, data_set.PatientID = "DOE^JOHN", "PID-4711"
    data_set.SOPClassUID, data_set.SOPInstanceUID = SEG, "2.25.1"
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data_set, enforce_file_format=True)


def made(records: AuditRecords, name: str, told: Mapping[str, Any]) -> etree._Element:
    assert records.concerns(name, told)
    [text] = records.messages(Happened(AT, name, told))
    assert "\n" not in text
    return valid(text)


def valid(text: str) -> etree._Element:
    root = etree.fromstring(text.encode())
    SCHEMA.assertValid(root)
    return root


@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{c[2]}-{n}" for n, c in enumerate(CASES)])
def test_every_message_is_one_of_the_schema_and_of_its_table(
    records: AuditRecords, case: tuple[str, Mapping[str, Any], str, str, str, str, int]
) -> None:
    name, told, event_id, event_type, action, outcome, objects = case
    root = made(records, name, told)
    event = root.find("EventIdentification")
    assert event.find("EventID").attrib["csd-code"] == event_id
    assert event.find("EventID").attrib["codeSystemName"] == "DCM"
    types = [one.attrib["csd-code"] for one in event.findall("EventTypeCode")]
    assert types == ([event_type] if event_type else [])
    assert event.attrib["EventActionCode"] == action
    assert event.attrib["EventOutcomeIndicator"] == outcome
    assert event.attrib["EventDateTime"] == "2026-11-26T08:30:00.000+00:00"
    source = root.find("AuditSourceIdentification")
    assert source.attrib["AuditSourceID"] == "AINODE@host-1"
    assert source.attrib["AuditEnterpriseSiteID"] == "Example Hospital"
    assert len(root.findall("ParticipantObjectIdentification")) == objects
    node = [one for one in root.findall("ActiveParticipant")
            if one.attrib.get("UserName") == "dicom-node"]
    assert [one.attrib["AlternativeUserID"] for one in node] == ["AETITLES=AINODE"]
    # A name is required nowhere, and an ID only beside a study (A.5.3.3, A.5.3.6 to A.5.3.8).
    assert b"DOE^JOHN" not in etree.tostring(root)
    if event_id not in ("110102", "110103", "110104", "110105"):
        assert root.xpath("//ParticipantObjectIdentification[@ParticipantObjectTypeCode=1]") == []


def test_a_transfer_names_both_ends_the_study_its_classes_and_the_patient(
    records: AuditRecords
) -> None:
    told = next(case[1] for case in CASES if case[0] == "study_received")
    root = made(records, "study_received", told)
    source, node = root.findall("ActiveParticipant")
    assert source.attrib["UserID"] == "CT01" and source.attrib["UserIsRequestor"] == "true"
    assert source.find("RoleIDCode").attrib["csd-code"] == "110153"
    assert source.attrib["NetworkAccessPointID"] == "192.0.2.7"
    assert source.attrib["NetworkAccessPointTypeCode"] == "2"
    assert node.find("RoleIDCode").attrib["csd-code"] == "110152"
    study, patient = root.findall("ParticipantObjectIdentification")
    assert study.attrib["ParticipantObjectID"] == "1.2"
    assert study.attrib["ParticipantObjectTypeCodeRole"] == "3"
    assert study.find("ParticipantObjectIDTypeCode").attrib["csd-code"] == "110180"
    classes = study.findall("ParticipantObjectDescription/SOPClass")
    counts = {one.attrib["UID"]: one.attrib["NumberOfInstances"] for one in classes}
    assert counts == {CT: "2", SEG: "1"}
    assert patient.attrib["ParticipantObjectID"] == "P<1>&  "
    assert (patient.attrib["ParticipantObjectTypeCode"],
            patient.attrib["ParticipantObjectTypeCodeRole"]) == ("1", "1")


@pytest.mark.parametrize(("destination", "title", "address"), [
    ("pacs", "ORTHANC", "192.0.2.1"), ("sender", "CT01", "ct.example"),
    ("web", "web", "web.example"),
])
def test_results_that_go_out_are_looked_up(
    records: AuditRecords, destination: str, title: str, address: str
) -> None:
    root = made(records, "results_sending", {
        "job_id": "job-1", "destination": destination, "sop_instance_uids": ["2.25.1", "2.25.2"],
    })
    node, there = root.findall("ActiveParticipant")
    assert node.attrib["UserIsRequestor"] == "true"
    assert there.attrib["UserID"] == title
    assert there.attrib["NetworkAccessPointID"] == address
    study, patient = root.findall("ParticipantObjectIdentification")
    assert study.attrib["ParticipantObjectID"] == "1.2"
    assert study.find("ParticipantObjectDescription/SOPClass").attrib == {
        "UID": SEG, "NumberOfInstances": "2"
    }
    assert patient.attrib["ParticipantObjectID"] == "PID-4711"


def test_what_was_stored_and_what_was_not_are_two_messages(records: AuditRecords) -> None:
    told = {"job_id": "job-1", "destination": "pacs", "stored": ["2.25.1"], "failed": ["2.25.2"]}
    outcomes = [
        valid(text).find("EventIdentification").attrib["EventOutcomeIndicator"]
        for text in records.messages(Happened(AT, "results_sent", told))
    ]
    assert outcomes == ["0", "4"]


def test_a_query_is_kept_as_it_was_encoded(records: AuditRecords) -> None:
    root = made(records, "peer_asked", next(c[1] for c in CASES if c[0] == "peer_asked"))
    [about] = root.findall("ParticipantObjectIdentification")
    encoded = base64.b64decode(about.find("ParticipantObjectQuery").text)
    assert encoded == identifier("1.2", "1.2.3")
    query = pydicom.dcmread(io.BytesIO(encoded), force=True)
    assert query.QueryRetrieveLevel == "SERIES"
    assert (query.StudyInstanceUID, query.SeriesInstanceUID) == ("1.2", "1.2.3")


def test_whose_job_is_gone_makes_a_message_all_the_same(records: AuditRecords) -> None:
    made(records, "results_sending", {
        "job_id": "gone", "destination": "gone", "sop_instance_uids": ["2.25.9"],
    })


def test_reading_the_trail_is_a_message_too(tmp_path: Path) -> None:
    root = valid(log_used(Config(), "host-1", "anna", str(tmp_path)))
    event = root.find("EventIdentification")
    assert event.find("EventID").attrib["csd-code"] == "110101"
    [about] = root.findall("ParticipantObjectIdentification")
    assert about.attrib["ParticipantObjectTypeCodeRole"] == "13"
    assert about.find("ParticipantObjectName").text == "Security Audit Log"
