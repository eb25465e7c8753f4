"""A workshop with a routed series and a model whose answer is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.predictor import Predictor
from ai_models.types import ModelInput, Prediction
from dicom_node.ledger.ledger import Ledger
from dicom_node.pipeline.destinations import Destinations
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, SeriesState
from dicom_node.results.equipment import node_equipment
from dicom_node.results.profile import Wanted
from dicom_node.spool import Spool
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, write_instance
from tests.ledger.conftest import START, instance, job


class Pool:
    """Predicts in this process."""

    def __init__(self) -> None:
        self.deadlines_s: list[float] = []

    def predict(
        self, card: Card, source: ModelInput, *, deadline_s: float, **_: object
    ) -> Prediction:
        self.deadlines_s.append(deadline_s)
        predictor = Predictor(card, "cpu")
        predictor.load()
        return predictor.predict(source)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A routed series of 12 slices and the model ``tiny`` in version 2."""
    write_model(tmp_path / "models" / "tiny", threshold_onnx(0.5), id="tiny", version="2")
    ledger, spool = Ledger.open(tmp_path / "ledger.db"), Spool(tmp_path / "spool")
    received = []
    for number, dataset in enumerate(ct_series((12, 32, 40)), start=1):
        one = dataclasses.replace(instance(number), sop_instance_uid=str(dataset.SOPInstanceUID))
        (spool.root / one.path).parent.mkdir(parents=True, exist_ok=True)
        write_instance(dataset, spool.root / one.path)
        received.append(one)
    ledger.index(received)
    catalog = Catalog([tmp_path / "models"])
    pool = cast(InferencePool, Pool())
    yield Workshop(
        ledger, spool, catalog, pool, node_equipment("DICOMNODE", "1"),
        Destinations(ledger, {}, {}), 60.0,
    )
    ledger.close()


def started(workshop: Workshop, job_id: str, **changes: Any) -> Job:
    workshop.ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    asked = dataclasses.replace(job(job_id), model_id="tiny", model_version="2", **changes)
    assert workshop.ledger.jobs.route("1.2.3", [asked], "rules", seen=START)
    running = workshop.ledger.jobs.start(job_id, 1)
    assert running is not None
    return running


def wanting(workshop: Workshop, **peers: Wanted) -> Workshop:
    """The same workshop with other settings of its destinations."""
    return dataclasses.replace(workshop, destinations=Destinations(workshop.ledger, peers, {}))
