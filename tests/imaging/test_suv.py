"""Standardised uptake: the right number, or the reason why there is none."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.suv import suv_factor, to_suv
from dicom_node.imaging.volume import load_volume
from tests.dicom_samples import ct_series, write_series
from tests.pet_ct import HALF_LIFE_S, pet_of, suv_of


def pet(**attributes: Any) -> list[Dataset]:
    return pet_of(ct_series()[0], **attributes)


def injected(images: list[Dataset], **attributes: Any) -> list[Dataset]:
    for image in images:
        item = image.RadiopharmaceuticalInformationSequence[0]
        for keyword, value in attributes.items():
            setattr(item, keyword, value)
    return images


def test_activity_becomes_uptake_by_weight_and_decayed_dose(tmp_path: Path) -> None:
    values = np.zeros((6, 10, 8))
    values[2, 4, 5] = 25000.0
    loaded = load_volume(write_series(pet(values_bqml=values), tmp_path))
    uptake = to_suv(loaded).volume
    assert uptake.unit == "SUVbw" and uptake.array.dtype == np.float32
    assert uptake.array[2, 4, 5] == pytest.approx(suv_of(25000.0), rel=1e-5)
    assert np.count_nonzero(uptake.array) == 1


def test_corrected_to_the_injection_nothing_has_decayed() -> None:
    assert suv_factor(pet(DecayCorrection="ADMIN")) == pytest.approx(suv_of(1.0, 0.0))


def test_a_series_time_of_later_processing_is_not_the_start() -> None:
    """Then Acquisition Time less Frame Reference Time, but for the middle of the frame, is."""
    constant = np.log(2) / HALF_LIFE_S
    during = constant * 120.0
    middle_s = np.log(during / (1 - np.exp(-during))) / constant
    images = pet(SeriesTime="170000", AcquisitionTime="102500",
                 FrameReferenceTime=f"{(600.0 + middle_s) * 1000.0:.4f}")
    assert suv_factor(images) == pytest.approx(suv_of(1.0), rel=1e-6)


def test_a_series_without_frame_times_starts_with_its_first_acquisition() -> None:
    images = pet(SeriesTime="170000", FrameReferenceTime=None)
    images[3].AcquisitionTime = "101500"
    for image in images[:3]:
        image.AcquisitionTime = "102000"
    assert suv_factor(images) == pytest.approx(suv_of(1.0), rel=1e-6)


@pytest.mark.parametrize(("scan", "given", "stated"), [
    ("003000", {"RadiopharmaceuticalStartTime": "233000"}, None),
    ("101500", {"RadiopharmaceuticalStartDateTime": "20261122091500"}, None),
    ("101500", {"RadiopharmaceuticalStartDateTime": "20261122081500.000000+0000"}, "+0100"),
])
def test_the_injection_may_be_before_midnight_or_say_its_date_and_zone(
    scan: str, given: dict[str, str], stated: str | None
) -> None:
    images = pet(SeriesTime=scan, AcquisitionTime=scan, TimezoneOffsetFromUTC=stated)
    assert suv_factor(injected(images, **given)) == pytest.approx(suv_of(1.0), rel=1e-6)


@pytest.mark.parametrize("kind", [None, "BW"])
def test_values_that_are_uptake_by_body_weight_stay_as_they_are(kind: str | None) -> None:
    assert suv_factor(pet(Units="GML", SUVType=kind, PatientWeight=None)) == 1.0


@pytest.mark.parametrize(("reason", "attributes"), [
    ("input.suv_units", {"Units": "CNTS"}),
    ("input.suv_units", {"Units": None}),
    ("input.suv_units", {"Units": "GML", "SUVType": "LBM"}),
    ("input.suv_units", {"Modality": "NM"}),
    ("input.suv_not_corrected", {"DecayCorrection": "NONE"}),
    ("input.suv_not_corrected", {"DecayCorrection": None}),
    ("input.suv_not_corrected", {"CorrectedImage": ["NORM", "DECY"]}),
    ("input.suv_not_corrected", {"CorrectedImage": None}),
    ("input.suv_missing", {"PatientWeight": None}),
    ("input.suv_missing", {"PatientWeight": "0"}),
    ("input.suv_missing", {"RadiopharmaceuticalInformationSequence": None}),
    ("input.suv_missing", {"AcquisitionTime": None}),
    ("input.suv_missing", {"RescaleSlope": None}),
    ("input.suv_implausible", {"SeriesTime": "170000", "FrameReferenceTime": "1e17"}),
    ("input.suv_implausible", {"PatientWeight": "70000"}),
    ("input.suv_implausible", {"SeriesDate": "20261120", "AcquisitionDate": "20261125"}),
])
def test_what_is_not_stated_or_cannot_be_is_refused(
    reason: str, attributes: dict[str, Any]
) -> None:
    images = pet(**attributes)
    if "SeriesDate" in attributes:
        injected(images, RadiopharmaceuticalStartDateTime="20261124101500")
    with pytest.raises(UnsuitableInput) as told:
        suv_factor(images)
    assert told.value.reason == reason


@pytest.mark.parametrize(("reason", "attributes"), [
    ("input.suv_missing", {"RadionuclideTotalDose": None}),
    ("input.suv_missing", {"RadionuclideHalfLife": None}),
    ("input.suv_missing", {"RadiopharmaceuticalStartTime": ""}),
    ("input.suv_implausible", {"RadionuclideTotalDose": "350"}),
    ("input.suv_implausible", {"RadiopharmaceuticalStartDateTime": "20261122111500"}),
])
def test_a_dose_in_other_units_or_without_its_time_is_refused(
    reason: str, attributes: dict[str, Any]
) -> None:
    with pytest.raises(UnsuitableInput) as told:
        suv_factor(injected(pet(), **attributes))
    assert told.value.reason == reason


def test_images_that_do_not_agree_and_two_injections_are_refused() -> None:
    mixed = pet()
    mixed[2].DecayCorrection = "ADMIN"
    twice = pet()
    for image in twice:
        items = image.RadiopharmaceuticalInformationSequence
        image.RadiopharmaceuticalInformationSequence = [items[0], items[0]]
    heavier, another = pet(), pet()
    heavier[3].PatientWeight = "110"
    another[4] = injected(deepcopy(another[4:5]), RadionuclideTotalDose="150000000")[0]
    for images in (mixed, twice, heavier, another):
        with pytest.raises(UnsuitableInput) as told:
            suv_factor(images)
        assert told.value.reason == "input.suv_mixed"


def test_an_injection_written_in_another_time_zone_is_no_injection_of_the_day_before() -> None:
    """At UTC-5 an hour before the scan is, in UTC, four hours after it: not twenty before it."""
    images = injected(pet(), RadiopharmaceuticalStartTime="141500")
    with pytest.raises(UnsuitableInput) as told:
        suv_factor(images)
    assert told.value.reason == "input.suv_implausible"


def test_of_what_decays_slowly_a_time_of_day_does_not_say_when_it_was_injected() -> None:
    zirconium = injected(pet(), RadionuclideHalfLife="282240")
    with pytest.raises(UnsuitableInput) as told:
        suv_factor(zirconium)
    assert told.value.reason == "input.suv_missing"
    dated = injected(zirconium, RadiopharmaceuticalStartDateTime="20261119091500")
    ratio = 2 ** (timedelta(days=3, hours=1).total_seconds() / 282240)
    assert suv_factor(dated) == pytest.approx(suv_of(1.0, 0.0) * ratio, rel=1e-6)
