"""What a predictor says of each input beside its answer: features, and whether it is unusual."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_models.monitoring.input_features import features_of_input
from ai_models.monitoring.reference import Reference, read_rows, reference_of

if TYPE_CHECKING:
    from ai_models.backends import Answer, NetworkInput
    from ai_models.card import Card

UNUSUAL = "input unlike what the model was tried on"
"""How a note begins that says so."""


class Noticing:
    """The card's ``monitor`` at work; silent where there is none."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._reference: Reference | None = None

    def load(self) -> None:
        """Verify and read the reference. ModelError as `read_rows` and `reference_of`."""
        monitor = self._card.monitor
        if monitor is not None and monitor.reference is not None:
            path = self._card.folder / monitor.reference
            self._reference = reference_of(read_rows(path, monitor.sha256 or ""))

    def features(self, image: NetworkInput, answer: Answer) -> tuple[float, ...]:
        """Of the layer that is watched, else of the network's input; none without ``monitor``."""
        monitor = self._card.monitor
        if monitor is None:
            return ()
        if monitor.layer is not None:
            return answer.features
        return features_of_input(image.array, self._card.input)

    def notes(self, features: tuple[float, ...]) -> tuple[str, ...]:
        """What the reader of the result should know: that the input is out of range."""
        monitor = self._card.monitor
        if monitor is None or self._reference is None or not features:
            return ()
        ratio = self._reference.ratio(features)
        if ratio <= monitor.out_of_range:
            return ()
        return (
            f"{UNUSUAL}: {ratio:.2g} times as far from its nearest examples as these are from "
            "each other at most; read the result with more care",
        )
