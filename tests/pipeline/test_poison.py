"""One bad file among good ones, from the spool to the ledger: what is said and what goes on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pydicom
import pytest

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.predictor import Predictor
from ai_models.types import ModelInput, Prediction
from dicom_node.events import Events
from dicom_node.imaging import decode
from dicom_node.imaging.codec_pool import CodecPool
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_headers import representative
from dicom_node.pipeline.attempts import run_attempt
from dicom_node.pipeline.destinations import Destinations
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.process import Workshop
from dicom_node.records import Instance, Job, JobState, Series, SeriesState
from dicom_node.results.equipment import node_equipment
from dicom_node.spool import Spool
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, write_instance
from tests.imaging import bad_codec
from tests.ledger.conftest import START, instance, job

SLICES = 40
JPEG_LS = "1.2.840.10008.1.2.4.80"
STUDY, POISONED, SOUND = "1.2.840.1", "1.2.840.1.1", "1.2.840.1.2"


class Pool:
    """Predicts in this process, and counts."""

    def __init__(self) -> None:
        self.predictions = 0

    def predict(self, card: Card, source: ModelInput, **_: object) -> Prediction:
        self.predictions += 1
        predictor = Predictor(card, "cpu")
        predictor.load()
        return predictor.predict(source)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """A study of two compressed series of 40 slices, and codecs that can be made to crash."""
    write_model(tmp_path / "models" / "tiny", threshold_onnx(0.5), id="tiny", version="2")
    ledger, spool = Ledger.open(tmp_path / "ledger.db"), Spool(tmp_path / "spool")
    codecs = CodecPool(2, command=(sys.executable, str(Path(bad_codec.__file__))))
    monkeypatch.setattr(decode, "shared_pool", lambda: codecs)
    for uid in (POISONED, SOUND):
        ledger.index(_receive(spool, uid))
    catalog = Catalog([tmp_path / "models"])
    pool = cast(InferencePool, Pool())
    yield Workshop(
        ledger, spool, catalog, pool, node_equipment("DICOMNODE", "1"),
        Destinations(ledger, {}, {}), 60.0,
    )
    codecs.close()
    ledger.close()


def _receive(spool: Spool, series_instance_uid: str) -> list[Instance]:
    received = []
    datasets = ct_series(
        (SLICES, 33, 40), StudyInstanceUID=STUDY, SeriesInstanceUID=series_instance_uid
    )
    for number, dataset in enumerate(datasets, start=1):
        one = dataclasses.replace(
            instance(number), sop_instance_uid=str(dataset.SOPInstanceUID),
            study_instance_uid=STUDY, series_instance_uid=series_instance_uid,
            path=f"instances/{STUDY}/{series_instance_uid}/{number:04d}.dcm",
        )
        (spool.root / one.path).parent.mkdir(parents=True, exist_ok=True)
        write_instance(dataset, spool.root / one.path, transfer_syntax_uid=JPEG_LS)
        received.append(one)
    return received


def damage(workshop: Workshop, number: int) -> Path:
    """Cut one file of the poisoned series in its pixel data."""
    path = workshop.spool.root / f"instances/{STUDY}/{POISONED}/{number:04d}.dcm"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\xff\xd8\xff\xf7") + 40])
    return path


def run(workshop: Workshop, series_instance_uid: str) -> Job:
    ledger = workshop.ledger
    ledger.receipts.change(series_instance_uid, SeriesState.COMPLETE, "quiet_period")
    asked = dataclasses.replace(
        job(f"job-{series_instance_uid}"), model_id="tiny", model_version="2",
        series_instance_uid=series_instance_uid, study_instance_uid=STUDY,
    )
    series = ledger.receipts.find_series(series_instance_uid)
    assert series is not None
    # What came again moved the last receipt: the route is of what is here now.
    seen = series.last_received_at
    assert ledger.jobs.route(series_instance_uid, [asked], "rules", seen=seen)
    run_attempt(asked.job_id, 1, workshop, Events())
    found = ledger.jobs.find(asked.job_id)
    assert found is not None
    return found


def series(workshop: Workshop, series_instance_uid: str) -> Series:
    found = workshop.ledger.receipts.find_series(series_instance_uid)
    assert found is not None
    return found


def objects(workshop: Workshop, done: Job) -> dict[str, Any]:
    return {
        result.kind: pydicom.dcmread(workshop.spool.resolve(result.path))
        for result in workshop.ledger.jobs.results(done.job_id)
    }


def test_a_bad_slice_inside_declines_its_series_at_once_and_the_study_goes_on(
    workshop: Workshop,
) -> None:
    damage(workshop, 20)
    declined = run(workshop, POISONED)
    assert (declined.state, declined.attempt) == (JobState.DEAD, 1)
    assert declined.reason.startswith(
        "input.unreadable_instances: 1 of 40 images cannot be read: "
        f"instances/{STUDY}/{POISONED}/0020.dcm (input.undecodable); "
    )
    assert series(workshop, POISONED).state is SeriesState.DECLINED
    assert cast(Pool, workshop.pool).predictions == 0
    other = run(workshop, SOUND)
    assert (other.state, other.reason) == (JobState.SUCCEEDED, "result")
    assert series(workshop, SOUND).state is SeriesState.ROUTED


def test_a_bad_slice_at_the_end_is_left_out_and_ledger_and_report_say_so(
    workshop: Workshop,
) -> None:
    path = workshop.spool.root / f"instances/{STUDY}/{POISONED}/0040.dcm"
    left_out = str(pydicom.dcmread(path).SOPInstanceUID)
    damage(workshop, 40)
    done = run(workshop, POISONED)
    assert done.state is JobState.SUCCEEDED
    assert done.reason == (
        "result, 1 of 40 images cannot be read: "
        f"instances/{STUDY}/{POISONED}/0040.dcm (input.undecodable)"
    )
    made = objects(workshop, done)
    report = made["volumetric report"].to_json()
    assert "1 of 40 images could not be read and was left out" in report
    assert left_out not in made["segmentation"].to_json()
    assert left_out not in report
    assert len(made["segmentation"].ReferencedSeriesSequence[0].ReferencedInstanceSequence) < 40


def test_a_series_that_never_had_the_bad_slice_has_other_objects(workshop: Workshop) -> None:
    path = damage(workshop, 40)
    with_remark = objects(workshop, run(workshop, POISONED))
    path.unlink()
    ledger = workshop.ledger
    ledger.receipts.change(POISONED, SeriesState.RECEIVING, "late_instances")
    remaining = [
        one for one in ledger.receipts.instances(POISONED) if not one.path.endswith("0040.dcm")
    ]
    without = dataclasses.replace(workshop, ledger=cast(Ledger, _Knowing(ledger, remaining)))
    ledger.receipts.change(POISONED, SeriesState.COMPLETE, "quiet_period")
    again = dataclasses.replace(
        job("job-again"), model_id="tiny", model_version="2", series_instance_uid=POISONED,
        study_instance_uid=STUDY,
    )
    assert ledger.jobs.route(POISONED, [again], "rules", seen=START)
    run_attempt("job-again", 1, without, Events())
    found = ledger.jobs.find("job-again")
    assert found is not None
    other = objects(workshop, found)
    assert set(other) == set(with_remark)
    for kind, dataset in other.items():
        assert dataset.SOPInstanceUID != with_remark[kind].SOPInstanceUID


class _Knowing:
    """A ledger that knows of these instances only."""

    def __init__(self, ledger: Ledger, instances: list[Instance]) -> None:
        self._ledger, self._instances = ledger, instances
        self.receipts = self

    def instances(self, _series_instance_uid: str) -> list[Instance]:
        return self._instances

    def find_series(self, series_instance_uid: str) -> Series | None:
        return self._ledger.receipts.find_series(series_instance_uid)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


def test_a_slice_that_crashes_the_codec_is_tried_once_and_routing_needs_no_codec(
    workshop: Workshop,
) -> None:
    ledger = workshop.ledger
    path = workshop.spool.root / f"instances/{STUDY}/{POISONED}/0020.dcm"
    crashing = path.rename(path.with_name("crash-0020.dcm"))
    renamed = [
        dataclasses.replace(one, path=one.path.replace("0020", "crash-0020"))
        for one in ledger.receipts.instances(POISONED)
    ]
    ledger.index(renamed)
    assert representative(workshop.spool, renamed).SeriesInstanceUID == POISONED
    assert bad_codec.tries(crashing) == 0
    declined = run(workshop, POISONED)
    assert declined.state is JobState.DEAD
    assert "crash-0020.dcm (input.codec_crashed)" in declined.reason
    assert run(workshop, SOUND).state is JobState.SUCCEEDED
    assert bad_codec.tries(crashing) == 1
