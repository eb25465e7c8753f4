"""Two examinations of one drawn chest: balls of known volumes are tracked, timed, new or gone."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from ai_models.card import Card, load_card
from ai_models.predictor import Predictor
from ai_models.types import ModelInput, Prediction
from dicom_node.errors import DeadlineExceeded, ModelFailed
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.pipeline.follow_up import Earlier
from dicom_node.results.equipment import node_equipment
from dicom_node.results.follow_up import FollowUp
from tests.dicom_samples import with_attributes, write_series
from tests.pipeline.followed_chests import Ball, another_table, examination, write_balls_model

WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 3, 1, 8, 0, tzinfo=UTC))
GROWN, STEADY, NEW, GONE = (-75.0, 5.0, 15.0), (70.0, 25.0, -10.0), (-60.0, 45.0, -25.0), (
    80.0, 5.0, 30.0
)
NOW = [Ball(GROWN, 8.0), Ball(STEADY, 4.0), Ball(NEW, 2.0)]
THEN = [Ball(STEADY, 4.0), Ball(GROWN, 3.2), Ball(GONE, 5.0)]
DAYS = 200
DOUBLING_D = DAYS * math.log(2) / math.log(8.0 / 3.2)


class Model:
    """Runs the model in this process, and counts."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.card = load_card(write_balls_model(folder / "balls", **changes))
        self.asked = 0

    def __call__(self, card: Card, source: ModelInput) -> Prediction:
        self.asked += 1
        predictor = Predictor(card, "cpu")
        predictor.load()
        return predictor.predict(source)

    def on(self, paths: list[Path], earlier: Earlier | None = None, **more: Any) -> Analysis:
        return analyse(paths, self.card, self, replace(WRITING, **more), earlier=earlier)


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Dataset], list[Dataset]]:
    return examination(NOW), examination(THEN, DAYS, motion=another_table())


@pytest.fixture
def both(
    tmp_path: Path, chests: tuple[list[Dataset], list[Dataset]]
) -> tuple[list[Path], list[Path]]:
    now, then = chests
    return write_series(now, tmp_path / "now"), write_series(then, tmp_path / "then")


def followed(analysis: Analysis) -> FollowUp:
    assert analysis.request.follow_up is not None
    return analysis.request.follow_up


def texts(report: Dataset) -> str:
    """The comments of a report, one a line."""
    return "\n".join(_comments(report))


def _comments(item: Dataset) -> list[str]:
    found = [str(item.TextValue)] if item.get("ValueType") == "TEXT" else []
    return found + [text for child in item.get("ContentSequence", []) for text in _comments(child)]


def groups(report: Dataset) -> list[Dataset]:
    (found,) = [one for one in report.ContentSequence
                if one.ConceptNameCodeSequence[0].CodeValue == "126010"]
    return list(found.ContentSequence)


def value(group: Dataset, code: str) -> float | None:
    found = [one for one in group.ContentSequence
             if one.ValueType == "NUM" and one.ConceptNameCodeSequence[0].CodeValue == code]
    return float(found[0].MeasuredValueSequence[0].NumericValue) if found else None


def tracking(dataset: Dataset) -> dict[str, str]:
    return {str(one.SegmentLabel): str(one.TrackingUID) for one in dataset.SegmentSequence}


def test_a_nodule_keeps_its_tracking_uid_and_has_the_doubling_time_that_it_was_drawn_with(
    tmp_path: Path, both: tuple[list[Path], list[Path]]
) -> None:
    now, then = both
    model = Model(tmp_path)
    before = tracking(model.on(then).objects[0][1])
    analysis = model.on(now, Earlier(then))
    found = tracking(analysis.objects[0][1])
    # Numbered by volume in each examination: what is 1 and 2 now was 3 and 2 then.
    assert found["Nodule 1"] == before["Nodule 3"]
    assert found["Nodule 2"] == before["Nodule 2"]
    assert found["Nodule 3"] not in before.values()
    report = dict(analysis.objects)["volumetric report"]
    first, second, third = groups(report)
    assert value(first, "DOUBLING_TIME") == pytest.approx(DOUBLING_D, rel=0.05)
    assert value(second, "DOUBLING_TIME") is None and value(third, "DOUBLING_TIME") is None
    (study,) = report.PertinentOtherEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert len(series.ReferencedSOPSequence) == len(then)
    told = texts(report)
    for sentence in (
        "Compared with an examination 200 days before.", "Nodule 1: grown by 1",
        "Nodule 2: in 200 days not changed by more than the error of measurement",
        "Nodule 3: not found in the examination 200 days before.",
        "Nodule 1 of 200 days before, ",
    ):
        assert sentence in told
    again = model.on(now, Earlier(then))
    assert [one.SOPInstanceUID for _, one in again.objects] == [
        one.SOPInstanceUID for _, one in analysis.objects
    ]
    alone = model.on(now)
    assert {one.SOPInstanceUID for _, one in alone.objects}.isdisjoint(
        one.SOPInstanceUID for _, one in analysis.objects
    )
