"""Whether a picture is fit to be answered at all: looked at before the network runs.

A network answers whatever it is given: black, a hand, a picture upside down. What a card's
``input.quality`` refuses is not analysed, and the reader is told why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import yaml

from ai_models.card import load_card
from ai_models.monitoring.exposure import Exposure, exposure_of
from ai_models.monitoring.likeness import Distances, LearnedSpace, read_space
from ai_models.types import FloatArray, Image, JointInput, ModelError, ModelInput, Volume
from ai_models.yaml_lines import read_yaml

if TYPE_CHECKING:
    from ai_models.card import Card
    from ai_models.card_quality import Likeness, Quality
    from ai_models.prediction.preparing import Prepared

_BLACK, _WHITE = 0.002, 0.998
# A row of a collimator has no more than its noise between these percentiles.
_UNIFORM = 0.03
_MOST_SAMPLES = 1 << 20
_GREY_LEVELS = 4095
# Of the widest range of grey values of any slice: less is noise.
_BLANK_SLICE = 0.02
NOT_LOOKED_AT = "letters in the picture, such as the marker of its side, were not read"


@dataclass(frozen=True)
class Field:
    """The exposed part of a displayed picture.

    ``values`` are those in it; ``share`` is its part of the picture.
    """

    values: FloatArray
    share: float


class QualityGate:
    """The card's ``input.quality`` at work; silent where there is none."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._space: LearnedSpace | None = None

    def load(self) -> None:
        """Verify and read what the model learned from. ModelError as `read_space`."""
        quality = self._card.input.quality
        if quality is not None and quality.likeness is not None:
            self._learned(quality.likeness)

    def _learned(self, likeness: Likeness) -> LearnedSpace:
        if self._space is None:
            path = self._card.folder / likeness.reference
            self._space = read_space(path, likeness.sha256)
        return self._space

    def check(self, source: ModelInput, prepared: Prepared) -> tuple[str, ...]:
        """What was looked at and passed, in a sentence for the report.

        Raises
        ------
        ModelError
            ``input.blank``, ``input.too_few_pixels``, ``input.too_few_grey_levels``,
            ``input.collimated``, ``input.clipped``, ``input.unlike``, ``input.inverted``,
            ``input.turned``, ``input.mirrored``, ``input.blank_slices``, ``input.too_short``,
            ``input.exposure``, ``input.sharpness``.
        """
        quality = self._card.input.quality
        if quality is None:
            return ()
        told = [check_pixels(source.array, quality, is_displayed=isinstance(source, Image))]
        if not isinstance(source, Image):
            told.append(check_slices(source.array, _step_mm(source), quality))
        likeness = quality.likeness
        if likeness is not None:
            first = prepared.image.array[0]
            slices = first[None] if first.ndim == 2 else first
            told.append(check_likeness(self._learned(likeness).distances(slices), likeness))
            told += check_exposure(exposure_of(slices), likeness)
        if isinstance(source, Image):
            told.append(NOT_LOOKED_AT)
        return ("passed before the model was run: " + "; ".join(told),)


def without_quality(card: Card) -> Card:
    """The same card without ``input.quality``: the network's answer to whatever is shown.

    For what is drawn to try a model with, which is like nothing that it learned from; never for
    a patient. The card itself where it has none.
    """
    if card.input.quality is None:
        return card
    values, _ = read_yaml(card.content, card.folder)
    del values["input"]["quality"]
    return load_card(card.folder, yaml.safe_dump(values, allow_unicode=True).encode())


def check_pixels(
    array: npt.NDArray[np.generic], quality: Quality, *, is_displayed: bool
) -> str:
    """Refuse what shows too little, whatever it shows; else say what was seen.

    ``array`` is ``(rows, columns)``, 0 to 1, where it ``is_displayed``, else
    ``(slices, rows, columns)`` in any unit.
    """
    rows, columns = array.shape[-2:]
    if min(rows, columns) < quality.min_edge_pixels:
        raise ModelError(
            f"{rows} x {columns} pixels, {quality.min_edge_pixels} each way are needed",
            reason="input.too_few_pixels",
        )
    values = _thinned(np.asarray(array))
    if not is_displayed:
        _check_levels(values, quality)
        return "size, grey values"
    field = exposed_field(np.asarray(values, np.float32))
    low, high = np.percentile(field.values, (5, 95)) if field.values.size else (0.0, 0.0)
    if high - low < quality.min_contrast:
        raise ModelError(
            f"nothing is to be seen: most grey values lie between {low:.3f} and {high:.3f} of 1",
            reason="input.blank",
        )
    if field.share < quality.min_field:
        raise ModelError(
            f"{100 * field.share:.0f} % of the picture lie within its uniform borders, "
            f"{100 * quality.min_field:g} % are needed", reason="input.collimated",
        )
    clipped = float(np.mean((field.values <= _BLACK) | (field.values >= _WHITE)))
    if clipped > quality.max_clipped:
        raise ModelError(
            f"{100 * clipped:.0f} % of what was exposed are fully black or white, "
            f"{100 * quality.max_clipped:g} % are allowed", reason="input.clipped",
        )
    _check_levels(np.rint(field.values * _GREY_LEVELS), quality)
    return f"size, grey values, exposed field, clipping ({100 * clipped:.0f} %)"


