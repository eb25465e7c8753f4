"""What headers say of an image, held against ``input.quality`` of a card, before pixels count.

Free text (Study Description, Protocol Name) is not looked at: it is in any language, and says what
was asked for as often as what was done. Nor is a header believed for what it does not say: a
picture without a word of its part goes on to the checks of the picture itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ai_models.card_entries import InputEntry, Quality
from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.anatomy_terms import (
    holds,
    region_of_term,
    regions_of,
    sides_of,
    views_of,
)
from dicom_node.imaging.elements import number, sequence, text
from dicom_node.imaging.patient import age_in_years, contradicts_age
from dicom_node.imaging.volume import InputNote

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CHECKED = "input.checked"
_FRONTAL = {"PA", "AP"}
_NO_AGENT = frozenset({"", "NONE", "NO", "N", "0", "WITHOUT"})


def check_stated(image: Dataset, entry: InputEntry) -> tuple[InputNote, ...]:
    """A remark on what was compared; none where the card has no ``input.quality``.

    Raises
    ------
    UnsuitableInput
        ``input.body_part``, ``input.body_part_unknown``, ``input.age``, ``input.orientation``,
        ``input.laterality``, ``input.laterality_unknown``.
    """
    quality = entry.quality
    if quality is None:
        return ()
    told = [_check_part(image, entry, quality), _check_age(image, quality)]
    if entry.kind == "image":
        told += [_view(image, entry), _check_orientation(image, quality)]
        told += [_check_side(image, quality)]
    sentence = "; ".join(one for one in told if one)
    return (InputNote(CHECKED, f"passed in the headers: {sentence}"),) if sentence else ()


def check_acquisition(images: Sequence[Dataset], entry: InputEntry) -> tuple[InputNote, ...]:
    """The same of how an MR was taken: every image of it counts.

    Raises
    ------
    UnsuitableInput
        ``input.no_contrast_agent``, ``input.echo_time``.
    """
    quality = entry.quality
    if quality is None:
        return ()
    told = []
    if quality.contrast_agent == "required":
        if not all(_has_agent(one) for one in images):
            raise UnsuitableInput(
                "the headers name no contrast agent, the model knows images after one only",
                reason="input.no_contrast_agent",
            )
        told.append("contrast agent")
    if quality.echo_time_ms is not None:
        told.append(_check_echo(images, quality.echo_time_ms))
    return (InputNote(CHECKED, f"passed in the headers: {'; '.join(told)}"),) if told else ()


def _has_agent(image: Dataset) -> bool:
    if sequence(image, "ContrastBolusAgentSequence"):
        return True
    return text(image, "ContrastBolusAgent").strip().upper() not in _NO_AGENT


def _check_echo(images: Sequence[Dataset], allowed_ms: tuple[float, float]) -> str:
    stated = [one for image in images for one in _echo_times_ms(image)]
    for echo_ms in stated:
        if not allowed_ms[0] <= echo_ms <= allowed_ms[1]:
            raise UnsuitableInput(
                f"an echo time of {echo_ms:g} ms, the model takes {allowed_ms[0]:g} to "
                f"{allowed_ms[1]:g} ms", reason="input.echo_time",
            )
    return "echo time" if stated else "echo time not stated"


def _echo_times_ms(image: Dataset) -> Iterator[float]:
    """Echo Time of an image, or of the frames of a multi-frame one (PS3.3 C.8.13.5.5)."""
    own = number(image, "EchoTime")
    if own is not None:
        yield own
    for kind in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for groups in sequence(image, kind):
            for item in sequence(groups, "MREchoSequence"):
                echo = number(item, "EffectiveEchoTime")
                if echo is not None:
                    yield echo


def _check_part(image: Dataset, entry: InputEntry, quality: Quality) -> str:
    if not entry.body_part:
        return ""
    wanted = {region_of_term(one) or one.upper() for one in entry.body_part}
    takes = ", ".join(entry.body_part)
    stated, is_unknown = regions_of(image)
    wider = {one for one in stated - wanted if holds(one, wanted)}
    others = sorted(stated - wanted - wider)
    if others:
        raise UnsuitableInput(
            f"the headers say that {', '.join(others)} is shown, the model takes {takes}",
            reason="input.body_part",
        )
    # A volume may show more than what the model looks for; a radiograph of more is another picture.
    if stated & wanted or (wider and entry.kind == "volume"):
        return f"part of the body ({', '.join(sorted(stated))})"
    if wider:
        what = f"only that it is of {', '.join(sorted(wider))}"
    elif is_unknown:
        what = "no part that PS3.16 knows"
    else:
        what = "no part"
    if quality.body_part == "required":
        raise UnsuitableInput(
            f"the headers name {what}, the model takes {takes}", reason="input.body_part_unknown"
        )
    return f"part of the body not compared, the headers name {what}"


def _check_age(image: Dataset, quality: Quality) -> str:
    """Which age it is stays out of the message: that is the patient's."""
    if quality.age_years is None:
        return ""
    youngest, oldest = quality.age_years
    if contradicts_age(image):
        raise UnsuitableInput(
            "Patient's Age and the dates of birth and study contradict each other",
            reason="input.age",
        )
    years = age_in_years(image)
    if years is None:
        return "age not known"
    if not youngest <= years < oldest:
        raise UnsuitableInput(
            f"the patient is {'older' if years >= oldest else 'younger'} than the model takes, "
            f"which is from {youngest:g} to below {oldest:g} years", reason="input.age",
        )
    return "age"


def _view(image: Dataset, entry: InputEntry) -> str:
    """`dicom_node.pipeline.loading` chose the image by it."""
    if not entry.views:
        return ""
    return f"view ({' or '.join(views_of(image)[0])})"


def _check_orientation(image: Dataset, quality: Quality) -> str:
    stated = [one for one in text(image, "PatientOrientation").upper().split("\\") if one]
    if len(stated) != 2:
        return "orientation not stated" if quality.orientation else ""
    shown = " ".join(stated)
    frontal = all(set(one) <= _FRONTAL for one in views_of(image)) and views_of(image)
    if frontal and {one[0] for one in stated} & {"A", "P"}:
        raise UnsuitableInput(
            f"rows and columns run to {shown}, which no frontal view does",
            reason="input.orientation",
        )
    if quality.orientation is None:
        return ""
    if any(one[0] != way for one, way in zip(stated, quality.orientation, strict=True)):
        raise UnsuitableInput(
            f"rows and columns run to {shown}, the model takes {' '.join(quality.orientation)}",
            reason="input.orientation",
        )
    return f"orientation ({shown})"


def _check_side(image: Dataset, quality: Quality) -> str:
    stated = sides_of(image)
    if {"L", "R"} <= stated:
        raise UnsuitableInput(
            "the headers contradict each other on the side, left and right",
            reason="input.laterality",
        )
    if not quality.sides:
        return ""
    takes = ", ".join(quality.sides)
    if others := sorted(stated - set(quality.sides)):
        raise UnsuitableInput(
            f"the headers say side {', '.join(others)}, the model takes {takes}",
            reason="input.laterality",
        )
    if not stated and quality.side_required:
        raise UnsuitableInput(
            f"the headers say no side, the model takes {takes}",
            reason="input.laterality_unknown",
        )
    return f"side ({', '.join(sorted(stated))})" if stated else "side not stated"
