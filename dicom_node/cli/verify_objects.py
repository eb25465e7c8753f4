"""The way from DICOM to DICOM: a generated series through the pipeline, and an empty one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import dicom_node
from ai_models.card import Card
from ai_models.conformance.agreement import SAME, Answered, agreement
from ai_models.conformance.check import Check, failed, not_applicable, passed
from ai_models.conformance.scene import Scene
from ai_models.types import (
    DetectionPrediction,
    JointInput,
    ModelInput,
    Prediction,
    SegmentationPrediction,
    Volume,
    reference_of,
)
from dicom_node.cli.generated_series import (
    IMAGES,
    VOLUMES,
    Description,
    attributes_of,
    write_phases,
    write_series,
)
from dicom_node.cli.series_roles import Together
from dicom_node.errors import NodeError, UnsuitableInput
from dicom_node.imaging.anatomy_terms import region_of_term
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.results.equipment import node_equipment

OBJECTS, NOTHING_FOUND, MODALITY = "objects", "nothing found", "wrong modality"
PART = "wrong body part"
# Air shows nobody: a card may ask for more before a report says that nothing was found.
_AIR_REFUSED = frozenset({"input.no_foreground", "input.nothing_to_search"})
Ask = Callable[[Card, ModelInput], Prediction]


class SeriesMaker:
    """Writes inputs as DICOM below a folder."""

    def __init__(self, card: Card, folder: Path) -> None:
        self._card = card
        self._folder = folder
        known = VOLUMES if card.input.kind == "volume" else IMAGES
        self.modality = next((one for one in card.modality if one in known), None)
        self.other = next(one for one in known if one not in card.modality) if set(
            known) - set(card.modality) else None

    def write(
        self, source: ModelInput, modality: str, name: str, part: str | None = None
    ) -> Together:
        """One series and its companions; ``name`` makes them others than the rest.

        Without ``part`` it says that it shows what the card is for.
        """
        entry, folder = self._card.input, self._folder / name
        attributes: dict[str, object] = {}
        if entry.views:
            attributes["ViewPosition"] = entry.views[0]
        shown = reference_of(source)
        if isinstance(shown, Volume) and entry.max_slice_thickness_mm is not None:
            thickness_mm = min(shown.spacing_mm[0], entry.max_slice_thickness_mm)
            attributes["SliceThickness"] = float(f"{thickness_mm:.6g}")
        part = part or (entry.body_part[0] if entry.body_part else "HEAD")
        told = Description(
            f"conformance {name}", 1, modality, "PHANTOM^CONFORMANCE", "PHANTOM", "Phantom",
            f"Generated {modality}", part, attributes,
        )
        clinical = {} if isinstance(source, Volume) else source.clinical
        of_patient = attributes_of(entry.clinical, clinical)
        attributes |= of_patient
        if not isinstance(source, JointInput):
            return Together(name, write_series(source, folder, told))
        companions: dict[str, Sequence[Path]] = {}
        for one in entry.companions:
            volume = source.companions.get(one.role)
            # In a modality that cannot be written it is as good as none.
            known = next((each for each in one.modality if each in VOLUMES), None)
            if volume is not None and known is not None:
                companions[one.role] = write_series(
                    volume, folder / one.role,
                    replace(
                        told, modality=known, series=f"Generated {known}", role=one.role,
                        attributes=of_patient,
                    ),
                )
        own = folder / entry.role
        paths = write_series(source.reference, own, told)
        if source.phases:
            paths = write_phases(source.phases, source.times_s, own, told)
        return Together(name, paths, companions)


def check_objects(
    card: Card, ask: Ask, scene: Scene, reference: Prediction, shown: Together | None,
) -> Check:
    """A series is read, answered as its array was, described, and what was written read back."""
    if shown is None:
        return _unknown(OBJECTS, card)
    try:
        analysis = _analysed(card, ask, shown)
    except NodeError as error:
        return failed(OBJECTS, f"{error.reason}: {error}")
    first = Answered(scene.reference, reference)
    second = Answered(analysis.loaded.model_input, analysis.prediction)
    compared = agreement(card, first, second, SAME)
    if compared.holds is False:
        return failed(OBJECTS, f"read from DICOM, the answer is another: {compared.figure}")
    return passed(OBJECTS, f"written and read back: {_kinds(analysis)}")


def check_nothing_found(
    card: Card, ask: Ask, scene: Scene, reference: Prediction, series: SeriesMaker
) -> Check:
    """Of air there is a report that says so, and no segmentation without a segment.

    Where air is refused, which is answered as not analysed, the report is that of the reference
    with what was found in it taken away.
    """
    if card.task not in ("segmentation", "detection"):
        return not_applicable(NOTHING_FOUND, f"a {card.task} finds something in every input")
    if series.modality is None:
        return _unknown(NOTHING_FOUND, card)
    said, of = "", "air"

    def emptied(card: Card, source: ModelInput) -> Prediction:
        nonlocal said
        prediction, marked = _without_marks(ask(card, source))
        said = "; what it marks in air was taken away for this" if marked else ""
        return prediction

    try:
        try:
            shown = series.write(scene.empty(), series.modality, "empty")
            analysis = _analysed(card, emptied, shown)
        except UnsuitableInput as error:
            if error.reason not in _AIR_REFUSED:
                raise
            of, said = "what was shown", f"; air is refused with {error.reason}"
            shown = series.write(scene.reference, series.modality, "unmarked")
            analysis = _analysed(card, lambda *_: _without_marks(reference)[0], shown)
    except NodeError as error:
        return failed(NOTHING_FOUND, f"{error.reason}: {error}")
    kinds = [kind for kind, _ in analysis.objects]
    if kinds != ["negative report"]:
        return failed(NOTHING_FOUND, f"a negative report expected: {', '.join(kinds)}")
    return passed(NOTHING_FOUND, f"of {of} a report that nothing was found{said}")


def check_modality(card: Card, scene: Scene, series: SeriesMaker) -> Check:
    """A series of another modality does not come to the model."""
    if series.other is None:
        return _unknown(MODALITY, card)

    def never(card: Card, source: ModelInput) -> Prediction:
        raise NodeError("it came to the model", reason="input.accepted")

    try:
        _analysed(card, never, series.write(scene.empty(), series.other, "other"))
    except NodeError as error:
        sentence = f"{series.other} was refused with {error.reason}"
        return (passed if error.reason == "input.modality" else failed)(MODALITY, sentence)
    return failed(MODALITY, f"{series.other} was accepted")


def check_part(card: Card, scene: Scene, series: SeriesMaker) -> Check:
    """Where the card compares it, a series of another part of the body does not come to the model.
    """
    if card.input.quality is None or not card.input.body_part:
        return not_applicable(PART, "the card compares no part of the body")
    if series.modality is None:
        return _unknown(PART, card)
    wanted = {region_of_term(one) for one in card.input.body_part}
    other = next(one for one in ("FOOT", "CHEST", "HEAD") if one not in wanted)

    def never(card: Card, source: ModelInput) -> Prediction:
        raise NodeError("it came to the model", reason="input.accepted")

    try:
        _analysed(card, never, series.write(scene.reference, series.modality, "part", other))
    except NodeError as error:
        sentence = f"{other} was refused with {error.reason}"
        return (passed if error.reason == "input.body_part" else failed)(PART, sentence)
    return failed(PART, f"{other} was accepted")


def _analysed(card: Card, ask: Ask, shown: Together) -> Analysis:
    writing = Writing(
        node_equipment("VERIFY", dicom_node.__version__), datetime(2026, 1, 1, tzinfo=UTC)
    )
    return analyse(
        shown.paths, card, ask, writing, companions=shown.companions, missing=shown.missing
    )


def _without_marks(prediction: Prediction) -> tuple[Prediction, bool]:
    if isinstance(prediction, SegmentationPrediction):
        empty = np.zeros_like(prediction.label_map)
        return replace(prediction, label_map=empty), bool(prediction.label_map.any())
    if isinstance(prediction, DetectionPrediction):
        return replace(prediction, detections=()), bool(prediction.detections)
    return prediction, False


def _kinds(analysis: Analysis) -> str:
    return ", ".join(kind for kind, _ in analysis.objects)


def _unknown(name: str, card: Card) -> Check:
    return not_applicable(
        name, f"no series of {', '.join(card.modality)} is generated here: try "
        "`dicom-node run` on one of yours",
    )
