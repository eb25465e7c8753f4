"""A trained folder of nnU-Net v2, and whether a card describes it.

``plans.json`` names Python classes that nnU-Net imports by their dotted names: only networks of
its own library and parts of ``torch.nn`` are let through.
"""

from __future__ import annotations

import json
import pydoc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ai_models.backends.checkpoint import read_checkpoint
from ai_models.card import Card, SegmentationCard
from ai_models.card_entries import NnunetOptions
from ai_models.types import ModelError

_NETWORKS = "dynamic_network_architectures."
_PARTS = "torch.nn."
# nnU-Net reads files in (slices, rows, columns) of whatever orientation they have; this one alone
# turns them to RAS first, so that only one sense of the axes is right.
_AXES_OF_READER = {"NibabelIOWithReorient": ("S", "A", "R")}


@dataclass(frozen=True)
class Checkpoint:
    """What is used of one fold's checkpoint; ``weights`` are its tensors by name."""

    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    weights: Mapping[str, Any]


@dataclass(frozen=True)
class LabelPlan:
    """Label values of ``dataset.json``.

    ``values`` are those of a label map. A folder of regions has one channel for each of ``regions``
    (names in the channels' order), and its label map has the values of its ``class order``.
    """

    values: frozenset[int]
    regions: tuple[str, ...]


def folds_of(card: Card) -> NnunetOptions:
    """Which folds are used.

    Raises
    ------
    ModelError
        ``model.wrong_input``: the card does not say.
    """
    if card.runtime.nnunet is None:
        raise ModelError(
            f"{card.id}: runtime.nnunet says which folds are used", reason="model.wrong_input"
        )
    return card.runtime.nnunet


def checkpoint_paths(card: Card) -> list[Path]:
    """The checkpoint of each fold that the card names.

    Raises
    ------
    ModelError
        ``model.weights_missing``: the folder lacks a file that nnU-Net writes.
    """
    options, folder = folds_of(card), card.weights_path
    paths = [folder / f"fold_{fold}" / options.checkpoint for fold in options.folds]
    for path in (folder / "plans.json", folder / "dataset.json", *paths):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{path} is not in {folder}", reason="model.weights_missing")
        if not path.is_file():
            raise ModelError(
                f"{path} is missing: a trained folder of nnU-Net has plans.json, dataset.json and "
                f"fold_<n>/{options.checkpoint}", reason="model.weights_missing",
            )
    return paths


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises
    ------
    ModelError
        ``model.load_failed``.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}", reason=_FAILED) from error
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} holds no JSON object", reason=_FAILED)
    return values


def read_fold(path: Path) -> Checkpoint:
    """One fold's checkpoint.

    Raises
    ------
    ModelError
        ``model.pickle``, ``model.load_failed`` or ``model.weights_missing``.
    """
    values = read_checkpoint(path)
    try:
        return Checkpoint(
            str(values["init_args"]["configuration"]), str(values["trainer_name"]),
            tuple(values.get("inference_allowed_mirroring_axes") or ()), values["network_weights"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path.name} is no checkpoint of nnU-Net v2: it lacks {error}", reason=_FAILED
        ) from error


def check_plans(plans: Mapping[str, Any], configuration: str) -> None:
    """Refuse plans that would import something else than networks.

    Raises
    ------
    ModelError
        ``model.architecture_unknown``, ``model.wrong_input`` (a cascade) or ``model.load_failed``.
    """
    configurations = plans.get("configurations", {})
    if configuration not in configurations:
        raise ModelError(
            f"plans.json has no configuration {configuration!r}", reason=_FAILED
        )
    for name, values in configurations.items():
        architecture = values.get("architecture", {})
        where = str(architecture.get("network_class_name", _NETWORKS))
        arguments = architecture.get("arch_kwargs", {})
        imported = [arguments.get(key) for key in architecture.get("_kw_requires_import", [])]
        for found, allowed in [(where, _NETWORKS), *((one, _PARTS) for one in imported)]:
            if found is not None and not _is_network(str(found), allowed):
                raise ModelError(
                    f"plans.json, {name}: {found} is no network of {allowed}*",
                    reason="model.architecture_unknown",
                )
    if configurations[configuration].get("previous_stage"):
        raise ModelError(
            f"{configuration} is the second stage of a cascade, which takes another model's "
            "answer as well", reason="model.wrong_input",
        )


