"""Back-ends: what runs the model of a card. Torch, MONAI and ONNX Runtime stay in here."""

from __future__ import annotations

import importlib
from typing import Any

from ai_models.backends.protocol import Answer, Backend, NetworkInput
from ai_models.card import Card
from ai_models.trust import Site

# Imported when asked for: none of them may cost the others' packages.
_NETWORKS = {
    "onnx": "ai_models.backends.onnx_runtime:OnnxNetwork",
    "torchscript": "ai_models.backends.torch_network:TorchNetwork",
    "state_dict": "ai_models.backends.torch_network:TorchNetwork",
    "torch_export": "ai_models.backends.torch_network:TorchNetwork",
    "open_inference": "ai_models.backends.open_inference:OpenInferenceNetwork",
}
_BACKENDS = {
    "monai_bundle": "ai_models.backends.monai_bundle:MonaiBundleBackend",
    "nnunet": "ai_models.backends.nnunet:NnunetBackend",
    "huggingface": "ai_models.backends.huggingface:HuggingFaceBackend",
    "command": "ai_models.backends.command:CommandBackend",
    "openai": "ai_models.backends.openai:OpenAiBackend",
}


def open_backend(card: Card, device: str, site: Site | None = None) -> Backend:
    """The back-end that the card asks for; nothing is loaded yet."""
    site = site or Site()
    backend = card.runtime.backend
    if backend in _BACKENDS:
        if backend == "monai_bundle":
            from ai_models.backends.monai_alone import import_monai

            import_monai()
        opened: Backend = _named(_BACKENDS[backend])(card, device, site)
        return opened
    from ai_models.backends.tiled import TiledBackend

    return TiledBackend(card, device, site, _named(_NETWORKS[backend]))


def _named(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


__all__ = ["Answer", "Backend", "NetworkInput", "open_backend"]
