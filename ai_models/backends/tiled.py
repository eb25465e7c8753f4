"""Networks as a back-end, whatever the task: windows or the whole, members averaged, and what is
done when memory does not suffice.

On a GPU the input goes there once, windows are cut there and sums gathered there; only the scores
come back.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch

from ai_models.array.activation import activated, calibrated
from ai_models.backends.fallbacks import Reached, Rung, ladder
from ai_models.backends.findings import found_boxes
from ai_models.backends.protocol import (
    Answer,
    Network,
    NetworkInput,
    NetworkType,
    empty_input,
    is_out_of_memory,
)
from ai_models.backends.sliding_window import sliding_window_logits, whole_logits
from ai_models.backends.watching import Watch, watched
from ai_models.backends.window_sizes import refused_size
from ai_models.backends.windows import gaussian
from ai_models.card import (
    Card,
    ClassificationCard,
    DetectionCard,
    RegressionCard,
    SegmentationCard,
)
from ai_models.card_entries import Runtime
from ai_models.trust import Site
from ai_models.types import FloatArray, ModelError

# Pinned memory is taken from everyone: larger inputs and answers travel through plain memory.
_LARGEST_PINNED_BYTES = 1 << 31
_LARGEST_WARMED_ON_CPU_VOXELS = 1 << 22


class TiledBackend:
    """Runs the network of a card, or the mean of its ensemble's."""

    def __init__(self, card: Card, device: str, site: Site, network: NetworkType) -> None:
        self._card = card
        self.networks: tuple[Network, ...] = (
            network(card, device, site),
            *(
                network(card, device, site, card.folder / member.path, member.sha256)
                for member in card.weights.ensemble
            ),
        )
        self._rungs = [_first_rung(card)]
        self._reached = Reached()
        self._last = self._rungs[0]
        self._watch: Watch | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Backend.notes`."""
        notes = self.networks[0].notes
        if len(self.networks) > 1:
            notes = (*notes, f"mean of {len(self.networks)} networks")
        return (*notes, *self._last.notes)

    def probe(self) -> None:
        """See `Backend.probe`."""
        _check_card(self._card)
        for network in self.networks:
            network.probe()

    def load(self) -> None:
        """See `Backend.load`."""
        _check_card(self._card)
        for network in self.networks:
            network.load()
        self._watch = watched(self._card, self.networks[0])
        able = frozenset.intersection(*(network.fallbacks for network in self.networks))
        if self.networks[0].device.type == "cpu":
            able -= {"offload"}
        runtime = self._card.runtime
        self._rungs = ladder(
            _first_rung(self._card), runtime.fallbacks, able,
            cpu_changes=runtime.precision != "fp32",
        )
        self._reached = Reached()

    def warm_up(self) -> None:
        """See `Backend.warm_up`. A card that gives no size is not warmed up."""
        entry = self._card.input
        edges = tuple(entry.size.edges if entry.size else self._card.runtime.roi or ())
        on_gpu = self.networks[0].device.type == "cuda"
        # A processor gains little by it, and a whole volume costs the first patient a minute.
        if not edges or (not on_gpu and math.prod(edges) > _LARGEST_WARMED_ON_CPU_VOXELS):
            return
        # On a GPU, libraries settle on how to compute for every number of windows.
        batch = self._rungs[0].batch if on_gpu else 1
        if entry.kind == "volume" and len(edges) == 2:
            edges = (batch, *edges)
        elif self._rungs[0].roi is not None:
            edges = (*edges[:-1], edges[-1] * batch)
        image = empty_input(input_channels(self._card), edges, 0.0)
        # Windows of one value are computed once, so these differ.
        image.array[..., ::2] = 1.0
        self.predict(image)

    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`."""
        voxels = image.array[0].size
        number = self._reached.begin_at(voxels)
        while True:
            rung = self._rungs[number]
            try:
                return self._answer(image, rung, number)
            except Exception as error:  # every library has its own type for a lack of memory
                told = refused_size(error, self._card, rung.roi or image.array.shape[1:])
                if told is not None:
                    raise told from error
                if not is_out_of_memory(error) or number + 1 == len(self._rungs):
                    raise
            # Only here nothing holds the tensors of the attempt any more.
            free_memory()
            number += 1

    def _answer(self, image: NetworkInput, rung: Rung, number: int) -> Answer:
        for network in self.networks:
            network.settle(half=rung.half, cpu=rung.cpu)
        scores, boxes = None, None
        if self._watch is not None:
            self._watch.begin()
        # Not around `settle`: weights that move in there could never be explained by gradients.
        with torch.inference_mode():
            if isinstance(self._card, SegmentationCard):
                scores = self._segment(self._card, image, rung)
            elif isinstance(self._card, ClassificationCard | RegressionCard):
                scores = self._judge(self._card, image, rung)
            elif isinstance(self._card, DetectionCard):
                boxes = found_boxes(self._card, self.networks[0], image, rung.roi)
        self._reached.keep(image.array[0].size, number)
        self._last = rung
        parameters = dict(rung.parameters)
        # The host may have another one tomorrow, under the same card.
        if version := getattr(self.networks[0], "served_version", ""):
            parameters["served_version"] = version
        return Answer(
            scores=scores, boxes=boxes, notes=self.notes, parameters=parameters,
            features=self._watch.taken() if self._watch is not None else (),
        )

    def _segment(self, card: SegmentationCard, image: NetworkInput, rung: Rung) -> FloatArray:
        batch = as_batch(image.array, card)
        total: torch.Tensor | None = None
        for network in self.networks:
            sums_on = torch.device("cpu") if rung.offload else network.device
            scores = _activate_in_place(
                self._logits(network, _placed(batch, sums_on), image.background, rung, sums_on),
                card.output.activation,
            )
            total = scores if total is None else total.add_(scores)
        if total is None:
            raise ModelError("a card without a network", reason="model.not_loaded")
        if len(self.networks) > 1:
            total.div_(len(self.networks))
        answer = _to_host(total)
        return np.moveaxis(answer, 0, 1) if _is_by_slice(image.array, card) else answer[0]

    def _logits(
        self, network: Network, image: torch.Tensor, background: float, rung: Rung,
        sums_on: torch.device,
    ) -> torch.Tensor:
        runtime, channels = self._card.runtime, answered_channels(self._card)
        predict = _mirrored(network.run, self._card.output.mirror)
        if rung.roi is None:
            return whole_logits(
                image, predict, batch=rung.batch, channels=channels, windows_on=network.device,
                sums_on=sums_on,
            )
        return sliding_window_logits(
            image, predict, roi=rung.roi, overlap=runtime.overlap, batch=rung.batch,
            channels=channels, padding=background, windows_on=network.device, sums_on=sums_on,
        )

    def _judge(
        self, card: ClassificationCard | RegressionCard, image: NetworkInput, rung: Rung
    ) -> FloatArray:
        batch = as_batch(image.array, card)
        answers = [
            np.mean([
                self._scores(card, network, batch, dims, rung)
                for dims in _mirrors(card.output.mirror)
            ], axis=0)
            for network in self.networks
        ]
        scores = np.asarray(np.mean(answers, axis=0), dtype=np.float32)
        is_sliced = _is_by_slice(image.array, card) or is_sequence(card)
        return scores if is_sliced else scores[0]

    def _scores(
        self, card: ClassificationCard | RegressionCard, network: Network, batch: FloatArray,
        dims: tuple[int, ...], rung: Rung,
    ) -> FloatArray:
        """Scores ``(inputs, channels)`` of inputs flipped along these dimensions.

        Of a network that answers a sequence they are those of the slices of its one input.
        """
        parts = []
        for start in range(0, len(batch), rung.batch):
            windows = _placed(batch[start : start + rung.batch], network.device)
            logits = network.run(windows.flip(dims))
            count = len(windows)
            if is_sequence(card):
                count = windows.shape[2]
                logits = _of_sequence(logits, count, is_reversed=2 in dims)
            logits = logits.flatten(1)
            if tuple(logits.shape) != (count, card.output.channels):
                raise ModelError(
                    f"the network answered {tuple(logits.shape)}, the card says "
                    f"{(count, card.output.channels)}", reason="model.wrong_output",
                )
            parts.append(logits.cpu().numpy())
        logits_of_all: FloatArray = np.concatenate(parts)
        if not isinstance(card, ClassificationCard):
            return activated(logits_of_all, "none")
        if card.output.activation != "none":
            logits_of_all = calibrated(logits_of_all, {
                entry.channel: (entry.calibration.temperature, entry.calibration.bias)
                for entry in card.output.scores
            })
        return activated(logits_of_all, card.output.activation)

    def close(self) -> None:
        """See `Backend.close`."""
        for network in self.networks:
            network.close()
        gaussian.cache_clear()
        free_memory()


def input_channels(card: Card) -> int:
    """How many channels the network takes; of a series in phases the fewest."""
    return card.input.channel_counts[0]


def answered_channels(card: Card) -> int:
    """How many channels the network of a segmentation must answer."""
    if not isinstance(card, SegmentationCard):
        raise ModelError(f"a {card.task} has no channels of voxels", reason="model.task")
    background = 0 if card.output.activation == "sigmoid" else 1
    return background + len(card.output.labels) + len(card.output.ignored)


def as_batch(array: FloatArray, card: Card) -> FloatArray:
    """``(inputs, channels, *spatial)`` of one input: its slices where the network is flat.

    Raises
    ------
    ModelError
        ``model.wrong_input``: the array has neither the axes nor the channels of the card.
    """
    wanted = 4 if card.input.kind == "volume" else 3
    least, most = card.input.channel_counts
    if array.ndim != wanted or not least <= len(array) <= most:
        channels = f"{least}" if least == most else f"{least} to {most}"
        raise ModelError(
            f"an input of shape {array.shape}, the card takes {channels} channels "
            f"and {wanted - 1} axes", reason="model.wrong_input",
        )
    if _is_by_slice(array, card):
        return np.ascontiguousarray(np.moveaxis(array, 0, 1))
    return np.ascontiguousarray(array)[None]


def _is_by_slice(array: FloatArray, card: Card) -> bool:
    return array.ndim == 4 and is_flat(card)


def is_flat(card: Card) -> bool:
    """Whether the network takes images or slices, not volumes."""
    per_slice = isinstance(card, ClassificationCard) and card.output.per == "slice"
    return per_slice or card.input.ndim == 2 or card.input.kind == "image"


def is_sequence(card: Card) -> bool:
    """Whether the network takes a whole volume and answers each of its slices."""
    return isinstance(card, ClassificationCard) and card.output.per == "sequence"


def _of_sequence(logits: torch.Tensor, slices: int, *, is_reversed: bool) -> torch.Tensor:
    """``(slices, channels)`` of ``(1, slices, channels)``, in the order of the volume."""
    if logits.ndim != 3 or tuple(logits.shape[:2]) != (1, slices):
        raise ModelError(
            f"the network answered {tuple(logits.shape)}: (1, {slices}, channels) expected of a "
            "sequence", reason="model.wrong_output",
        )
    return logits[0].flip(0) if is_reversed else logits[0]


def free_memory() -> None:
    """Let the device have back what no tensor holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first_rung(card: Card) -> Rung:
    runtime: Runtime = card.runtime
    cuts = isinstance(card, SegmentationCard | DetectionCard) and card.input.size is None
    roi = tuple(runtime.roi) if cuts and runtime.roi else None
    if roi is not None and is_flat(card):
        roi = roi[-2:]
    several = roi is not None or (card.input.kind == "volume" and is_flat(card))
    if isinstance(card, DetectionCard):
        several = False
    return Rung(runtime.batch if several else 1, roi)


