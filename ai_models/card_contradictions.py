"""What in a card cannot go together, though every key for itself is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ai_models.card_entries import DetectionOutput, LabelEntry, SegmentationOutput

if TYPE_CHECKING:
    from ai_models.card import Card

AXIS_OF = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
_SUFFIXES = {
    "onnx": (".onnx",), "torchscript": (".ts", ".pt"), "torch_export": (".pt2",),
    "state_dict": (".pt", ".pth", ".safetensors"),
}
_OPTIONS = {
    "network": "state_dict", "bundle": "monai_bundle", "nnunet": "nnunet", "command": "command",
}
_SERVED = ("open_inference", "openai")


def contradictions(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    """Key path and what is wrong there, of everything that does not go together."""
    yield from _input(card)
    if isinstance(card.output, SegmentationOutput | DetectionOutput):
        yield from _labels(card.output.labels)
    yield from _weights(card, folder)
    yield from _runtime(card)


def _input(card: Card) -> Iterator[tuple[str, str]]:
    entry = card.input
    if len({AXIS_OF[direction] for direction in entry.axes}) != 3:
        yield "input.axes", "one of L or R, one of P or A and one of S or I, in any order"
    for key, bounds in (
        ("clip", entry.intensity.clip), ("clip_percentiles", entry.intensity.clip_percentiles),
        ("scale_to", entry.intensity.scale_to),
    ):
        if bounds is not None and bounds[0] >= bounds[1]:
            yield (
                f"input.intensity.{key}",
                f"the lower bound {bounds[0]} is not below {bounds[1]}",
            )


def _labels(entries: list[LabelEntry]) -> Iterator[tuple[str, str]]:
    for position, entry in enumerate(entries):
        for earlier in entries[:position]:
            if earlier.name == entry.name:
                yield f"output.labels[{position}].name", f"{entry.name!r} is already a label"
            if earlier.color_rgb == entry.color_rgb:
                yield f"output.labels[{position}].color_rgb", f"same colour as {earlier.name!r}"


def _weights(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    runtime = card.runtime
    if card.weights.path is None:
        if runtime.backend not in _SERVED:
            yield "weights.path", f"a {runtime.backend} model has its weights beside the card"
        return
    path = Path(card.weights.path)
    if path.is_absolute() or not (folder / path).resolve().is_relative_to(folder.resolve()):
        yield "weights.path", "must lie in the folder of the card"
    suffixes = _SUFFIXES.get(runtime.backend)
    if suffixes and path.suffix not in suffixes:
        yield "weights.path", f"a {runtime.backend} file ends in {' or '.join(suffixes)}"


def _runtime(card: Card) -> Iterator[tuple[str, str]]:
    runtime = card.runtime
    if runtime.backend == "state_dict" and runtime.network is None:
        yield "runtime.network", "a state_dict needs the architecture it belongs to"
    if runtime.backend != "state_dict" and runtime.network is not None:
        yield "runtime.network", f"a {runtime.backend} file brings its own architecture"
    if runtime.backend == "onnx" and runtime.precision != "fp32":
        yield "runtime.precision", "an ONNX file fixes its own precision: fp32 expected here"
