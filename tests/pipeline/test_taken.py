"""A job takes the series that the ledger has for its roles, and says of the others why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ai_models.catalog import Catalog
from dicom_node.errors import StorageFailed, UnsuitableInput
from dicom_node.pipeline.process import process
from dicom_node.pipeline.taken import taken_by
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Job, JobInput, SeriesState
from tests.ai_models.tiny_models import write_model
from tests.dicom_samples import write_instance
from tests.ledger.conftest import START, instance, job
from tests.pet_ct import pet_of
from tests.pipeline.test_companions import PT, REQUIRED, bright_of, evidence, sentences

PET_UID = "1.2.4"


def with_pet(workshop: Workshop) -> None:
    """A PET of the same study, which no rule took."""
    first = workshop.ledger.receipts.instances("1.2.3")[0]
    reference = pydicom.dcmread(workshop.spool.resolve(first.path))
    received = []
    pet = pet_of(reference, values_bqml=np.full((10, 10, 8), 9000.0))
    for number, dataset in enumerate(pet, start=101):
        one = instance(number)
        path = Path(one.path).with_name(f"pet-{number}.dcm")
        one = dataclasses.replace(
            one, sop_instance_uid=str(dataset.SOPInstanceUID), series_instance_uid=PET_UID,
            path=str(path),
        )
        write_instance(dataset, workshop.spool.root / path)
        received.append(one)
    workshop.ledger.index(received)
    workshop.ledger.receipts.change(PET_UID, SeriesState.COMPLETE, "quiet_period")
    workshop.ledger.receipts.change(PET_UID, SeriesState.DECLINED, "no_rule_matched")


def started(workshop: Workshop, *inputs: JobInput) -> Job:
    workshop.ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    asked = dataclasses.replace(job("job-1"), model_id="joint", model_version="1.0")
    assert workshop.ledger.jobs.route(
        "1.2.3", [asked], "rules", seen=START, inputs={"job-1": list(inputs)}
    )
    running = workshop.ledger.jobs.start("job-1", 1)
    assert running is not None
    return running


def with_model(workshop: Workshop, tmp_path: Path, companion: dict[str, object]) -> Workshop:
    write_model(
        tmp_path / "models" / "joint", bright_of(2), id="joint", input__role="ct",
        input__companions=[companion],
    )
    return dataclasses.replace(workshop, catalog=Catalog([tmp_path / "models"]))


def test_a_job_takes_the_series_of_its_roles(workshop: Workshop, tmp_path: Path) -> None:
    workshop = with_model(workshop, tmp_path, PT)
    with_pet(workshop)
    study = workshop.ledger.receipts.instances("1.2.3")[0].study_instance_uid
    done = process(started(workshop, JobInput("pt", PET_UID, study, "the only one")), workshop)
    report = next(one for kind, one in done.objects if kind.endswith("report"))
    assert sorted(evidence(report).values()) == [1, 10, 12]
    assert not done.loaded.missing


def test_a_job_that_waited_in_vain_says_so(workshop: Workshop, tmp_path: Path) -> None:
    workshop = with_model(workshop, tmp_path, PT)
    waited = JobInput("pt", "", "", "not there within 15 min", waits=True)
    done = process(started(workshop, waited), workshop)
    report = next(one for kind, one in done.objects if kind.endswith("report"))
    said = sentences(report)
    told = next(at for at, one in enumerate(said)
                if "without pt (not there within 15 min): from ct alone" in one)
    answers = [at for at, one in enumerate(said) if " ml" in one]
    assert answers and told < min(answers), "what was lacking stands before the answer"


def test_a_job_without_what_its_model_requires_is_not_done(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop = with_model(workshop, tmp_path, REQUIRED)
    gone = JobInput("pt", "1.2.99", "1.2", "the only one")
    with pytest.raises(UnsuitableInput) as told:
        process(started(workshop, gone), workshop)
    assert told.value.reason == "input.companion_missing"
    assert "not kept any more" in str(told.value)


def test_a_series_that_only_this_host_has_lost_sight_of_is_not_done_without(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pet(workshop)
    asked = started(workshop, JobInput("pt", PET_UID, "1.2", "the only one"))
    seen = workshop.spool.resolve_all
    monkeypatch.setattr(
        workshop.spool, "resolve_all",
        lambda paths: [path.with_suffix(".gone") if "pet" in path.name else path
                       for path in seen(paths)],
    )
    with pytest.raises(StorageFailed):
        taken_by(asked, workshop)
