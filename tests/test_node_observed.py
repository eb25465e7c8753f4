"""A node with everything that watches it, over a day on which much goes wrong.

Patients are planted in every element that names one; nothing of them may be in a log, a metric, a
span or an address, and in the audit trail only what PS3.15 A.5.3 requires.
"""

from __future__ import annotations

import logging
import re
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.config import Config, PeerSettings
from dicom_node.delivery.sender import Sender
from dicom_node.events import Events, configure_logging, hash_uid
from dicom_node.node import Node
from dicom_node.operations.audit_trail import AuditTrail
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.delivery.scripted_peer import scripted_peer
from tests.dicom_samples import ct_series, mr_series, write_series
from tests.operations.collector import RecordingCollector, collecting
from tests.operations.test_tracing import collector as span_collector
from tests.ports import free_port
from tests.test_node import RESULT_CLASSES, running, until

PLANTED = {
    "PatientName": "PLANTEDNAME^JOHN", "PatientID": "PLANTED-ID", "PatientBirthDate": "19570312",
    "AccessionNumber": "PLANTED-ACC", "StudyDate": "20251224", "StudyID": "PLANTED-SID",
    "ReferringPhysicianName": "PLANTEDDOCTOR", "StudyDescription": "PLANTED STUDY",
    "SeriesDescription": "PLANTED SERIES", "PatientComments": "PLANTED COMMENT",
    "InstitutionName": "PLANTED HOSPITAL", "OtherPatientIDs": "PLANTED-OTHER",
}
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_ALLOWED = re.compile(
    r'ParticipantObjectID="[^"]*"|<SOPClass UID="[^"]*"|<ParticipantObjectQuery>[^<]*<'
)


def settings(folder: Path, archive: int, syslog: int, spans: str) -> Config:
    write_model(folder / "models" / "bright", threshold_onnx(0.5), id="bright")
    return Config.model_validate({
        "node": {"ae_title": "DICOMNODE", "host": "127.0.0.1", "port": 0,
                 "data_dir": folder / "node"},
        "peers": {
            "pacs": {"ae_title": "SCRIPTED", "host": "127.0.0.1", "port": archive},
            "away": {"ae_title": "AWAY", "host": "127.0.0.1", "port": free_port()},
            "scanner": {"ae_title": "SCANNER", "host": "127.0.0.1", "port": 1, "query": "off"},
        },
        "completeness": {"after_release_s": 0.2, "quiet_period_s": 5, "give_up_after_s": 10},
        "storage": {"refuse_below_free_bytes": 0},
        "intake": {"listener_processes": 1},
        "models": {"directories": [folder / "models"], "devices": ["cpu"]},
        "jobs": {"max_attempts": 1},
        "rules": [{"name": "all CT", "when": {"Modality": "CT"}, "model": "bright",
                   "send_to": ["pacs", "away"]}],
        "web": {"port": free_port()},
        "security": {"audit": {"site": "Example", "syslog": {
            "host": "127.0.0.1", "port": syslog, "transport": "tcp"}}},
        "tracing": {"otlp_endpoint": spans},
    })


@contextmanager
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger(), "handlers", [])
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        configure_logging("debug", "json")
        yield


def a_bad_day(node: Node, folder: Path) -> list[Any]:
    """Good images, images that no rule wants, a broken one, a stranger; returns the data sets."""
    peer = PeerSettings(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port)
    good = ct_series((12, 32, 40), **PLANTED)
    unwanted = mr_series((3, 32, 40), **PLANTED)
    # Too short for any volume, and one whose data set ends in the middle.
    hopeless = ct_series((1, 32, 40), **PLANTED)
    sender = Sender("SCANNER")
    assert all(one.stored for one in sender.send(peer, write_series(good, folder / "good")))
    assert all(one.stored for one in sender.send(peer, write_series(unwanted, folder / "mr")))
    sender.send(peer, write_series(hopeless, folder / "hopeless"))
    [broken] = write_series([good[0]], folder / "broken")
    broken.write_bytes(broken.read_bytes()[:900])
    try_to_send(sender, peer, broken)
    try_to_send(Sender("STRANGER"), peer, write_series(good[:1], folder / "stranger")[0])
    sender.close(0)
    return [*good, *unwanted, *hopeless]


def try_to_send(sender: Sender, peer: PeerSettings, path: Path) -> None:
    with pytest.MonkeyPatch.context():
        try:
            sender.send(peer, [path])
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being sent is wanted
            assert "DICOMNODE" not in type(error).__name__


def scrape(config: Config, path: str) -> str:
    address = f"http://127.0.0.1:{config.web.port}{path}"
    with urllib.request.urlopen(address, timeout=20) as answer:
        return str(answer.read().decode())