def check_slices(
    array: npt.NDArray[np.generic], step_mm: float, quality: Quality
) -> str:
    """Refuse a volume ``(slices, rows, columns)`` with slices that show nothing amid others, or
    that reaches less far than the card asks: what is not in it would be called normal."""
    spread = np.array([
        np.ptp(np.percentile(_thinned(one).astype(np.float32), (1, 99))) for one in array
    ])
    shown = np.flatnonzero(spread > _BLANK_SLICE * spread.max())
    if not shown.size:
        raise ModelError("no slice shows anything", reason="input.blank")
    reach = int(shown[-1] - shown[0]) + 1
    if blank := reach - shown.size:
        raise ModelError(
            f"{blank} of {reach} slices show nothing, amid others that do",
            reason="input.blank_slices",
        )
    extent_mm, least_mm = reach * step_mm, quality.min_extent_mm
    if least_mm is not None and extent_mm < least_mm:
        raise ModelError(
            f"the slices reach over {extent_mm:.0f} mm, {least_mm:g} mm are needed",
            reason="input.too_short",
        )
    beyond = f", {len(array) - reach} at the ends show nothing" if reach < len(array) else ""
    return f"slices over {extent_mm:.0f} mm{beyond}"


def _step_mm(source: Volume | JointInput) -> float:
    return float(np.linalg.norm(source.affine_lps[:3, 0]))


def exposed_field(displayed: FloatArray) -> Field:
    """What of ``(rows, columns)`` lies within borders of one grey value, as collimators leave.

    Percentiles of a row count, so that a letter on a border does not make it part of the field.
    """
    rows, columns = _between(displayed), _between(displayed.T)
    values = displayed[rows, columns]
    return Field(values, values.size / displayed.size)


def _between(lines: FloatArray) -> slice:
    """From the first to the last line that is not of one value."""
    low, high = np.percentile(lines, (5, 95), axis=1)
    varied = np.flatnonzero(high - low > _UNIFORM)
    return slice(int(varied[0]), int(varied[-1]) + 1) if varied.size else slice(0, 0)


def _check_levels(values: npt.NDArray[np.generic], quality: Quality) -> None:
    levels = np.unique(values).size
    if levels == 1:
        raise ModelError("all pixels have one value", reason="input.blank")
    if levels < quality.min_grey_levels:
        raise ModelError(
            f"{levels} different grey values, {quality.min_grey_levels} are needed",
            reason="input.too_few_grey_levels",
        )


def _thinned(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Every so many slices, or rows and columns, of what has many samples."""
    if array.size <= _MOST_SAMPLES:
        return array
    step = -(-array.size // _MOST_SAMPLES)
    if array.ndim == 3:
        return array[:: min(step, len(array))]
    each = int(np.ceil(np.sqrt(step)))
    return array[::each, ::each]


def check_likeness(found: Distances, likeness: Likeness) -> str:
    """Refuse what the model never learned from, and what it would have known shown otherwise."""
    for reason, sentence in _otherwise(found, likeness):
        raise ModelError(sentence, reason=reason)
    # What is no number is no distance that is allowed.
    if not found.own <= likeness.limit:
        raise ModelError(
            "the picture is unlike all that the model learned from: its distance is "
            f"{found.own:.2f}, {likeness.limit:.2f} is allowed", reason="input.unlike",
        )
    looked_at = [
        word for word in ("inverted", "turned", "mirrored")
        if getattr(likeness, word) is not None
    ]
    not_so = f", and not {' or '.join(looked_at)}" if looked_at else ""
    return (
        f"like what the model learned from (distance {found.own:.2f} of at most "
        f"{likeness.limit:.2f}){not_so}"
    )


def check_exposure(found: Exposure | None, likeness: Likeness) -> tuple[str, ...]:
    """Refuse what is darker, flatter, harder, coarser or finer than what was learned from."""
    ways = (
        ("brightness", "input.exposure", "darker", "brighter"),
        ("contrast", "input.exposure", "poorer in contrast", "richer in contrast"),
        ("sharpness", "input.sharpness", "more blurred, or larger,", "noisier, or sharper,"),
    )
    looked_at = []
    for name, reason, below, above in ways:
        usual = getattr(likeness, name)
        if usual is None:
            continue
        value = float("nan") if found is None else float(getattr(found, name))
        if not usual[0] <= value <= usual[1]:
            raise ModelError(
                f"the picture is {below if value < usual[0] else above} than what the model "
                f"learned from: {name} {value:.3f}, {usual[0]:g} to {usual[1]:g} is allowed",
                reason=reason,
            )
        looked_at.append(name)
    return (f"as usual in {' and '.join(looked_at)}",) if looked_at else ()


def _otherwise(found: Distances, likeness: Likeness) -> Iterator[tuple[str, str]]:
    """The reasons to think that it is shown otherwise than the model knows it, the surest first."""
    ways = (
        ("input.inverted", likeness.inverted, found.inverted, "black and white look exchanged"),
        ("input.turned", likeness.turned, found.turned, "the picture looks turned, or upside down"),
        ("input.mirrored", likeness.mirrored, found.mirrored,
         "left and right look exchanged, of the picture or within the patient"),
    )
    known = []
    for reason, least, other, words in ways:
        # What would be unlike anything learned from either way is neither.
        if least is not None and other <= likeness.limit and found.own > least * other:
            known.append((found.own / max(other, 1e-9), reason, words))
    for ratio, reason, words in sorted(known, reverse=True):
        yield reason, (
            f"{words}: otherwise it would be {ratio:.2f} times as near to what the model learned "
            "from"
        )