def check_input(card: Card, plans: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    """Refuse a card whose input is not what the folder was trained on.

    Raises
    ------
    ModelError
        ``model.wrong_input``.
    """
    intensity, entry = card.input.intensity, card.input
    if (
        intensity.clip or intensity.clip_percentiles or intensity.scale_to
        or entry.normalisation != "none"
    ):
        raise ModelError(
            "nnU-Net scales intensities itself: input.intensity has no clip and no scale_to, and "
            "input.normalisation is none", reason="model.wrong_input",
        )
    names = dataset.get("channel_names") or dataset.get("modality") or {}
    given = max(1, len(entry.channels)) * entry.repeat
    if len(names) != given:
        raise ModelError(
            f"the folder was trained on {len(names)} channels ({', '.join(names.values())}), the "
            f"card gives {given}", reason="model.wrong_input",
        )
    reader = str(plans.get("image_reader_writer", ""))
    axes = _AXES_OF_READER.get(reader)
    if entry.kind == "volume" and axes is not None and entry.axes != axes:
        raise ModelError(
            f"the folder was trained with {reader}, whose arrays grow [{', '.join(axes)}]: "
            "input.axes says otherwise", reason="model.wrong_input",
        )


def read_labels(dataset: Mapping[str, Any]) -> LabelPlan:
    """What the label values of ``dataset.json`` are.

    Raises
    ------
    ModelError
        ``model.load_failed``.
    """
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise ModelError("dataset.json has no labels", reason=_FAILED)
    foreground = {
        str(name): value for name, value in labels.items()
        if name != "ignore" and value not in (0, [0])
    }
    try:
        if not any(isinstance(value, list) and len(value) > 1 for value in foreground.values()):
            return LabelPlan(frozenset(_one(value) for value in foreground.values()), ())
        order = [int(value) for value in dataset["regions_class_order"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"dataset.json: its labels lack {error}", reason=_FAILED) from error
    return LabelPlan(frozenset(order), tuple(foreground))


def check_labels(card: SegmentationCard, plan: LabelPlan) -> None:
    """Refuse a card whose labels are not those that the folder was trained to answer.

    Raises
    ------
    ModelError
        ``model.wrong_output``.
    """
    output = card.output
    named = {label.value for label in output.labels}
    if plan.regions and (output.overlapping or output.probabilities):
        if not output.overlapping or output.activation == "softmax":
            raise ModelError(
                "the folder answers regions: probabilities of them need output.overlapping and "
                "output.activation: sigmoid", reason="model.wrong_output",
            )
        expected = set(range(1, len(plan.regions) + 1))
        ignored = {channel + 1 for channel in output.ignored}
        what = f"channel + 1 of the regions {', '.join(plan.regions)}"
    else:
        if not plan.regions and output.activation == "sigmoid":
            raise ModelError(
                "the folder answers one label for each voxel: output.activation is softmax",
                reason="model.wrong_output",
            )
        expected, ignored, what = set(plan.values), set(output.ignored), "labels of dataset.json"
    if named - expected or expected - named - ignored:
        raise ModelError(
            f"the card has the labels {_list(named)} and ignores {_list(ignored)}; the folder "
            f"answers {_list(expected)} ({what})", reason="model.wrong_output",
        )


def _is_network(name: str, allowed: str) -> bool:
    if not name.startswith(allowed):
        return False
    # A dotted name may lead out again, through what a module imports: only a class of torch's kind.
    found = pydoc.locate(name)
    return isinstance(found, type) and issubclass(found, torch.nn.Module)


def _one(value: Any) -> int:
    return int(value[0] if isinstance(value, list) else value)


def _list(values: set[int]) -> str:
    return ", ".join(str(value) for value in sorted(values)) or "none"


_FAILED = "model.load_failed"
