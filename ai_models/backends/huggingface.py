"""Hugging Face folders: a network for images or slices, or a language model, from local files.

``weights.path`` is the folder that ``save_pretrained`` wrote: ``config.json``, weights as
safetensors and, if there is one, ``preprocessor_config.json``. Its digest is compared before
anything is read; nothing is ever fetched; Python code in it runs only where card and site both
trust it. Inputs are scaled and sized by the card alone: see
`ai_models.backends.huggingface_agreement`.
"""

from __future__ import annotations

from typing import Any

import torch

from ai_models.backends.huggingface_agreement import check_preprocessing, compare_names
from ai_models.backends.huggingface_folder import (
    FolderLoader,
    check_folder,
    import_transformers,
    read_settings,
)
from ai_models.backends.huggingface_text import TextWriter, settled_device
from ai_models.backends.protocol import Answer, Backend, Network, NetworkInput, check_device
from ai_models.backends.sliding_window import CHANNELS_BY_ACTIVATION
from ai_models.backends.tiled import TiledBackend, answered_channels, input_channels
from ai_models.card import (
    Card,
    ClassificationCard,
    DetectionCard,
    RegressionCard,
    SegmentationCard,
    TextCard,
)
from ai_models.trust import Site
from ai_models.types import ModelError
from ai_models.weights import verify_folder

_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}


class HuggingFaceBackend:
    """Runs the model in a folder, whatever its task."""

    def __init__(self, card: Card, device: str, site: Site) -> None:
        self._inner: Backend
        if isinstance(card, TextCard):
            self._inner = TextWriter(card, device, site)
        else:
            self._inner = TiledBackend(card, device, site, HuggingFaceNetwork)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks of images, for explanations; a language model has none of them."""
        return self._inner.networks if isinstance(self._inner, TiledBackend) else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Backend.notes`."""
        return self._inner.notes

    def probe(self) -> None:
        """See `Backend.probe`."""
        self._inner.probe()

    def load(self) -> None:
        """See `Backend.load`."""
        self._inner.load()

    def warm_up(self) -> None:
        """See `Backend.warm_up`."""
        self._inner.warm_up()

    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`."""
        return self._inner.predict(image)

    def close(self) -> None:
        """See `Backend.close`."""
        self._inner.close()


class HuggingFaceNetwork:
    """An image classifier, regressor or semantic segmenter of the transformers library."""

    fallbacks = frozenset({"batch", "offload", "half", "cpu"})

    def __init__(
        self, card: Card, device: str, site: Site, path: object = None, sha256: str = ""
    ) -> None:
        self.device = torch.device("cpu")
        self._module: torch.nn.Module | None = None
        self._card = card
        self._device = device
        self._site = site
        self._is_member = path is not None
        self._home = self.device
        self._half = False
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Device and precision that are really used, and names that differ."""
        return self._notes

    @property
    def module(self) -> torch.nn.Module:
        """What takes windows to logits, once it is loaded."""
        if self._module is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        return self._module

    def probe(self) -> None:
        """See `Network.probe`."""
        card = self._card
        check_device(self._device)
        if self._is_member or isinstance(card, DetectionCard):
            raise ModelError(
                f"{card.id}: neither detection nor an ensemble is served from a Hugging Face "
                "folder", reason="model.task",
            )
        if card.input.kind == "volume" and card.input.ndim != 2:
            raise ModelError(
                f"{card.id}: a Hugging Face network takes images or slices (input.ndim 2)",
                reason="model.wrong_input",
            )
        check_folder(card, self._site)
        check_preprocessing(card, read_settings(card.weights_path / "preprocessor_config.json"))

    def load(self) -> None:
        """See `Network.load`."""
        verify_folder(self._card)
        self.probe()
        transformers = import_transformers()
        loads = "AutoModelForImageClassification"
        if isinstance(self._card, SegmentationCard):
            loads = "AutoModelForSemanticSegmentation"
        # Weights stay in 32 bits; where the card says so, `run` computes in 16.
        module = FolderLoader(self._card, self._site).model(loads, torch.float32)
        self._check_channels(module.config)
        names = compare_names(self._card, getattr(module.config, "id2label", None) or {})
        self._home, lacking = settled_device(self._device)
        self._module = _Logits(module).eval().to(self._home)
        self.device = self._home
        what = f"transformers {transformers.__version__}, {self._home}, "
        self._notes = (what + self._card.runtime.precision, *lacking, *names)

    def _check_channels(self, config: Any) -> None:
        card = self._card
        takes = getattr(config, "num_channels", None)
        if takes not in (None, input_channels(card)):
            raise ModelError(
                f"the network takes {takes} channels, the card gives {input_channels(card)}",
                reason="model.wrong_input",
            )
        wanted = (
            card.output.channels if isinstance(card, ClassificationCard | RegressionCard)
            else answered_channels(card)
        )
        is_marked = isinstance(card, SegmentationCard)
        hint = f"; {CHANNELS_BY_ACTIVATION}" if is_marked else ""
        if config.num_labels != wanted:
            raise ModelError(
                f"the network answers {config.num_labels} channels, the card says {wanted}{hint}",
                reason="model.wrong_output",
            )

    @torch.inference_mode()
    def run(self, windows: torch.Tensor) -> torch.Tensor:
        """See `Network.run`."""
        module = self.module
        dtype = _AUTOCAST.get(self._card.runtime.precision)
        if self._half and dtype is None:
            dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            logits: torch.Tensor = module(windows)
        return logits.float()

    def detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `Network.detect`: never, `probe` refuses such a card."""
        raise ModelError("no boxes come from a Hugging Face folder", reason="model.task")

    def settle(self, *, half: bool, cpu: bool) -> None:
        """See `Network.settle`."""
        self._half = half
        wanted = torch.device("cpu") if cpu else self._home
        if self._module is not None and wanted != self.device:
            self._module = self._module.to(wanted)
            self.device = wanted

    def close(self) -> None:
        """See `Network.close`."""
        self._module = None


class _Logits(torch.nn.Module):
    """Windows to logits of the windows' size; segmenters answer more coarsely."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.inner = module

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(pixel_values=windows).logits
        if logits.ndim == 4 and logits.shape[2:] != windows.shape[2:]:
            logits = torch.nn.functional.interpolate(
                logits.float(), size=windows.shape[2:], mode="bilinear", align_corners=False
            )
        return logits
