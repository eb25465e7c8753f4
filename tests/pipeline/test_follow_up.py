"""Two examinations of one drawn chest: balls of known volumes are tracked, timed, new or gone."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ai_models.array.alignment import Alignment
from ai_models.card import Card, load_card
from ai_models.predictor import Predictor
from ai_models.types import ModelInput, Prediction, SegmentationPrediction
from dicom_node.errors import DeadlineExceeded, ModelFailed
from dicom_node.pipeline import follow_up as follow_up_module
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.pipeline.follow_up import Earlier
from dicom_node.pipeline.summary import lines, summary
from dicom_node.results.equipment import node_equipment
from dicom_node.results.follow_up import FollowUp
from tests.dicom_samples import ct_series, write_series
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


SAME = Alignment(np.eye(4), 1.0, 1.0)


class Fixed:
    """A small series of each examination, and a model that marks one block in each."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.card = load_card(write_balls_model(folder / "balls"))
        self.now, self.then = (
            write_series(self.series(day), folder / day) for day in ("20260301", "20260101")
        )
        self.blocks: list[tuple[slice, slice, slice] | None] = [BLOCK, BLOCK]
        self.asked: list[ModelInput] = []
        monkeypatch.setattr(follow_up_module, "align", lambda _now, _then: SAME)

    def series(self, day: str, **more: Any) -> list[Dataset]:
        return ct_series((12, 32, 40), **{
            "PatientID": "FOLLOWED", "StudyDate": day, "AcquisitionDate": day,
            "ContentDate": day, **more,
        })

    def __call__(self, card: Card, source: ModelInput) -> Prediction:
        self.asked.append(source)
        block = self.blocks[len(self.asked) - 1]
        label_map = np.zeros(source.array.shape, np.uint8)
        if block is not None:
            label_map[block] = 1
        return SegmentationPrediction(label_map, card.labels, card.algorithm())

    def run(self, earlier: Earlier) -> Analysis:
        return analyse(self.now, self.card, self, WRITING, earlier=earlier)


BLOCK = (slice(2, 6), slice(5, 12), slice(6, 14))


@pytest.fixture
def fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fixed:
    return Fixed(tmp_path, monkeypatch)


def problem(fixed: Fixed, **changes: Any) -> str:
    """Why the earlier examination is not compared when its headers say something else."""
    paths = write_series(fixed.series("20260101", **changes), fixed.then[0].parent / "changed")
    analysis = fixed.run(Earlier(paths))
    why = followed(analysis).problem
    report = dict(analysis.objects)["volumetric report"]
    assert f"Not compared with an earlier examination: {why}." in texts(report)
    assert "PertinentOtherEvidenceSequence" not in report
    assert value(groups(report)[0], "DOUBLING_TIME") is None
    return why


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PatientID": "SOMEBODY ELSE"}, "it is not of the same patient"),
        ({"PatientBirthDate": "19310203"}, "it is not of the same patient"),
        ({"AcquisitionDate": "20260301"}, "it is not of an earlier day"),
        ({"AcquisitionDate": "20270101"}, "it is not of an earlier day"),
        ({"PixelSpacing": None}, "input."),
        ({"Modality": "MR"}, "input.modality"),
    ],
)
def test_what_is_not_an_earlier_examination_of_this_patient_is_not_compared(
    fixed: Fixed, changes: dict[str, Any], expected: str
) -> None:
    assert problem(fixed, **changes).startswith(expected)


def test_why_there_is_no_earlier_examination_is_said(fixed: Fixed) -> None:
    analysis = fixed.run(Earlier(reason="there is none here or at pacs"))
    assert followed(analysis).problem == "there is none here or at pacs"
    assert summary(analysis)["follow_up"] == {"problem": "there is none here or at pacs"}


