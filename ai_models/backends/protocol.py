"""What a back-end promises, and the one door through which weights come in."""

from __future__ import annotations

import hashlib
from typing import Protocol

from ai_models.card import Card
from ai_models.types import FloatArray, ModelError


class Backend(Protocol):
    """Runs one network on one device.

    Geometry is not its business: it takes windows and answers logits of the same window.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What really runs: device, provider, precision, and any fall-back that was taken."""

    def probe(self) -> None:
        """Check cheaply that this could run: packages, device, file. ModelError if not."""

    def load(self) -> None:
        """Verify the weights and put the network on the device. ModelError if not."""

    def warm_up(self) -> None:
        """Run one empty window, so that the first patient does not pay for it."""

    def predict(self, batch: FloatArray) -> FloatArray:
        """Windows ``(batch, 1, *roi)`` float32 to logits ``(batch, channels, *roi)`` float32."""

    def close(self) -> None:
        """Let go of the network and its memory."""


def read_verified_weights(card: Card) -> bytes:
    """The weights file of a card, read once and compared with the card's SHA-256.

    The very bytes that were compared are the ones loaded.

    Raises
    ------
    ModelError
        ``model.weights_missing`` or ``model.hash_mismatch``.
    """
    if card.weights_path.exists() and not card.weights_path.is_file():
        raise ModelError(
            f"the weights {card.weights_path} are not a plain file", reason="model.weights_missing"
        )
    try:
        content = card.weights_path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the weights {card.weights_path} cannot be read: {error.strerror}",
            reason="model.weights_missing",
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != card.weights.sha256:
        raise ModelError(
            f"the weights {card.weights_path} have SHA-256 {found}, the card says "
            f"{card.weights.sha256}: restore the file or check the model anew",
            reason="model.hash_mismatch",
        )
    return content


def check_device(device: str) -> None:
    """Refuse a device name that is neither ``cpu`` nor ``cuda:<n>`` (``model.device_unknown``)."""
    kind, _, number = device.partition(":")
    if device != "cpu" and not (kind == "cuda" and number.isdecimal()):
        raise ModelError(
            f"device {device!r}: cpu or cuda:<number> expected", reason="model.device_unknown"
        )
