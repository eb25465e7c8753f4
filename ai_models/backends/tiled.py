"""A network as a back-end: windows slid over the input, batched, and their answers blended."""

from __future__ import annotations

import numpy as np
import torch

from ai_models.backends.protocol import Answer, Network, NetworkInput, empty_input
from ai_models.backends.sliding_window import sliding_window_scores
from ai_models.card import Card, SegmentationCard
from ai_models.trust import Site
from ai_models.types import FloatArray


class TiledBackend:
    """Runs a network window by window."""

    def __init__(self, card: Card, device: str, site: Site, network: type[Network]) -> None:
        self._card = card
        self._network = network(card, device, site)  # type: ignore[call-arg]

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Backend.notes`."""
        return self._network.notes

    def probe(self) -> None:
        """See `Backend.probe`."""
        self._network.probe()

    def load(self) -> None:
        """See `Backend.load`."""
        self._network.load()

    def warm_up(self) -> None:
        """See `Backend.warm_up`."""
        self.predict(empty_input(1, tuple(self._card.runtime.roi or ()), 0.0))

    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`."""
        card, runtime = self._card, self._card.runtime
        if not isinstance(card, SegmentationCard) or runtime.roi is None:
            raise NotImplementedError
        softmax = card.output.activation == "softmax"
        first, second, third = runtime.roi
        scores = sliding_window_scores(
            image.array[0], lambda windows: self._scores(windows, softmax),
            roi=(first, second, third), overlap=runtime.overlap, batch=runtime.batch,
            channels=len(card.output.labels) + (1 if softmax else 0), padding=image.background,
        )
        return Answer(scores=scores, notes=self.notes)

    def _scores(self, windows: FloatArray, softmax: bool) -> FloatArray:
        logits = self._network.run(torch.from_numpy(windows).to(self._network.device))
        scores = torch.softmax(logits, dim=1) if softmax else torch.sigmoid(logits)
        return np.asarray(scores.cpu().numpy(), dtype=np.float32)

    def close(self) -> None:
        """See `Backend.close`."""
        self._network.close()