def test_examinations_that_do_not_go_together_are_not_compared(
    fixed: Fixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlike = Alignment(np.eye(4), 0.3, 0.9)
    monkeypatch.setattr(follow_up_module, "align", lambda _now, _then: unlike)
    assert "with certainty (likeness 0.30" in followed(fixed.run(Earlier(fixed.then))).problem


def test_a_model_that_fails_on_the_earlier_images_does_not_cost_the_result_on_the_present(
    fixed: Fixed,
) -> None:
    def failing(card: Card, source: ModelInput) -> Prediction:
        if fixed.asked:
            raise ModelFailed("it fails")
        return fixed(card, source)

    analysis = analyse(fixed.now, fixed.card, failing, WRITING, earlier=Earlier(fixed.then))
    assert analysis.outcome == "result"
    assert followed(analysis).problem == "model.failed: it fails"


def test_a_model_that_is_late_on_the_earlier_images_is_tried_another_time(fixed: Fixed) -> None:
    def late(card: Card, source: ModelInput) -> Prediction:
        if fixed.asked:
            raise DeadlineExceeded("not now")
        return fixed(card, source)

    with pytest.raises(DeadlineExceeded):
        analyse(fixed.now, fixed.card, late, WRITING, earlier=Earlier(fixed.then))


def test_what_the_ledger_has_of_the_earlier_examination_is_not_computed_again(
    fixed: Fixed,
) -> None:
    before = fixed.run(Earlier(fixed.then))
    fixed.asked.clear()
    on_then = analyse(fixed.then, fixed.card, fixed, WRITING)
    said = {"model_version": fixed.card.version, **summary(on_then)}
    fixed.asked.clear()
    again = fixed.run(Earlier(fixed.then, said=said))
    assert len(fixed.asked) == 1
    assert tracking(again.objects[0][1]) == tracking(before.objects[0][1])
    for other in ({**said, "model_version": "0.9"}, {"model_version": fixed.card.version}):
        fixed.asked.clear()
        fixed.run(Earlier(fixed.then, said=other))
        assert len(fixed.asked) == 2


def test_the_same_two_examinations_give_the_same_objects_and_others_than_one_alone(
    fixed: Fixed,
) -> None:
    def uids(earlier: Earlier | None) -> list[str]:
        fixed.asked.clear()
        analysis = analyse(fixed.now, fixed.card, fixed, WRITING, earlier=earlier)
        return [str(one.SOPInstanceUID) for _, one in analysis.objects]

    both = uids(Earlier(fixed.then))
    assert uids(Earlier(fixed.then)) == both
    others = uids(None) + uids(Earlier(reason="none")) + uids(Earlier(reason="none here"))
    assert len({*both, *others}) == len(both) + len(others)


def test_a_finding_is_tracked_on_as_it_was_reported_of_the_earlier_examination(
    fixed: Fixed, tmp_path: Path
) -> None:
    segmentation = analyse(fixed.then, fixed.card, fixed, WRITING).objects[0][1]
    # As the earlier examination was itself compared with one before it.
    segmentation.SegmentSequence[0].TrackingUID = "2.25.77"

    def tracked(**changes: Any) -> str:
        path = tmp_path / "segmentation.dcm"
        written = copy.deepcopy(segmentation)
        for keyword, said in changes.items():
            segment = written.SegmentSequence[0]
            setattr(segment if keyword in segment else written, keyword, said)
        written.save_as(path, enforce_file_format=True)
        fixed.asked.clear()
        found = fixed.run(Earlier(fixed.then, segmentations=[tmp_path / "none.dcm", path]))
        (uid,) = tracking(found.objects[0][1]).values()
        return uid

    assert tracked() == "2.25.77"
    fixed.asked.clear()
    (derived,) = tracking(fixed.run(Earlier(fixed.then)).objects[0][1]).values()
    assert derived != "2.25.77"
    for other in ({"TrackingID": "another-model Nodule"}, {"PatientID": "SOMEBODY ELSE"},
                  {"PixelData": b"\0"}):
        assert tracked(**other) == derived


def test_an_explicit_negative_says_what_was_there_before(fixed: Fixed) -> None:
    fixed.blocks = [None, BLOCK]
    analysis = fixed.run(Earlier(fixed.then))
    assert analysis.outcome == "no_finding"
    told = texts(dict(analysis.objects)["negative report"])
    assert "Nodule of 59 days before, 0.210 ml" in told and "was not found any more" in told
    assert lines(analysis)[-2:] == [
        "  compared with an examination 59 days before", "    Nodule before: not found any more",
    ]


def test_a_place_that_only_one_examination_shows_is_neither_new_nor_gone(
    fixed: Fixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = np.eye(4)
    apart[0, 3] = 500.0
    monkeypatch.setattr(follow_up_module, "align", lambda _now, _then: Alignment(apart, 0.9, 0.9))
    analysis = fixed.run(Earlier(fixed.then))
    known = followed(analysis)
    assert (known.new, known.gone) == ((), ())
    assert known.beyond_earlier == (1,) and len(known.beyond_present) == 1
    told = texts(dict(analysis.objects)["volumetric report"])
    assert "its place is not in the images of 59 days before" in told
    assert "its place is not in these images" in told
