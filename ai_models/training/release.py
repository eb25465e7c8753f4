"""A trained network as a model folder: card, weights, ONNX, and the record of its training."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ai_models.backends.architectures import build
from ai_models.card import CARD_NAME, Card, DetectionCard, load_card
from ai_models.scaffold.card_text import card_text
from ai_models.scaffold.draft import Draft
from ai_models.training.beside import folders_beside, put_folders
from ai_models.training.cases import PARTS, Case, Part
from ai_models.training.export import export_onnx
from ai_models.training.losses import first_logits
from ai_models.training.recipe import Recipe
from ai_models.training.settings import TrainingError
from ai_models.types import CardError, ModelError
from ai_models.weights import file_sha256

WEIGHTS, ONNX, RECORD = "weights.safetensors", "weights.onnx", "training.json"
UNTRAINED = "untrained.safetensors"
# A node would answer otherwise with one file than with the other.
MOST_APART = 1e-4
_HEAD = """\
Written by `dicom-node train`; what was measured, and on what, is in training.json.
What the fields mean: docs/model-card.md"""
_NOT_YET = "not validated: this network is being trained"
NOT_TESTED = {"validated_on": "not validated: this network is about to be tested"}


def built_network(recipe: Recipe, beside: Path) -> nn.Module:
    """The network of the recipe, with random weights of its seed, or those it starts from.

    Weights of another last layer are left out where their shape differs: it learns anew.

    Raises
    ------
    TrainingError, ModelError
        There is no such architecture; the weights are of another network.
    """
    runtime = recipe.card.get("runtime") or {}
    network = runtime.get("network") if isinstance(runtime, dict) else None
    if not isinstance(network, dict) or "name" not in network:
        raise TrainingError("card.runtime.network: name and arguments of what is to be trained")
    torch.manual_seed(recipe.training.seed)
    try:
        module: nn.Module = build(
            network["name"], network.get("arguments") or {},
            folders_beside(recipe.card, beside),
        )
    except (TypeError, ValueError) as error:
        raise TrainingError(f"card.runtime.network.arguments: {error}") from error
    if recipe.training.start_from is not None:
        _start_from(module, beside / recipe.training.start_from)
    return module


def _start_from(module: nn.Module, path: Path) -> None:
    from ai_models.backends.torch_network import read_state_dict

    if not path.is_file():
        raise TrainingError(f"training.start_from: there is no {path}")
    given, own = read_state_dict(path.read_bytes(), path.name), module.state_dict()
    fitting = {name: one for name, one in given.items()
               if name in own and own[name].shape == one.shape}
    if len(fitting) < 0.95 * len(own):
        raise TrainingError(
            f"training.start_from: {path.name} has {len(fitting)} of the network's {len(own)} "
            "weights: it is of another network"
        )
    module.load_state_dict({**own, **fitting})


def write_model(
    recipe: Recipe, network: nn.Module, folder: Path, beside: Path, *,
    backend: str = "state_dict", evidence: Mapping[str, Any] | None = None, began: str = "",
) -> Card:
    """Card and weights of a network; the card is read back. ``began`` says with which weights.

    No weights that a card names are ever written over, so that whoever reads the folder meanwhile
    finds the weights of the card that is there: what has no ``evidence`` yet lies in a file of its
    own, and `remove_others` removes what is left.

    Raises
    ------
    TrainingError
        The card of the recipe is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = json.loads(json.dumps(recipe.card))
    state = {name: one.detach().cpu().contiguous().clone()
             for name, one in network.state_dict().items()}
    weights = _put_weights(folder, save(state), WEIGHTS if evidence else UNTRAINED)
    values["evidence"] = evidence or {"validated_on": _NOT_YET}
    runtime = values.setdefault("runtime", {})
    runtime["backend"] = backend
    if backend == "onnx":
        runtime.pop("network", None)
    name = ONNX if backend == "onnx" else weights
    values["weights"] = {
        "path": name, "sha256": file_sha256(folder / name),
        "licence": str(values.get("licence", "")),
        "source": f"trained by `dicom-node train`{began and f' {began}'}; on what and how is in "
                  "training.json",
        **{key: one for key, one in (recipe.card.get("weights") or {}).items()
           if key in ("licence", "source")},
    }
    put_folders(values, beside, folder)
    report = beside / f"{values.get('report', '')}.yaml"
    if report.is_file() and report.parent != folder:
        _put(folder / report.name, report.read_bytes())
    # The old card stays until the new one is whole: its weights are there already.
    _put(folder / CARD_NAME, card_text(Draft(values), _HEAD).encode())
    try:
        return load_card(folder)
    except CardError as error:
        place = f"card.{error.key_path}" if error.key_path else "card"
        message = str(error).rpartition(f"{error.key_path}: ")[2] if error.key_path else str(error)
        raise TrainingError(f"the recipe's {place}: {message}") from error


