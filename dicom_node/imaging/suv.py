"""From activity to standardised uptake, SUVbw in g/ml (PS3.3 C.8.9.1; PS3.16 CID 85).

    SUVbw = (Bq/ml) * weight in g / (injected dose in Bq, decayed to the time of the scan)

The time of the scan is the start of the series where the images were corrected to it (Decay
Correction START), and the injection itself where they were corrected to that (ADMIN). Series Time
may have been changed by what was done to the images later: then it lies after Acquisition Time,
and the start follows from Acquisition Time and Frame Reference Time, as the profile of the
Quantitative Imaging Biomarkers Alliance has it (FDG-PET/CT, appendix on SUV calculation). What is
not stated is not guessed: such a series is refused, with what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset

from ai_models.types import Volume
from dicom_node.imaging.elements import number, sequence, text
from dicom_node.imaging.planes import decline
from dicom_node.imaging.times import moment, zone
from dicom_node.imaging.volume import LoadedVolume

SUVBW = "SUVbw"
_DOSE_BQ = (1e5, 2e10)
_WEIGHT_KG = (0.3, 650.0)
# Of what is left after so many half-lives nobody takes an image: a date, a time or the clock that
# it was read from is wrong. FDG is scanned within three of them; eleven would pass for a dose
# that was written down in another time zone, with uptake a thousand times too high.
_MOST_HALF_LIVES = 6.0
_DAY_S = 86_400.0
# Series Time and Acquisition Time are written with other digits by the same clock.
_SAME_MOMENT_S = 1.0
_OF_THE_INJECTION = (
    "RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartDateTime",
    "RadiopharmaceuticalStartTime",
)


def to_suv(loaded: LoadedVolume) -> LoadedVolume:
    """The same series in g/ml, unit ``SUVbw``, float32.

    Raises
    ------
    UnsuitableInput
        As `suv_factor`.
    """
    volume = loaded.volume
    values = np.asarray(volume.array, dtype=np.float32) * np.float32(
        suv_factor(loaded.source_images)
    )
    return replace(loaded, volume=Volume(values, volume.affine_lps, SUVBW))


def suv_factor(images: Sequence[Dataset]) -> float:
    """By what values after the modality LUT are multiplied to be SUVbw in g/ml.

    Parameters
    ----------
    images
        Headers of one PET series (PS3.3 A.21), all of it: its earliest image counts.

    Raises
    ------
    UnsuitableInput
        ``input.suv_units``: neither BQML nor GML that are SUVbw; ``input.suv_not_corrected``: no
        attenuation or decay correction; ``input.suv_missing``: names what is not stated;
        ``input.suv_implausible``: a number or a time that cannot be; ``input.suv_mixed``: the
        images do not agree on what must be one.
    """
    first = images[0]
    if text(first, "Modality") != "PT":
        raise decline("suv_units", "only a PET has standardised uptake values")
    units = _one(images, "Units").upper()
    if units == "GML":
        kind = _one(images, "SUVType").upper()
        # PS3.3 C.8.9.1.1.3: without a type GML are normalised by body weight.
        if kind not in ("", "BW"):
            raise decline("suv_units", f"the values are SUV by {kind}, not by body weight")
        return 1.0
    if units != "BQML":
        raise decline("suv_units", f"SUV follow from BQML, the values are {units or 'unstated'}")
    correction = _one(images, "DecayCorrection").upper()
    corrected = {part.strip().upper() for part in _one(images, "CorrectedImage").split("\\")}
    if correction not in ("START", "ADMIN"):
        raise decline(
            "suv_not_corrected", f"Decay Correction is {correction or 'unstated'}, START or ADMIN "
            "expected",
        )
    if "ATTN" not in corrected:
        raise decline("suv_not_corrected", "the images are not corrected for attenuation")
    if any("PerFrameFunctionalGroupsSequence" not in one and number(one, "RescaleSlope") is None
           for one in images):
        raise decline("suv_missing", "Rescale Slope is not stated")
    _check_one_injection(images)
    weight_kg = _positive(first, "PatientWeight", "Patient's Weight", _WEIGHT_KG, "kg")
    items = sequence(first, "RadiopharmaceuticalInformationSequence")
    if len(items) != 1:
        raise decline(
            "suv_mixed" if items else "suv_missing",
            f"{len(items)} items in Radiopharmaceutical Information, 1 expected",
        )
    dose_bq = _positive(
        items[0], "RadionuclideTotalDose", "Radionuclide Total Dose", _DOSE_BQ, "Bq"
    )
    if correction == "START":
        dose_bq *= _left_at_start(images, items[0])
    return weight_kg * 1000.0 / dose_bq


def _left_at_start(images: Sequence[Dataset], item: Dataset) -> float:
    """Share of the injected activity that is left at the start of the series."""
    half_life_s = _positive(item, "RadionuclideHalfLife", "Radionuclide Half Life", (1, 1e8), "s")
    start = _start(images)
    elapsed_s = (start - _injected_at(images[0], item, start)).total_seconds()
    is_dated = moment(text(item, "RadiopharmaceuticalStartDateTime")) is not None
    if not is_dated and elapsed_s >= 0 and elapsed_s + _DAY_S <= _MOST_HALF_LIVES * half_life_s:
        # Zirconium is scanned days later: a time of day says nothing of which.
        raise decline("suv_missing", "on which day it was injected is not stated")
    if not 0 <= elapsed_s <= _MOST_HALF_LIVES * half_life_s:
        raise decline("suv_implausible", "the injection is not within hours before the scan")
    return float(2.0 ** (-elapsed_s / half_life_s))


def _check_one_injection(images: Sequence[Dataset]) -> None:
    """What one image says of patient and dose is used for all of them."""
    _one(images, "PatientWeight")
    told = {
        tuple(
            tuple(text(item, keyword) for keyword in _OF_THE_INJECTION)
            for item in sequence(image, "RadiopharmaceuticalInformationSequence")
        )
        for image in images
    }
    if len(told) > 1:
        raise decline("suv_mixed", "the images differ in what was injected, or when")


def _injected_at(image: Dataset, item: Dataset, start: datetime) -> datetime:
    """Start Date Time, or Start Time on the day of the scan; after midnight on the day before."""
    stated = text(item, "RadiopharmaceuticalStartDateTime")
    at = moment(stated)
    if at is not None:
        here, there = zone(text(image, "TimezoneOffsetFromUTC")), zone(stated)
        return at if here is None or there is None else at + (here - there)
    clock = text(item, "RadiopharmaceuticalStartTime")
    at = moment(f"{start:%Y%m%d}{clock}") if clock else None
    if at is None:
        raise decline("suv_missing", "when it was injected is not stated")
    return at - timedelta(days=1) if at > start else at


def _start(images: Sequence[Dataset]) -> datetime:
    """When the series began, to which START corrects."""
    first = images[0]
    series = moment(text(first, "SeriesDate") + text(first, "SeriesTime"))
    acquired = [
        (at, image)
        for image in images
        if (at := moment(text(image, "AcquisitionDate") + text(image, "AcquisitionTime")))
    ]
    if not acquired:
        raise decline("suv_missing", "Acquisition Date and Time are not stated")
    earliest, image = min(acquired, key=lambda one: one[0])
    if series is not None and (series - earliest).total_seconds() <= _SAME_MOMENT_S:
        return series
    try:
        return earliest - timedelta(seconds=_before(image))
    except OverflowError as error:
        raise decline(
            "suv_implausible", "Frame Reference Time is not within hours of the scan"
        ) from error


def _before(image: Dataset) -> float:
    """Seconds from the start that was corrected to until the acquisition of this image.

    Frame Reference Time is when, after that start, the mean rate of counts of the frame was
    reached (PS3.3 C.8.9.4.1.5); Acquisition Time is when the frame began.
    """
    items = sequence(image, "RadiopharmaceuticalInformationSequence")
    reference_ms = number(image, "FrameReferenceTime") or 0.0
    duration_ms = number(image, "ActualFrameDuration") or 0.0
    half_life_s = (number(items[0], "RadionuclideHalfLife") or 0.0) if items else 0.0
    if min(reference_ms, duration_ms, half_life_s) <= 0:
        return 0.0
    constant = math.log(2.0) / half_life_s
    during = constant * duration_ms / 1000.0
    mean_s = math.log(during / (1.0 - math.exp(-during))) / constant
    return reference_ms / 1000.0 - mean_s


def _one(images: Sequence[Dataset], keyword: str) -> str:
    found = {text(image, keyword) for image in images}
    if len(found) > 1:
        raise decline("suv_mixed", f"the images differ in {keyword}")
    return found.pop()


def _positive(
    dataset: Dataset, keyword: str, name: str, between: tuple[float, float], unit: str
) -> float:
    value = number(dataset, keyword)
    if value is None or value == 0:
        raise decline("suv_missing", f"{name} is not stated")
    if not between[0] <= value <= between[1]:
        raise decline("suv_implausible", f"{name} cannot be so many {unit}")
    return value
