"""What a back-end promises. Geometry is not its business: `ai_models.predictor` owns it.

Two doors. A *back-end* takes one whole input on the grid that the card asks for and answers on
that very grid. Most models are just a *network* that takes windows to logits: for these,
`ai_models.backends.tiled.TiledBackend` is the back-end, and slides, batches, mirrors, averages and
falls back when memory does not suffice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ai_models.types import Affine, FloatArray, LabelMap, ModelError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ai_models.card import Card
    from ai_models.trust import Site


@dataclass(frozen=True)
class NetworkInput:
    """One input as the card wants it.

    Attributes
    ----------
    array
        ``(channels, slices, rows, columns)`` float32 of a volume, in the order and sense of
        ``input.axes``; ``(channels, rows, columns)`` of an image. Scaled and normalised.
    affine_lps
        4x4, index (slice, row, column) of the array to mm in LPS; ``None`` of an image.
    spacing_mm
        Of the array's axes; empty where an image's is unknown.
    background
        The value of what lies outside, for padding.
    """

    array: FloatArray
    affine_lps: Affine | None = None
    spacing_mm: tuple[float, ...] = ()
    background: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a back-end answers; one of the first four, as the card's task asks.

    Attributes
    ----------
    scores
        After the card's activation, float32: ``(channels, slices, rows, columns)`` of a
        segmentation, of an image ``(channels, rows, columns)``; ``(channels,)`` or, slice by
        slice, ``(slices, channels)`` of a classification or regression. Channels are the
        network's.
    label_map
        ``(slices, rows, columns)`` uint8, from what gives labels and no scores.
    boxes
        ``(n, 8)`` float32 of a detection: two corners (voxels of the input in the order of its
        axes, edges and not centres: voxel ``i`` reaches from ``i`` to ``i + 1``), score,
        `Label.value`.
    text
        Of a text model.
    notes
        What the reader of the result should know: precision, device, fall-backs taken.
    parameters
        What changed the numbers (``{"fall_back": "half"}``): part of the result's identity.
    features
        Of the layer that the card's ``monitor`` watches, pooled over the input; empty where none
        is watched.
    """

    scores: FloatArray | None = None
    label_map: LabelMap | None = None
    boxes: FloatArray | None = None
    text: str | None = None
    notes: tuple[str, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)
    features: tuple[float, ...] = ()


class Backend(Protocol):
    """Runs one model on one device. ModelError whenever it cannot."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What really runs: device, provider, precision, and any fall-back that was taken."""

    def probe(self) -> None:
        """Check cheaply that this could run: packages, device, files."""

    def load(self) -> None:
        """Verify the weights and put the model on the device. No network access."""

    def warm_up(self) -> None:
        """Run one empty input, so that the first patient does not pay for it."""

    def predict(self, image: NetworkInput) -> Answer:
        """Answer one input, on its grid."""

    def close(self) -> None:
        """Let go of the model and its memory."""


class Network(Protocol):
    """Takes windows to logits, for `TiledBackend`. ModelError whenever it cannot.

    Constructed as `NetworkType` says. ``device`` is where windows must lie (the CPU until
    `load`). ``fallbacks`` are the card's words that it can follow, complete once it is loaded.
    """

    device: torch.device
    fallbacks: frozenset[str]

    @property
    def notes(self) -> tuple[str, ...]:
        """What really runs: device, provider, precision."""

    def probe(self) -> None:
        """See `Backend.probe`."""

    def load(self) -> None:
        """See `Backend.load`."""

    def run(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows ``(batch, channels, *spatial)`` float32 to logits float32 on the same device.

        Raises what the library raises when memory does not suffice; `is_out_of_memory` knows it.
        """

    def detect(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One input ``(1, channels, *spatial)`` to boxes ``(n, 6)``, scores ``(n,)``, labels.

        As the network answers them (``(n, 4)`` in two dimensions); `found_by_name` knows the
        names that detectors give to the three.
        """

    def settle(self, *, half: bool, cpu: bool) -> None:
        """Go on in 16 bits, or on the CPU; back again when both are false."""

    def close(self) -> None:
        """See `Backend.close`."""


class NetworkType(Protocol):
    """How a network is made: of a card, or of one member of its ensemble."""

    def __call__(
        self, card: Card, device: str, site: Site, path: Path | None = None, sha256: str = ""
    ) -> Network:
        """``path`` and ``sha256`` as `ai_models.weights.read_verified_weights` takes them."""


def found_by_name(
    answers: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes, scores and labels of what a detector answers, by the names in use.

    torchvision says ``boxes``, ``scores`` and ``labels``, MONAI ``box``, ``label_scores`` and
    ``label``; without any such name, the order is boxes, scores, labels.

    Raises
    ------
    ModelError
        ``model.wrong_output``: there are not three answers.
    """
    values = list(answers.values())
    found: dict[str, torch.Tensor] = {}
    for name, value in answers.items():
        for kind in ("box", "score", "label"):
            if kind in name.lower():
                found.setdefault(kind, value)
                break
    if len(found) == 3:
        return found["box"], found["score"], found["label"]
    if len(values) != 3:
        raise ModelError(
            f"the network answers {', '.join(answers) or 'nothing'}: boxes, scores and labels "
            "expected", reason="model.wrong_output",
        )
    return values[0], values[1], values[2]


_MEMORY_WORDS = (
    "out of memory", "outofmemory", "failed to allocate memory", "allocate memory: you tried",
    "cannot allocate memory", "alloc_failed", "available memory of", "bad_alloc",
    "bad allocation", "cudaerrormemoryallocation", "allocation_failed",
    # What PyTorch says once each of cuDNN's ways lacked the memory for its working space.
    "unable to find an engine to execute",
)
# Of PyTorch, of its libraries, and of ONNX Runtime.
_DEVICE_WORDS = (
    "cuda error", "cuda failure", "cudnn error", "cudnn failure", "cudnn_status_", "cublas_status_",
    "cublas failure", "cufft_status_", "cusparse_status_", "cusolver error", "nvrtc error",
    "device-side assert", "illegal memory access", "acceleratorerror",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a library says, in its own way, that memory did not suffice."""
    return any(
        isinstance(one, MemoryError) or any(words in text for words in _MEMORY_WORDS)
        for one, text in _said(error)
    )


def is_device_failure(error: BaseException | None) -> bool:
    """Whether a library says that the GPU failed, and not for want of memory.

    After most of these nothing works any more in this process ("sticky" errors: CUDA Runtime API,
    cudaErrorIllegalAddress), and which kernel is to blame is often not known.
    """
    return not is_out_of_memory(error) and any(
        words in text for _, text in _said(error) for words in _DEVICE_WORDS
    )


def _said(error: BaseException | None) -> Iterator[tuple[BaseException, str]]:
    """An error and what it was raised from, each with its type and words in small letters."""
    while error is not None:
        yield error, f"{type(error).__name__} {error}".lower()
        error = error.__cause__


def check_device(device: str) -> None:
    """Refuse a device name that is neither ``cpu`` nor ``cuda:<n>`` (``model.device_unknown``)."""
    kind, _, number = device.partition(":")
    if device != "cpu" and not (kind == "cuda" and number.isdecimal()):
        raise ModelError(
            f"device {device!r}: cpu or cuda:<number> expected", reason="model.device_unknown"
        )


def empty_input(channels: int, edges: tuple[int, ...], background: float) -> NetworkInput:
    """An input that holds nothing, for warming up."""
    array = np.full((channels, *edges), background, dtype=np.float32)
    return NetworkInput(array, np.eye(4), (1.0,) * len(edges), background)
