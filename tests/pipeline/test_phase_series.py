"""Phases in several series through one model: all are used and named, and what is not there is too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ai_models.card import Card
from ai_models.types import JointInput
from dicom_node.errors import UnsuitableInput
from dicom_node.pipeline.analysis import Analysis, analyse
from tests.dicom_samples import mr_series, write_series
from tests.pipeline.test_companions import (
    WRITING,
    Kept,
    card_of,
    evidence,
    report_of,
)

SHAPE = (12, 32, 40)
BRIGHTNESS = (700, 900, 800)


def phases(folder: Path, last: Dataset | None = None) -> list[list[Path]]:
    """Three phases, a series each; ``last`` has what differs in the last one."""
    files, first = [], None
    for number, brightness in enumerate(BRIGHTNESS):
        values = np.full(SHAPE, 100, np.int16)
        values[3:9, 8:24, 8:24] = brightness
        datasets = mr_series(SHAPE, values=values)
        first = first or datasets[0]
        uid = generate_uid()
        for one in datasets:
            one.StudyInstanceUID, one.FrameOfReferenceUID = (
                first.StudyInstanceUID, first.FrameOfReferenceUID
            )
            one.SeriesInstanceUID, one.SeriesNumber = uid, 10 + number
            one.AcquisitionTime = f"10{2 * number:02d}00"
            if number == 2 and last is not None:
                one.update(last)
        files.append(write_series(datasets, folder / str(number)))
    return files


PHASED = {
    "input__role": "mr", "input__companions": [], "input__modality": ["MR"],
    "report": "structures", "input__phases": {"min": 3, "max": 3},
    "input__intensity": {"unit": "arbitrary", "scale_to": [0, 1]},
}


def card(folder: Path) -> Card:
    return card_of(folder, channels=3, **PHASED)


def done(
    paths: Sequence[Path], card: Card, taken: Mapping[str, Sequence[Path]],
    missing: Mapping[str, str] = {},
) -> tuple[Analysis, JointInput]:
    predict = Kept()
    found = analyse(paths, card, predict, WRITING, companions=taken, missing=missing)
    assert isinstance(predict.source, JointInput)
    return found, predict.source


def series_of(dataset: Dataset) -> str:
    return str(dataset.SeriesInstanceUID)


def test_phases_of_several_series_are_in_order_of_time_and_all_are_evidence(
    tmp_path: Path
) -> None:
    before, later, last = phases(tmp_path)
    asked = card(tmp_path)
    found, source = done(before, asked, {"phases 1": last, "phases 2": later})
    assert [int(one.array.max()) for one in source.phases] == list(BRIGHTNESS)
    assert source.times_s == (0.0, 120.0, 240.0)
    # The segmentation, and all images of each series.
    assert sorted(evidence(report_of(found)).values()) == [1, 12, 12, 12]
    assert not found.request.lacking
    # Whichever of them the job is of, and whatever came first: these very objects.
    other, _ = done(last, asked, {"phases 1": later, "phases 2": before})
    assert [one.SOPInstanceUID for _, one in other.objects] == [
        one.SOPInstanceUID for _, one in found.objects
    ]
    (segmentation,) = [one for kind, one in found.objects if kind == "segmentation"]
    referenced = {series_of(one) for one in segmentation.ReferencedSeriesSequence}
    assert referenced == {series_of(found.loaded.source_images[0])}


def test_too_few_phases_are_refused_with_the_series_that_are_not_there(tmp_path: Path) -> None:
    before, later, _ = phases(tmp_path)
    with pytest.raises(UnsuitableInput) as told:
        done(before, card(tmp_path), {"phases 1": later}, {"phases 2": "not there within 15 min"})
    assert told.value.reason == "input.too_few_phases"
    assert str(told.value) == (
        "2 phases, the model needs 3; without 1 of 2 further series of phases (not there within "
        "15 min)"
    )


def test_one_series_too_many_is_refused(tmp_path: Path) -> None:
    before, later, last = phases(tmp_path)
    with pytest.raises(UnsuitableInput) as told:
        done(before, card(tmp_path), {"phases 1": later, "phases beyond": last})
    assert told.value.reason == "input.too_many_phase_series"
    assert "more than the 1 further series of phases that the rule names fit" in str(told.value)


@pytest.mark.parametrize(("attribute", "value", "reason"), [
    ("PatientID", "SOMEBODY ELSE", "input.companion_patient"),
    ("FrameOfReferenceUID", "1.2.3.4", "input.companion_frame"),
    ("Modality", "CT", "input.modality"),
])
def test_a_series_that_does_not_belong_to_the_others_is_refused(
    tmp_path: Path, attribute: str, value: str, reason: str
) -> None:
    change = Dataset()
    setattr(change, attribute, value)
    before, later, last = phases(tmp_path, change)
    with pytest.raises(UnsuitableInput) as told:
        done(before, card(tmp_path), {"phases 1": later, "phases 2": last})
    assert told.value.reason == reason
