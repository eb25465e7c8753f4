"""A page over a real ledger and spool, with one study of a patient whose name must not get out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ai_models.catalog import Catalog
from dicom_node.config import Config
from dicom_node.events import Events, hash_uid
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_hosts import SoleHost
from dicom_node.node_routing import Router
from dicom_node.node_web import ports_of
from dicom_node.operations.health import Health
from dicom_node.operations.web.access import Access
from dicom_node.operations.web.application import build_application
from dicom_node.operations.web.ports import Ports
from dicom_node.operations.web.tokens import Role, add_token
from dicom_node.records import (
    Delivery,
    DeliveryState,
    Instance,
    Job,
    Result,
    SendOutcome,
    SeriesState,
)
from dicom_node.spool import Spool
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, write_instance

STUDY, SERIES = "1.2.826.0.1.3680043.8.498.11", "1.2.826.0.1.3680043.8.498.12"
NAME, PATIENT_ID, ACCESSION, BORN = "PLANTED^NAME", "PLANTEDID77", "PLANTEDACC", "19330412"
PLANTED = ("PLANTED", "1933-04-12", BORN, STUDY, SERIES, "1.2.826")
STUDY_NAME = hash_uid(STUDY)
RULES = [
    {"name": "heads", "when": {"Modality": "CT", "BodyPartExamined": "HEAD"}, "model": "tiny",
     "send_to": ["pacs"]},
    {"name": "MR", "when": {"Modality": "MR", "BodyPartExamined": "KNEE"}, "model": "tiny",
     "send_to": ["pacs"]},
]


@dataclass
class Told:
    """What the sinks of the events were told."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def sink(self, event: str, arguments: Any) -> None:
        self.events.append((event, dict(arguments)))

    def of(self, event: str) -> list[dict[str, object]]:
        return [arguments for name, arguments in self.events if name == event]


@dataclass
class Site:
    """The rooms, the page, and tokens for it."""

    folder: Path
    config: Config
    ledger: Ledger
    spool: Spool
    told: Told
    events: Events
    ports: Ports
    tokens: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def client(self, address: str = "127.0.0.1", **changes: Any) -> TestClient:
        web = self.config.web.model_copy(update=changes)
        ports = replace(self.ports, config=self.config.model_copy(update={"web": web}))
        application = build_application(ports, Access(web, b"k" * 32))
        return TestClient(
            application, base_url="http://127.0.0.1:8042", follow_redirects=False,
            client=(address, 40000), raise_server_exceptions=False,
        )

    def with_tokens(self) -> TestClient:
        path = self.folder / "tokens"
        for name, role in (("vera", Role.VIEWER), ("olaf", Role.OPERATOR)):
            if name not in self.tokens:
                self.tokens[name] = add_token(path, name, role)
        return self.client(tokens_file=path)

    def signed_in(self, name: str) -> TestClient:
        client = self.with_tokens()
        answer = client.post("/login", data={"token": self.tokens[name], **form(client, "/login")})
        assert answer.status_code == 303, answer.text
        return client

    def queue(self) -> Job:
        """A job on the series."""
        return self.ports.reroute(SERIES, "heads")


def form(client: TestClient, page: str) -> dict[str, str]:
    """What a form of a page carries."""
    text = client.get(page).text
    return {"form_token": text.split('name="form_token" value="')[1].split('"')[0]}


def result_of(site: Site, job: Job, kind: str, content: bytes = b"DICM") -> Result:
    """An object that a job made, on disk."""
    uid = f"2.25.{abs(hash((job.job_id, kind)))}"
    path = f"outbox/{job.job_id}/{uid}.dcm"
    (site.spool.root / path).parent.mkdir(parents=True, exist_ok=True)
    (site.spool.root / path).write_bytes(content)
    return Result(uid, "1.2.840.10008.5.1.4.1.1.66.4", "2.25.2", STUDY, job.job_id, kind, path,
                  datetime.now(UTC))


def delivery_of(job: Job, result: Result, number: int = 0) -> Delivery:
    now = datetime.now(UTC)
    return Delivery(f"{job.job_id}:pacs:{number:02d}", job.job_id, result.sop_instance_uid, "pacs",
                    DeliveryState.PENDING, "produced", 1, None, now, now)