def _put_weights(folder: Path, content: bytes, name: str) -> str:
    """Under a name that no other weights have, and nothing where they are there; the name."""
    digest = hashlib.sha256(content).hexdigest()
    there = folder / name
    if there.exists() and file_sha256(there) != digest:
        there = folder / f"{Path(name).stem}-{digest[:12]}.safetensors"
    if not there.exists() or file_sha256(there) != digest:
        _put(there, content)
    return there.name


def _put(path: Path, content: bytes) -> None:
    """Beside and renamed: nobody reads half of it."""
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(content)
    beside.replace(path)


def remove_others(folder: Path, *kept: Card) -> None:
    """Remove weights that `write_model` wrote and that none of these cards names."""
    names = {one.weights.path for one in kept}
    for name in (UNTRAINED, WEIGHTS):
        stem = Path(name).stem
        for path in (folder / name, *folder.glob(f"{stem}-{'[0-9a-f]' * 12}.safetensors")):
            if path.name not in names:
                path.unlink(missing_ok=True)


class _FirstAnswer(nn.Module):
    """Of a network that answers several things in training, what the node asks for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return first_logits(self.network(image))


def write_onnx(network: nn.Module, card: Card, folder: Path) -> dict[str, Any]:
    """``weights.onnx`` with its difference to PyTorch; or why there is none.

    Windows have the edges of the card, and any number of them may be computed at once.
    """
    edges = card.runtime.roi or (card.input.size.edges if card.input.size else None)
    fewest, most = card.input.channel_counts
    if isinstance(card, DetectionCard):
        return {"left_out": "a detector chooses its boxes in a way that ONNX does not export"}
    if card.runtime.network is not None and card.runtime.network.folders:
        return {"left_out": "the folders that the network is built on stay what they are"}
    axes = 2 if card.input.kind == "image" else card.input.ndim
    if edges is None or len(edges) != axes or fewest != most:
        return {"left_out": "the network takes inputs of any size"}
    path = folder / ONNX
    try:
        record = export_onnx(_FirstAnswer(network).cpu(), edges, path, fewest)
    except Exception as error:  # noqa: BLE001 - whatever a layer of the network provokes
        path.unlink(missing_ok=True)
        return {"left_out": f"the exporter failed: {type(error).__name__}"}
    difference = record["largest_logit_difference"]
    if not isinstance(difference, float) or difference > MOST_APART:
        path.unlink(missing_ok=True)
        return {"left_out": f"it answers otherwise than torch, by {difference:.3g}"}
    return dict(record)


def evidence_of(summary: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """What the card says of figures that were measured on held-back patients."""
    if summary is None or not summary["cases"]:
        return {"validated_on": "not validated: no patient was held back for a test"}
    where = f"{summary['cases']} cases of {summary['patients']} patients held back from training"
    metrics = []
    for figure, one in summary["figures"].items():
        if one["value"] is None:
            continue
        metrics.append({"name": figure[:64], "value": one["value"],
                        "measured_on": f"{where}; {interval_text(one)}"})
    return {"validated_on": f"{where}, of the data that {name} was trained on; see training.json",
            "metrics": metrics}


def interval_text(figure: Mapping[str, float | None]) -> str:
    """The interval of a figure of a summary, or why it has none."""
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        return "too few for an interval"
    if low == high:
        return "all alike, which is no interval"
    return f"95 % interval {low:.3f} to {high:.3f}"


def environment(device: str) -> dict[str, Any]:
    """On what it ran; no name of a host, a person or a folder."""
    return {
        "python": platform.python_version(), "torch": torch.__version__, "device": device,
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "threads": torch.get_num_threads(), "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def counted(parts: Mapping[Part, Sequence[Case]]) -> dict[str, Any]:
    """Cases and patients of each part, and by digest which cases these are."""
    return {
        part: {"cases": len(parts[part]), "patients": len({one.patient for one in parts[part]}),
               "digests": sorted(one.digest for one in parts[part])}
        for part in PARTS
    }


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """``training.json``."""
    (folder / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


__all__ = ["ModelError", "built_network", "write_model", "write_onnx", "write_record"]