def _check_card(card: Card) -> None:
    if card.task == "text":
        raise ModelError("a network answers no text", reason="model.task")
    if isinstance(card, DetectionCard):
        if card.output.mirror or card.weights.ensemble:
            raise ModelError(
                "boxes are not averaged: neither output.mirror nor weights.ensemble",
                reason="model.task",
            )
        if card.input.kind == "volume" and is_flat(card):
            raise ModelError("boxes in a volume need input.ndim 3", reason="model.task")


def _mirrors(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every set of dimensions of ``(batch, channels, *spatial)`` to flip, the empty one first."""
    dims = sorted({axis + 2 for axis in axes})
    return [some for count in range(len(dims) + 1) for some in combinations(dims, count)]


def _mirrored(
    run: Callable[[torch.Tensor], torch.Tensor], axes: Sequence[int]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network that answers the mean of its logits for mirrored windows."""
    every = _mirrors(axes)

    def mean(windows: torch.Tensor) -> torch.Tensor:
        total = run(windows)
        for dims in every[1:]:
            total = total + run(windows.flip(dims)).flip(dims)
        return total / len(every)

    return run if len(every) == 1 else mean


def _placed(array: FloatArray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor.to(device)
    if array.nbytes <= _LARGEST_PINNED_BYTES:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _to_host(tensor: torch.Tensor) -> FloatArray:
    if tensor.device.type == "cuda" and tensor.nbytes <= _LARGEST_PINNED_BYTES:
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        tensor = host.copy_(tensor)
    return np.asarray(tensor.cpu().numpy(), dtype=np.float32)


def _activate_in_place(logits: torch.Tensor, activation: str) -> torch.Tensor:
    """Scores in the place of logits ``(inputs, channels, *spatial)``, part by part."""
    for one in logits:
        for part in one.split(max(1, one.shape[1] // 8), dim=1):
            if not bool(torch.isfinite(part.sum())):
                raise ModelError("the network answered NaN or infinity", reason="model.not_finite")
            if activation == "softmax":
                part.copy_(torch.softmax(part, dim=0))
            elif activation == "sigmoid":
                part.sigmoid_()
    return logits