def finished(site: Site, *, dead: bool = False) -> str:
    """A job with a segmentation that was sent, or that nobody took."""
    job = site.queue()
    site.ledger.jobs.start(job.job_id, 1)
    results = [result_of(site, job, "segmentation"), result_of(site, job, "volumetric report")]
    deliveries = [delivery_of(job, one, number) for number, one in enumerate(results)]
    lung = {"name": "left lung", "found": True, "volume_ml": 812.34, "mean_hu": -700.0}
    said = {"labels": [lung]}
    site.ledger.predictions.keep(job.job_id, said)
    site.ledger.jobs.succeed(job.job_id, results, deliveries, "result", {"inference": 1.5})
    for one in deliveries:
        outcome = SendOutcome(one.sop_instance_uid, None if dead else 0, not dead, False,
                              "peer.refused" if dead else "")
        site.ledger.deliveries.record(one.delivery_id, outcome, retry_at=None)
    return job.job_id


def receive(
    ledger: Ledger, spool: Spool, datasets: Sequence[Any], reason: str = "no_rule_matched"
) -> None:
    """One series, declined by the rules."""
    start = datetime.now(UTC) - timedelta(minutes=5)
    found = []
    for number, dataset in enumerate(datasets, start=1):
        uid = str(dataset.SOPInstanceUID)
        series = str(dataset.SeriesInstanceUID)
        path = f"instances/{dataset.StudyInstanceUID}/{series}/{uid}.dcm"
        (spool.root / path).parent.mkdir(parents=True, exist_ok=True)
        write_instance(dataset, spool.root / path)
        found.append(
            Instance(uid, str(dataset.SOPClassUID), "1.2.840.10008.1.2.1", series,
                     str(dataset.StudyInstanceUID), "CT", path, 1, "f",
                     start + timedelta(seconds=number), "one", "CT01", instance_number=number)
        )
    ledger.index(found)
    uid = found[0].series_instance_uid
    ledger.receipts.change(uid, SeriesState.COMPLETE, "quiet_period")
    ledger.receipts.change(uid, SeriesState.DECLINED, reason)


def planted(**changes: Any) -> list[Any]:
    """A CT of the patient whose name must not get out."""
    datasets = ct_series()[:3]
    for dataset in datasets:
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
        dataset.PatientName, dataset.PatientID = NAME, PATIENT_ID
        dataset.PatientBirthDate, dataset.AccessionNumber = BORN, ACCESSION
        dataset.BodyPartExamined = "CHEST"
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    return datasets


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny", threshold_onnx(0.5), id="tiny")
    return folder


@pytest.fixture
def site(tmp_path: Path, models: Path) -> Iterator[Site]:
    config = Config.model_validate({
        "node": {"data_dir": str(tmp_path)},
        "peers": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
        "rules": RULES,
        "models": {"directories": [str(models)]},
    })
    ledger, spool, told = Ledger.open(tmp_path / "ledger.db"), Spool(tmp_path / "spool"), Told()
    events = Events(told.sink)
    catalog = Catalog([models])
    problems: dict[str, str] = {}

    @dataclass(frozen=True)
    class Premises:
        config: Config
        ledger: Ledger
        spool: Spool
        events: Events
        catalog: Catalog
        router: Router
        place: SoleHost

    health = Health(
        {"main loop": lambda: problems.get("main loop", "")},
        {"free space": lambda: problems.get("free space", "")},
    )
    premises: Any = Premises(
        config, ledger, spool, events, catalog, Router(config, ledger, spool, catalog, events),
        SoleHost(config),
    )
    ports = ports_of(premises, health, lambda: (b"# HELP x\n", "text/plain; version=1.0.0"))
    receive(ledger, spool, planted())
    yield Site(tmp_path, config, ledger, spool, told, events, ports, problems=problems)
    ledger.close()


@pytest.fixture
def stranger(site: Site) -> TestClient:
    """Somebody on the loopback of a node without authentication."""
    return site.client()


@pytest.fixture
def viewer(site: Site) -> TestClient:
    return site.signed_in("vera")


@pytest.fixture
def operator(site: Site) -> TestClient:
    return site.signed_in("olaf")
