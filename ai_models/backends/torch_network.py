"""PyTorch: TorchScript files, and weights alone (``state_dict``) of a named architecture.

A TorchScript file is a program: `torch.jit.load` runs what its author wrote, so put in a model
directory only files whose author you trust. A ``state_dict`` is data: it is read with
``weights_only`` (or safetensors), and its architecture comes from the list below. Nothing here
reaches for a network.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from typing import Any

import torch

from ai_models.backends.protocol import check_device
from ai_models.card import Card
from ai_models.trust import Site
from ai_models.types import ModelError
from ai_models.weights import read_verified_weights

ARCHITECTURES: Mapping[str, str] = {
    "monai.AttentionUnet": "monai.networks.nets:AttentionUnet",
    "monai.BasicUNet": "monai.networks.nets:BasicUNet",
    "monai.DynUNet": "monai.networks.nets:DynUNet",
    "monai.SegResNet": "monai.networks.nets:SegResNet",
    "monai.SwinUNETR": "monai.networks.nets:SwinUNETR",
    "monai.UNETR": "monai.networks.nets:UNETR",
    "monai.UNet": "monai.networks.nets:UNet",
}
_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchNetwork:
    """A network that PyTorch runs."""

    fallbacks = frozenset({"batch", "offload", "roi", "half", "cpu"})

    def __init__(self, card: Card, device: str, site: Site) -> None:
        self.device = torch.device("cpu")
        self._card = card
        self._device = device
        self._module: Any = None
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Device and precision that are really used."""
        return self._notes

    def probe(self) -> None:
        """See `Network.probe`."""
        check_device(self._device)
        if not self._card.weights_path.is_file():
            raise ModelError(
                f"no weights at {self._card.weights_path}", reason="model.weights_missing"
            )
        network = self._card.runtime.network
        if network is not None and network.name not in ARCHITECTURES:
            raise ModelError(
                f"no architecture {network.name!r}; there are: {', '.join(ARCHITECTURES)}",
                reason="model.architecture_unknown",
            )

    def load(self) -> None:
        """See `Network.load`."""
        self.probe()
        content = read_verified_weights(self._card)
        device = torch.device(self._device)
        notes = []
        if device.type == "cuda" and not torch.cuda.is_available():
            device = torch.device("cpu")
            notes.append(f"{self._device} was asked for, but torch sees no CUDA: ran on the CPU")
        try:
            module = self._build(content)
        except ModelError:
            raise
        except Exception as error:  # torch raises plain RuntimeError, KeyError, UnpicklingError
            raise ModelError(
                f"torch cannot load {self._card.weights_path.name}: {error}",
                reason="model.load_failed",
            ) from error
        self._module = module.eval().to(device)
        self.device = device
        what = f"torch {torch.__version__}, {device}, {self._card.runtime.precision}"
        self._notes = (what, *notes)

    def _build(self, content: bytes) -> Any:
        network = self._card.runtime.network
        if network is None:
            return torch.jit.load(io.BytesIO(content), map_location="cpu")
        where, _, name = ARCHITECTURES[network.name].partition(":")
        module = getattr(importlib.import_module(where), name)(**network.arguments)
        module.load_state_dict(self._state_dict(content), strict=True)
        return module

    def _state_dict(self, content: bytes) -> Mapping[str, Any]:
        if self._card.weights_path.suffix == ".safetensors":
            try:
                load_safetensors = importlib.import_module("safetensors.torch").load
            except ImportError as error:
                raise ModelError(
                    "the safetensors package is not installed", reason="model.backend_missing"
                ) from error
            tensors: Mapping[str, Any] = load_safetensors(content)
            return tensors
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        inner = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
        if not isinstance(inner, dict):
            raise ModelError("the file holds no state_dict", reason="model.load_failed")
        return inner

    @torch.inference_mode()
    def run(self, windows: torch.Tensor) -> torch.Tensor:
        """See `Network.run`."""
        if self._module is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        dtype = _AUTOCAST.get(self._card.runtime.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            logits: torch.Tensor = self._module(windows)
        return logits.float()

    def settle(self, *, half: bool, cpu: bool) -> None:
        """See `Network.settle`."""

    def close(self) -> None:
        """See `Network.close`."""
        self._module = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