def test_nothing_of_a_patient_is_told_to_anybody_who_watches(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = (0x0000, 0xA700, 0x0122, 0x0000)
    with (
        logged(monkeypatch), scripted_peer(*answers, sop_classes=RESULT_CLASSES) as archive,
        collecting() as syslog, span_collector() as (spans, bodies),
    ):
        config = settings(tmp_path, archive.port, syslog.port, spans)
        with running(Node(config, Events())) as node:
            data_sets = a_bad_day(node, tmp_path)
            deliveries = node.ledger.deliveries
            until(lambda: "sent" in deliveries.count_by_state(), "something is delivered")
            until(lambda: bool(node.ledger.circuits.all()), "a destination is away")
            until(lambda: node.ledger.receipts.count_by_state().get("declined", 0) >= 1, "declined")
            until(lambda: any("110104" in one for one in syslog.messages()), "audit arrives")
            until(lambda: bool(bodies), "spans arrive")
            metrics, status = scrape(config, "/metrics"), scrape(config, "/api/studies")
        said = "".join(capfd.readouterr())
        results = list(archive.received)
    trail = AuditTrail(tmp_path / "node" / "audit")
    audit = [entry.message for entry in trail.entries()]
    assert not trail.verify().problem
    telling = {"log": said, "metrics": metrics, "page without user": status,
               "spans": b"".join(body for _, body in bodies).decode("latin-1"),
               "audit": "".join(_ALLOWED.sub("", one) for one in audit),
               "collector": "".join(_ALLOWED.sub("", one) for one in syslog.messages())}
    assert all(telling.values())
    uids = {str(one[name].value) for one in data_sets for name in UIDS if name in one}
    secrets = {"PLANTED", "19570312", "20251224", *uids, *results}
    for where, text in telling.items():
        assert not {secret for secret in secrets if secret in text}, where
    check_metrics(metrics)
    check_audit(audit, syslog, str(data_sets[0].StudyInstanceUID))
    check_log(said, str(data_sets[0].StudyInstanceUID))


def check_metrics(text: str) -> None:
    """The scrape is one that Prometheus' own parser takes, and it has counted the day."""
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert samples["dicom_node_instances_received_total", "new"] >= 15
    assert samples["dicom_node_associations_accepted_total",] >= 3
    assert samples["dicom_node_associations_refused_total", "access.calling_ae_title"] == 1
    assert samples["dicom_node_job_attempts_ended_total", "bright", "none", "succeeded"] >= 1
    assert samples["dicom_node_circuit_open", "away"] == 1
    assert samples["dicom_node_ledger_up",] == samples["dicom_node_audit_collector_up",] == 1
    assert any(key[0] == "dicom_node_job_stage_seconds_bucket" for key in samples)


def check_audit(audit: list[str], syslog: RecordingCollector, study: str) -> None:
    """The ID of a patient stands where it is required, and the trail tells the whole story."""
    schema = etree.RelaxNG(etree.parse(Path(__file__).parent / "operations/audit_schema.rng"))
    codes = []
    for message in audit:
        root = etree.fromstring(message.encode())
        schema.assertValid(root)
        codes.append(root.xpath("string(EventIdentification/EventID/@csd-code)"))
        about = root.xpath("ParticipantObjectIdentification[@ParticipantObjectTypeCode=1]")
        # Of an object that was refused nothing is believed: whose it is stays empty.
        named = [one for one in about if one.get("ParticipantObjectID")]
        assert ("PLANTED-ID" in message) == bool(named)
        outcome, action = (
            root.xpath(f"string(EventIdentification/@Event{what})")
            for what in ("OutcomeIndicator", "ActionCode")
        )
        assert named == about or (outcome, action) == ("4", "C")
        assert bool(about) == (codes[-1] in ("110102", "110104"))
    assert codes[0] == codes[-1] == "110100"
    assert {"110102", "110104", "110113"} <= set(codes)
    received = next(one for one in audit if study in one)
    assert 'csd-code="110104"' in received and "SCANNER" in received
    assert list(dict.fromkeys(syslog.messages())) == list(dict.fromkeys(audit))


def check_log(said: str, study: str) -> None:
    """Every line about the study carries its hash."""
    lines = said.splitlines()
    told = ('"event": "series"', '"event": "job"', '"event": "delivery"', '"event": "study')
    about = [line for line in lines if any(one in line for one in told)]
    assert len(about) > 5
    assert [line for line in about if '"study": ' not in line] == []
    assert sum(hash_uid(study) in line for line in about) >= 4
