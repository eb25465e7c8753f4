"""Where a model comes from, what speaks for it, and what it must be trusted with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ai_models.card_base import (
    Digest,
    Entry,
    Finite,
    Fraction,
    Identifier,
    Licence,
    LongName,
    Text,
)


class Member(Entry):
    """One more weights file of an ensemble (a fold): its scores are averaged with the others'."""

    path: Text
    """Beside the card, of the same kind as ``weights.path``."""
    sha256: Digest
    """As ``sha256sum`` prints it."""


class Weights(Entry):
    """The weights beside the card; nothing is loaded whose SHA-256 differs."""

    path: Text | None = None
    """A file or a folder, from the folder of the card on; absent where another host serves the
    model."""
    sha256: Digest | None = None
    """As ``sha256sum`` prints it, of a folder as said below. Of a served model what that host's
    people state: the node says that it did not check it."""
    licence: Licence
    """Of the weights, by its SPDX name if it has one. Empty where there is none: such a model is
    refused at a clinical site."""
    source: Text
    """Where they are from: an address, or who trained them."""
    ensemble: Annotated[list[Member], Field(max_length=15)] = []
    """Further files whose scores are averaged with the first. Of ``onnx``, ``torchscript``,
    ``state_dict`` and ``torch_export``; nnU-Net has folds."""


class Explanation(Entry):
    """What a classification looked at: a map for each score that is high enough."""

    method: Literal["grad_cam", "grad_cam_pp", "occlusion"]
    """``occlusion`` covers parts of the input and sees the score fall, some hundred times; the
    others need the layers of a torch network."""
    layer: LongName | None = None
    """Of ``grad_cam`` and ``grad_cam_pp``: a module of the network; chosen by the size of its map
    when absent."""
    scores: list[Identifier] = []
    """Names of ``output.scores``; all when empty."""
    from_score: Fraction = 0.5
    """A lower score is not explained."""


class Metric(Entry):
    """One measured figure."""

    name: LongName
    """``Dice of the liver``."""
    value: Finite
    """``0.97``."""
    measured_on: Text
    """``12 held-out series of our hospital``."""


class Evidence(Entry):
    """What was measured, on what. Nothing measured is said as such, never left to be guessed."""

    validated_on: Text
    """In a sentence; ``not validated`` is one."""
    metrics: list[Metric] = []
    """Figures of that."""


class Trust(Entry):
    """What the model needs beyond data; a site allows it by naming the folder as trusted."""

    remote_code: bool = False
    """Python beside the weights. Of ``huggingface`` and ``monai_bundle``."""
    config_exec: bool = False
    """Expressions in a configuration: ``monai_bundle`` does not run without."""
    pickle: bool = False
    """Weights that only Python's pickle reads. Of ``huggingface`` and ``nnunet``."""
    program: bool = False
    """A program of somebody else: ``command`` does not run without."""
    network: Literal[False] = False
    """Never allowed: what a model needs is there before it is loaded."""
