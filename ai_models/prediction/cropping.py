"""The part of a radiograph that a model looks at: the rectangle about what another one outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ai_models.array.labels import mask_of
from ai_models.card import CARD_NAME, Card, SegmentationCard, load_card
from ai_models.card_crop import Crop
from ai_models.trust import Site, why_refused
from ai_models.types import (
    CardError,
    Image,
    LabelMap,
    ModelError,
    ModelInput,
    Prediction,
    SegmentationPrediction,
)
from ai_models.weights import file_sha256

Window = tuple[slice, slice]
"""Rows and columns of an image."""


@dataclass(frozen=True)
class Cropped:
    """What is looked at, and what the report says of it. ``window`` is ``None``: all of it."""

    window: Window | None
    notes: tuple[str, ...] = ()


def crop_card(card: Card) -> SegmentationCard | None:
    """The card of the model that outlines; ``None`` where the whole image is looked at.

    Raises
    ------
    ModelError
        ``model.hash_mismatch``: it is another card; ``model.weights_missing``: there is none;
        ``model.load_failed``: it is no card, outlines no images, or has not all of the labels.
    """
    entry = card.input.crop
    if entry is None:
        return None
    folder = card.folder / entry.model
    found = file_sha256(folder / CARD_NAME)
    if found != entry.sha256:
        raise ModelError(
            f"{folder / CARD_NAME} has SHA-256 {found}, input.crop.sha256 of {card.id} says "
            f"{entry.sha256}: restore it, or check the model anew and then write that digest",
            reason="model.hash_mismatch",
        )
    try:
        outlining = load_card(folder)
    except CardError as error:
        raise ModelError(f"input.crop.model: {error}", reason="model.load_failed") from error
    if not isinstance(outlining, SegmentationCard) or outlining.input.kind != "image":
        raise ModelError(
            f"input.crop.model: {outlining.id} outlines nothing in images",
            reason="model.load_failed",
        )
    strange = set(entry.labels) - {one.value for one in outlining.labels}
    if strange:
        raise ModelError(
            f"input.crop.labels: {outlining.id} has no label {', '.join(map(str, strange))}",
            reason="model.load_failed",
        )
    if outlining.input.crop is not None:
        raise ModelError(
            f"input.crop.model: {outlining.id} is cropped itself", reason="model.load_failed"
        )
    return outlining


class Cropper:
    """The card's ``input.crop`` at work; it looks at everything where there is none."""

    def __init__(self, card: Card, device: str = "cpu", site: Site | None = None) -> None:
        self._card, self._device, self._site = card, device, site or Site()
        self._outlining: SegmentationCard | None = None
        self._predictor: _Outliner | None = None

    def load(self) -> None:
        """Verify and load the model that outlines.

        Raises
        ------
        ModelError
            As `crop_card`; ``model.refused`` where the site must not run it; as of any model.
        """
        self.close()
        self._outlining = crop_card(self._card)
        if self._outlining is None:
            return
        if (why := why_refused(self._outlining, self._site)) is not None:
            raise ModelError(why, reason="model.refused")
        self._predictor = _Outliner(self._outlining, self._device, self._site)

    def close(self) -> None:
        """Let go of it."""
        if self._predictor is not None:
            self._predictor.close()
        self._predictor = None

    def find(self, source: ModelInput) -> Cropped:
        """The part of an image that is to be looked at.

        Raises
        ------
        ModelError
            ``model.not_loaded``; ``model.*``: the model that outlines failed.
        """
        entry = self._card.input.crop
        if entry is None or not isinstance(source, Image):
            return Cropped(None)
        if self._predictor is None or self._outlining is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        name = f"{self._outlining.name} {self._outlining.version}"
        try:
            said = self._predictor.predict(source)
        except ModelError as error:
            if not (error.reason or "").startswith("input."):
                raise
            return Cropped(None, (f"{_WHOLE}: {name} does not take this image ({error})",))
        if not isinstance(said, SegmentationPrediction):
            raise ModelError(f"{name} outlines nothing", reason="model.wrong_output")
        by_value = {one.value: one.name for one in said.labels}
        outlines = said.label_map.reshape(source.array.shape)
        lacking = [
            by_value[value] for value in entry.labels
            if np.count_nonzero(mask_of(outlines, value)) < entry.least * outlines.size
        ]
        if lacking:
            return Cropped(
                None, (f"{_WHOLE}: {name} does not find {' and '.join(lacking)} in it",)
            )
        window = window_about(outlines, entry)
        share = _area(window) / outlines.size
        return Cropped(window, (
            f"looked at: the rectangle about what {name} outlines, {share:.0%} of the image",
        ))


_WHOLE = "the whole image was looked at, which this model is not made for"


def window_about(outlines: LabelMap, entry: Crop) -> Window:
    """The rectangle about all ``entry.labels`` in ``(rows, columns)``, with its margin, within the
    image."""
    mask = np.zeros(outlines.shape, dtype=np.bool_)
    for value in entry.labels:
        mask |= mask_of(outlines, value)
    sides = []
    for axis in (0, 1):
        there = np.flatnonzero(mask.any(axis=1 - axis))
        first, end = int(there[0]), int(there[-1]) + 1
        more = round(entry.margin * (end - first))
        sides.append(slice(max(first - more, 0), min(end + more, mask.shape[axis])))
    return sides[0], sides[1]


def _area(window: Window) -> int:
    return int((window[0].stop - window[0].start) * (window[1].stop - window[1].start))


class _Outliner:
    """A predictor, made late: it looks for a part of its own images the same way."""

    def __init__(self, card: Card, device: str, site: Site) -> None:
        from ai_models.predictor import Predictor

        self._predictor = Predictor(card, device, site)
        self._predictor.load()

    def predict(self, source: Image) -> Prediction:
        return self._predictor.predict(source)

    def close(self) -> None:
        self._predictor.close()
