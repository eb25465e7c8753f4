"""How a version answers beside another: figures of the truth, agreement, and seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ai_models.adapt.measures import measured
from ai_models.array.labels import mask_of
from ai_models.backends import Answer, Backend, NetworkInput, open_backend
from ai_models.card import Card, RegressionCard
from ai_models.prediction.instances import of_kinds
from ai_models.prediction.quality import without_quality
from ai_models.predictor import Predictor
from ai_models.training.cases import Case, DicomReader
from ai_models.training.metrics import dice
from ai_models.trust import Site
from ai_models.types import (
    ClassificationPrediction,
    DetectionPrediction,
    ModelInput,
    Prediction,
    RegressionPrediction,
    SegmentationPrediction,
)

AGREEMENT = "agreement with this version"
_NEAR_MM = 5.0


@dataclass
class Answers:
    """What a version answered, how long it took, and how well it did.

    ``seconds`` is the median of what the network took for one input, without the first, and
    ``cpu_seconds`` that of the time all processors spent on it, which is the same when other
    programs run beside it.
    """

    predictions: list[Prediction] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class _Clocked:
    """A back-end, and the time that processors spent on each of its answers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.cpu_seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`."""
        started = time.process_time()
        answer = self._backend.predict(image)
        self.cpu_seconds.append(time.process_time() - started)
        return answer


class Watched(Predictor):
    """A predictor that keeps what it answers and how long its network took."""

    def __init__(self, card: Card, device: str, site: Site | None) -> None:
        clocked: Any = _Clocked(open_backend(card, device, site))
        super().__init__(card, device, site, clocked)
        self.predictions: list[Prediction] = []
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = clocked.cpu_seconds

    def predict(self, source: ModelInput) -> Prediction:
        """See `Predictor.predict`."""
        if not self.seconds:
            # The first one pays for what the library settles once.
            super().predict(source)
            self.cpu_seconds.clear()
        prediction = super().predict(source)
        self.predictions.append(prediction)
        self.seconds.append(prediction.seconds_by_stage["infer"])
        return prediction


def answers_of(
    card: Card, cases: Sequence[Case], drawn: Sequence[ModelInput], reader: DicomReader | None,
    site: Site | None, device: str, runs: int,
) -> Answers:
    """Every case answered; without cases what is drawn, ``runs`` times."""
    # Every case is answered: how the versions differ is asked, not what a gate refuses.
    predictor = Watched(without_quality(card), device, site)
    predictor.load()
    try:
        figures = measured(predictor, cases, reader) if cases else {}
        for source in drawn if not cases else ():
            for _ in range(runs):
                predictor.predict(source)
    finally:
        predictor.close()
    return Answers(
        predictor.predictions, figures, statistics.median(predictor.seconds),
        statistics.median(predictor.cpu_seconds),
    )


def agreement(card: Card, one: Sequence[Prediction], two: Sequence[Prediction]) -> float:
    """How far two versions say the same of the same inputs, 0 to 1; the mean over the inputs.

    Of labels the Dice coefficient, of findings the part that lies within 5 mm of one of the
    other, of scores and quantities 1 less the largest difference (of quantities by their range).
    """
    return float(np.mean([_alike(card, a, b) for a, b in zip(one, two, strict=True)]))


def is_empty(prediction: Prediction) -> bool:
    """Whether an answer marks nothing at all."""
    if isinstance(prediction, SegmentationPrediction):
        return not prediction.label_map.any()
    return isinstance(prediction, DetectionPrediction) and not prediction.detections


def drops(
    first: Mapping[str, float], second: Mapping[str, float]
) -> tuple[str, float]:
    """Which figure fell the most from the first to the second, and by how much.

    A figure that the second does not have, or has no number of, fell all the way.
    """
    fallen = {name: value - second.get(name, 0.0) for name, value in first.items()}
    name = max(fallen, key=lambda one: fallen[one])
    return name, fallen[name]


def _alike(card: Card, one: Any, two: Any) -> float:
    if isinstance(one, SegmentationPrediction):
        maps = [of_kinds(each.label_map, each.labels, card.labels) for each in (one, two)]
        return float(np.mean([
            dice(*(mask_of(each, label.value) for each in maps)) for label in card.labels
        ]))
    if isinstance(one, DetectionPrediction):
        return _matched(one, two)
    if isinstance(one, ClassificationPrediction):
        pairs = [(one.scores[name], two.scores[name], 1.0) for name in one.scores]
    elif isinstance(one, RegressionPrediction) and isinstance(card, RegressionCard):
        ranges = {each.name: each.maximum - each.minimum for each in card.output.quantities}
        pairs = [(one.values[name], two.values[name], ranges[name]) for name in one.values]
    else:
        return 1.0
    return 1.0 - float(max((abs(a - b) / scale for a, b, scale in pairs), default=0.0))


def _matched(one: DetectionPrediction, two: DetectionPrediction) -> float:
    total = len(one.detections) + len(two.detections)
    if not total:
        return 1.0
    first, second = (
        np.array([each.center_lps_mm for each in some.detections]).reshape(-1, 3)
        for some in (one, two)
    )
    near = np.linalg.norm(first[:, None] - second[None], axis=-1) <= _NEAR_MM
    return float(near.any(axis=1).sum() + near.any(axis=0).sum()) / total
