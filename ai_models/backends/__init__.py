"""Back-ends: what runs the network of a card. Torch, MONAI and ONNX Runtime stay in here."""

from __future__ import annotations

from ai_models.backends.protocol import Backend
from ai_models.card import Card


def open_backend(card: Card, device: str) -> Backend:
    """The back-end that the card asks for; nothing is loaded yet."""
    if card.runtime.backend == "onnx":
        from ai_models.backends.onnx_runtime import OnnxBackend

        return OnnxBackend(card, device)
    from ai_models.backends.torch_script import TorchBackend

    return TorchBackend(card, device)


__all__ = ["Backend", "open_backend"]
