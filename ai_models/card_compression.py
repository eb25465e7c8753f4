"""How far a smaller version of a model may lie behind it, and what it is made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ai_models.card_base import Digest, Entry, Fraction, Text
from ai_models.card_runtime import Network

if TYPE_CHECKING:
    from ai_models.card import Card


class TorchTwin(Entry):
    """The same network for PyTorch."""

    network: Network
    """Its architecture, as ``runtime.network`` of a ``state_dict``."""
    path: Text
    """Its weights, a ``.safetensors`` or ``.pt`` beside the card."""
    sha256: Digest
    """As ``sha256sum`` prints it."""


class Compression(Entry):
    """Of ``dicom-node models compress``, which makes smaller versions of a model."""

    max_drop: Fraction = 0.01
    """How far any figure of a smaller version (Dice, area under the curve, sensitivity: 0 to 1)
    may lie below that of this version; one beyond it is not made a version."""
    reference: Text | None = None
    """Cases whose truth is known, a folder or a table as of ``dicom-node train``, from the folder
    of the card on. ``--cases`` takes its place; without both, answers to something drawn are
    compared with those of this version."""
    torch: TorchTwin | None = Field(default=None)
    """Of ``onnx``: the network that the file was exported from, to compare with and to slim."""


def compression_problems(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    """Key path and sentence of what in ``compression`` cannot go together."""
    entry, backend = card.compression, card.runtime.backend
    if entry is None:
        return
    if backend not in ("onnx", "state_dict"):
        yield "compression", f"of onnx and state_dict, the back-end is {backend}"
    if entry.torch is not None and backend != "onnx":
        yield "compression.torch", "of onnx: a state_dict is the network for PyTorch itself"
    told = [("compression.reference", entry.reference)]
    told += [("compression.torch.path", entry.torch.path)] if entry.torch else []
    for key, path in told:
        if path is not None and not (folder / path).resolve().is_relative_to(folder.resolve()):
            yield key, "must lie in the folder of the card"
