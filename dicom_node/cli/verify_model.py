"""A model that the conformance suite looks at: its card, and the worker processes that run it."""

from __future__ import annotations

import math
import time
from pathlib import Path

from ai_models.card import Card
from ai_models.types import ModelError, ModelInput, Prediction
from dicom_node.errors import NodeError
from dicom_node.events import Events
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.worker_process import Cancelled


class WorkerEvents(Events):
    """What a pool tells; ``process_id`` is that of the last worker that it started."""

    process_id = 0

    def worker_changed(self, device: str, what: str, reason: str = "") -> None:
        """See `Events`."""
        super().worker_changed(device, what, reason)
        if what == "started":
            self.process_id = int(reason.removeprefix("pid "))


class VerifiedModel:
    """One model in a pool of one device.

    Attributes
    ----------
    seconds
        How long the quickest answer took: the others waited for a process, or for the model.
    """

    def __init__(
        self, card: Card, pool: InferencePool, events: WorkerEvents, scratch: Path,
        deadline_s: float,
    ) -> None:
        self.card = card
        self.scratch = scratch
        self.seconds = math.inf
        self._pool = pool
        self._events = events
        self._deadline_s = deadline_s

    @property
    def process_id(self) -> int:
        """Of the worker."""
        return self._events.process_id

    def predict(self, source: ModelInput) -> Prediction:
        """The model's answer.

        Raises
        ------
        ModelError
            Whatever went wrong, with its reason.
        """
        return self.predict_as(self.card, source)

    def predict_as(self, card: Card, source: ModelInput) -> Prediction:
        """The answer by another card of the same folder."""
        try:
            return self.ask(card, source)
        except NodeError as error:
            raise ModelError(str(error), reason=error.reason) from error

    def ask(
        self, card: Card, source: ModelInput, *, deadline_s: float | None = None,
        cancelled: Cancelled | None = None,
    ) -> Prediction:
        """As `InferencePool.predict`, and raising what that raises."""
        began = time.monotonic()
        answer = self._pool.predict(
            card, source, deadline_s=self._deadline_s if deadline_s is None else deadline_s,
            cancelled=cancelled,
        )
        self.seconds = min(self.seconds, time.monotonic() - began)
        return answer
