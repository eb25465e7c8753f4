"""The rooms of a node as the web page sees them: what it may ask for, as callables."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dicom_node.errors import NodeError
from dicom_node.imaging.elements import text
from dicom_node.node_documents import describe_series
from dicom_node.node_headers import representative
from dicom_node.node_outlook import Outlook
from dicom_node.node_pictures import PictureMaker
from dicom_node.node_replay import parse_rules, replay, rules_text
from dicom_node.node_shift import Scanners
from dicom_node.operations.web.ports import (
    Mismatch,
    ModelFacts,
    ModelProblemFacts,
    Patient,
    PeerTakes,
    Ports,
    Replay,
    RuleAnswer,
)
from dicom_node.operations.web.server import WebServer
from dicom_node.records import CANDIDATE, Delivery, Job, Series, Stage
from dicom_node.routing import rules

if TYPE_CHECKING:
    from ai_models.catalog import Catalog
    from dicom_node.config import Config
    from dicom_node.events import Events
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.node_operations import Premises
    from dicom_node.operations.health import Health
    from dicom_node.spool import Spool

_MOST_PATIENTS = 5000


def web_server(
    premises: Premises, health: Health, metrics: Callable[[], tuple[bytes, str]]
) -> WebServer:
    """The page of a node, as a `Care`.

    Nothing that is wrong with it keeps images from being received: only a process that is there
    for the page alone ends on it.
    """
    config = premises.config

    def build() -> Any:
        from dicom_node.operations.web.access import Access, signing_key
        from dicom_node.operations.web.application import build_application

        access = Access(config.web, signing_key(config.node.data_dir / "web.key"))
        return build_application(ports_of(premises, health, metrics), access)

    return WebServer(
        config.web, build, premises.events, must_serve=premises.roles == {"web"}
    )


def ports_of(
    premises: Premises, health: Health, metrics: Callable[[], tuple[bytes, str]]
) -> Ports:
    """The rooms behind the page."""
    config, ledger, spool = premises.config, premises.ledger, premises.spool
    headers = _Headers(config, ledger, spool)
    peers = _Peers(config, ledger, premises.events)
    models = _Models(premises.catalog, ledger)

    def replayed(days: float, edited: str) -> Replay:
        return replay(config, ledger, spool, days, parse_rules(config, edited))

    def documents(found: Sequence[tuple[Series, Sequence[Job]]]) -> list[dict[str, Any]]:
        outlook = Outlook(ledger, config)
        return [describe_series(ledger, series, list(jobs), outlook) for series, jobs in found]

    def waits_for(
        jobs: Sequence[tuple[Job, Sequence[Delivery]]]
    ) -> dict[str, tuple[str, float]]:
        outlook = Outlook(ledger, config)
        return {
            job.job_id: (outlook.of_job(job, deliveries), outlook.age_s(job))
            for job, deliveries in jobs
        }

    return Ports(
        config=config, ledger=ledger, spool=spool, events=premises.events, health=health,
        metrics=metrics, documents=documents, waits_for=waits_for, patient=headers.patient,
        why_not=headers.why_not, rules_text=lambda: rules_text(config), replay=replayed,
        reroute=premises.router.route_by_hand, echo=peers.echo, probe=peers.probe,
        takes=peers.takes, models=models.facts, model_problems=models.problems,
        pictures=PictureMaker(ledger, spool, premises.catalog),
        scanners=Scanners(ledger, lambda: premises.catalog, config.shift),
    )


class _Headers:
    """What the images say of themselves; names of patients stay in memory, and few of them."""

    def __init__(self, config: Config, ledger: Ledger, spool: Spool) -> None:
        self._config = config
        self._ledger = ledger
        self._spool = spool
        self._lock = threading.Lock()
        self._patients: OrderedDict[str, Patient] = OrderedDict()

    def patient(self, series_instance_uid: str) -> Patient | None:
        """Whom a series shows; ``None`` where no image of it can be read."""
        with self._lock:
            found = self._patients.get(series_instance_uid)
            if found is not None:
                self._patients.move_to_end(series_instance_uid)
                return found
        instances = self._ledger.receipts.instances(series_instance_uid)
        try:
            dataset = representative(self._spool, instances)
        except NodeError:
            return None
        found = Patient(
            name=text(dataset, "PatientName").replace("^", " ").strip(),
            patient_id=text(dataset, "PatientID"),
            birth_date=_date(text(dataset, "PatientBirthDate")),
            accession_number=text(dataset, "AccessionNumber"),
            study_date=_date(text(dataset, "StudyDate")),
            study_description=text(dataset, "StudyDescription"),
        )
        with self._lock:
            self._patients[series_instance_uid] = found
            while len(self._patients) > _MOST_PATIENTS:
                self._patients.popitem(last=False)
        return found

    def why_not(self, series_instance_uid: str) -> list[RuleAnswer]:
        """What each rule says of a series; raises NodeError where no image can be read."""
        instances = self._ledger.receipts.instances(series_instance_uid)
        dataset = representative(self._spool, instances)
        return [
            RuleAnswer(
                one.rule.name, one.rule.model, tuple(one.rule.send_to), str(one.rule.priority),
                tuple(Mismatch(m.keyword, m.expected, m.found) for m in one.mismatches),
            )
            for one in (rules.explain(rule, dataset) for rule in self._config.rules)
        ]


class _Peers:
    """Asks peers, and knows what they answered before."""

    def __init__(self, config: Config, ledger: Ledger, events: Events) -> None:
        self._config = config
        self._ledger = ledger
        self._events = events

    def echo(self, name: str) -> float:
        """Seconds that a peer took to answer; raises NodeError."""
        from dicom_node.delivery.dicomweb import sender_for

        peer = self._config.peer(name)
        return sender_for(self._config.node.ae_title, peer).echo(peer)

    def probe(self, name: str) -> None:
        """Ask a peer what it takes; raises NodeError."""
        from dicom_node.delivery.capabilities import Capabilities

        Capabilities(self._config, self._ledger, self._events).ask(self._config.peer(name))

    def takes(self, name: str) -> PeerTakes:
        """What a peer takes, as far as it is known."""
        from dicom_node.results.sop_classes import CLASS_NAMES

        profile = self._ledger.profiles.find(name)
        taken = {uid for uid in CLASS_NAMES if profile is None or profile.takes(uid)}
        return PeerTakes(
            tuple(named for uid, named in CLASS_NAMES.items() if uid in taken),
            tuple(named for uid, named in CLASS_NAMES.items() if uid not in taken),
            profile.probed_at if profile is not None else None,
        )


class _Models:
    """The catalogue with the stages of the ledger."""

    def __init__(self, catalog: Catalog, ledger: Ledger) -> None:
        self._catalog = catalog
        self._ledger = ledger

    def facts(self) -> list[ModelFacts]:
        """Every version of every model."""
        stages = {
            (one.model_id, one.version): one
            for ones in self._ledger.stages.all().values() for one in ones
        }
        found = []
        for card in self._catalog.cards():
            stage = stages.get((card.id, card.version))
            is_canary = stage is not None and stage.stage is Stage.CANARY
            found.append(ModelFacts(
                model_id=card.id, version=card.version, name=card.name,
                stage=str(stage.stage) if stage is not None else CANDIDATE,
                share=stage.share if stage is not None and is_canary else None,
                task=card.task, modality=tuple(card.modality), licence=card.licence or "",
                intended_use=card.intended_use, demonstration=card.demonstration,
                agreement=self._agreement(card.id, card.version),
            ))
        return found

    def problems(self) -> list[ModelProblemFacts]:
        """What is wrong with folders, and which rules are without their model."""
        folders = {
            str(one.folder): ModelProblemFacts(str(one.folder), one.message, one.since)
            for one in self._catalog.problems()
        }
        for known in self._ledger.stages.problems():
            folders.setdefault(
                known.folder, ModelProblemFacts(known.folder, known.message, known.since)
            )
        return [
            *folders.values(),
            *(
                ModelProblemFacts(f"rule {one.rule}", one.message, one.since)
                for one in self._ledger.stages.rules_without_model()
            ),
        ]

    def _agreement(self, model_id: str, version: str) -> Mapping[str, Any] | None:
        """How far a version that is or was a shadow agrees with the live one."""
        from dicom_node.pipeline.agreement import summarise

        found = self._ledger.agreements.of(model_id, version)
        return summarise([one.document for one in found]) if found else None


def _date(value: str) -> str:
    """A date of DICOM as people write it; as it is where it is none."""
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 and value.isdecimal() else (
        value
    )
