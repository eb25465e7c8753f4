"""From an input to a prediction on its very grid: the one door to every model.

    input -> what the network takes -> back-end -> checked -> what it means in the patient

Every step is exact about where a voxel lies in the patient (LPS); the network behind it sees one
orientation, one spacing and one range of values, whatever the scanner sent. On the CPU two runs
give the same bytes. The steps are in `ai_models.prediction`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ai_models.backends import Answer, Backend, open_backend
from ai_models.card import Card
from ai_models.monitoring.noticing import Noticing
from ai_models.prediction.checking import check_source
from ai_models.prediction.cropping import Cropper
from ai_models.prediction.detection import detection
from ai_models.prediction.preparing import Prepared, prepare
from ai_models.prediction.quality import QualityGate
from ai_models.prediction.scores import classification, regression
from ai_models.prediction.search import searched
from ai_models.prediction.segmentation import segmentation
from ai_models.prediction.text import text
from ai_models.prediction.timing import timed
from ai_models.trust import Site
from ai_models.types import (
    Algorithm,
    ClassificationPrediction,
    Image,
    JointInput,
    ModelInput,
    Prediction,
    SegmentationPrediction,
    TextPrediction,
)

if TYPE_CHECKING:
    from ai_models.explain import Explained

# Each takes its own kind of card: the card's task is the key.
_TASKS: Mapping[str, Callable[..., Any]] = {
    "segmentation": segmentation,
    "classification": classification,
    "regression": regression,
    "detection": detection,
    "text": text,
}


class Predictor:
    """One model on one device, kept warm between inputs.

    Parameters
    ----------
    card
        The model.
    device
        ``cpu`` or ``cuda:<number>``.
    site
        What this site allows; by default research without trusted folders or endpoints.
    backend
        What runs the model, where it is not what the card names: a network that is being trained.
    cropper
        What finds the part that is looked at, where it is loaded already and another's to close.
    """

    def __init__(
        self, card: Card, device: str = "cpu", site: Site | None = None,
        backend: Backend | None = None, cropper: Cropper | None = None,
    ) -> None:
        self.card = card
        self.device = device
        self._backend: Backend = backend or open_backend(card, device, site)
        self._noticing = Noticing(card)
        self._cropper = cropper or Cropper(card, device, site)
        self._owns_cropper = cropper is None
        self._quality = QualityGate(card)

    @property
    def backend(self) -> Backend:
        """What runs it."""
        return self._backend

    def load(self) -> None:
        """Verify and load the weights. ModelError with a reason of ``model.*``."""
        self._backend.load()
        self._noticing.load()
        self.load_crop()
        self._quality.load()
        if self.card.explanation is not None:
            _explaining()  # the first answer shall not wait for it

    def load_crop(self) -> None:
        """Load what outlines the part that is looked at, and nothing else.

        For a network that is in memory already. ModelError as `load`.
        """
        if self._owns_cropper:
            self._cropper.load()

    def warm_up(self) -> None:
        """Run one empty input."""
        self._backend.warm_up()

    def close(self) -> None:
        """Let go of the network."""
        if self._owns_cropper:
            self._cropper.close()
        self._backend.close()

    def predict(self, source: ModelInput) -> Prediction:
        """Answer one input.

        Returns
        -------
        Prediction
            Of the kind that the card's task says, arrays on the grid of the input; seconds of
            ``prepare`` and ``infer`` and of what the task needs besides (``restore``,
            ``postprocess``, ``explain``).

        Raises
        ------
        ModelError
            ``input.*``: the card does not allow this input; ``model.*``: the network failed or
            answered off its card.
        """
        check_source(source, self.card)
        seconds: dict[str, float] = {}
        with timed(seconds, "prepare"):
            cropped = self._cropper.find(source)
            prepared = prepare(source, self.card, cropped.window)
            passed = self._quality.check(source, prepared)
            if self.card.input.search is not None and not isinstance(source, Image):
                volume = source.reference if isinstance(source, JointInput) else source
                where = searched(volume, self.card.input.search)
                prepared = replace(prepared, searched=where)
        with timed(seconds, "infer"):
            answer = self._backend.predict(prepared.image)
        features = self._noticing.features(prepared.image, answer)
        notes = tuple(dict.fromkeys((
            *self._backend.notes, *answer.notes, *cropped.notes, *prepared.notes(), *passed,
            *self._noticing.notes(features),
        )))
        prediction: Prediction = _TASKS[self.card.task](
            self.card, prepared, answer, self._algorithm(answer), seconds, notes
        )
        if features and not isinstance(prediction, TextPrediction):
            prediction = replace(prediction, features=features)
        if isinstance(prediction, ClassificationPrediction) and self.card.explanation is not None:
            return self._explained(prediction, prepared, answer)
        return prediction

    def _explained(
        self, prediction: ClassificationPrediction, prepared: Prepared, answer: Answer
    ) -> ClassificationPrediction:
        explain = _explaining()
        seconds = dict(prediction.seconds_by_stage)
        with timed(seconds, "explain"):
            explained = explain(self.card, self._backend, prepared, answer, prediction.scores)
        return replace(
            prediction, saliency=explained.saliency, saliency_method=explained.method,
            seconds_by_stage=seconds, notes=(*prediction.notes, *explained.notes),
        )

    def _algorithm(self, answer: Answer) -> Algorithm:
        card, runtime = self.card, self.card.runtime
        parameters = {}
        if card.input.spacing_mm is not None:
            parameters["spacing_mm"] = " ".join(f"{step:g}" for step in card.input.spacing_mm)
        if runtime.roi is not None:
            parameters["roi"] = " ".join(str(edge) for edge in runtime.roi)
            parameters["overlap"] = f"{runtime.overlap:g}"
        parameters["precision"] = runtime.precision
        if card.output.mirror:
            parameters["mirror"] = " ".join(str(axis) for axis in card.output.mirror)
        if card.weights.ensemble:
            parameters["ensemble"] = str(len(card.weights.ensemble) + 1)
        return card.algorithm(**{**parameters, **answer.parameters})


__all__ = ["Predictor", "SegmentationPrediction"]


def _explaining() -> Callable[..., Explained]:
    """What says where a classifier looked: by MONAI, which the others do without."""
    from ai_models.backends.monai_alone import import_monai

    import_monai()
    from ai_models.explain import explain

    return explain
