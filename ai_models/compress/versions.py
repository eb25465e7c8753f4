"""A smaller version as a folder with a card of its own, which nobody runs until it is promoted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ai_models.adapt.verdict import VERDICT
from ai_models.card import CARD_NAME, Card, load_card
from ai_models.card_abilities import ABILITIES
from ai_models.card_runtime import Network
from ai_models.folder_copy import copy_beside, copy_cropping
from ai_models.types import CardError, ModelError

RECORD = "compression.json"
_LONGEST_VERSION = 32
_OF_TORCH = ("network", "precision", "channels_last", "compile")
_LEFT_BEHIND = (
    CARD_NAME, RECORD, "training.json", "adaptation.json", VERDICT, "__pycache__", "*.onnx",
    "*.safetensors", "*.pt", "*.pth", "*.png", "README.md",
)


def version_of(card: Card, variant: str) -> str:
    """``1.2.0-fp16``; shortened where a card allows no more."""
    return f"{card.version[: _LONGEST_VERSION - len(variant) - 1]}-{variant}"


def written(
    card: Card, variant: str, weights: Path, output: Path, record: Mapping[str, Any],
    network: Network | None = None,
) -> Card:
    """Write the folder ``output``, which must not exist; beside, and renamed at the end.

    Parameters
    ----------
    card
        The version that it was made from.
    weights
        An ONNX file, or with ``network`` a ``.safetensors`` of that architecture.

    Raises
    ------
    ModelError
        ``model.cannot_compress``: the folder is there, or cannot be written, or there is a link
        beside the card, or the card's other keys do not go with an ONNX file.
    """
    if output.exists():
        raise ModelError(f"{output} is there already: nothing is written over", reason=_REASON)
    name = "weights.onnx" if network is None else "weights.safetensors"
    values = _values(card, variant, name, weights.read_bytes(), network, record)
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        copy_beside(card.folder, beside, left_out(card), _REASON)
        copy_cropping(card, beside, _REASON)
        shutil.copyfile(weights, beside / name)
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
        (beside / CARD_NAME).write_text(text, encoding="utf-8")
        (beside / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        load_card(beside)
        beside.rename(output)
    except OSError as error:
        raise ModelError(f"{output} cannot be written: {error.strerror}", reason=_REASON) from error
    except CardError as error:
        raise ModelError(
            f"the card does not go with {name}: {error.key_path}: {error}", reason=_REASON
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return load_card(output)


def left_out(card: Card) -> list[str]:
    """Names beside the card that a smaller version has no use for."""
    reference = card.compression.reference if card.compression else None
    cases = [Path(reference).parts[0]] if reference else []
    return [*_LEFT_BEHIND, Path(card.weights.path or "").name, *cases]


def _values(
    card: Card, variant: str, name: str, weights: bytes, network: Network | None,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of the version that it was made from, with what is not true of this one changed."""
    values: dict[str, Any] = yaml.safe_load(card.content)
    values["version"] = version_of(card, variant)
    values["weights"] |= {
        "path": name, "sha256": hashlib.sha256(weights).hexdigest(),
        "source": f"made from version {card.version} by compression, {variant}",
    }
    values["weights"].pop("ensemble", None)
    values["evidence"] = _evidence(card, variant, record)
    runtime = values["runtime"]
    backend = "onnx" if network is None else "state_dict"
    if network is None:
        for key in _OF_TORCH:
            runtime.pop(key, None)
    else:
        runtime["network"] = {"name": network.name, "arguments": dict(network.arguments)}
    runtime["backend"] = backend
    if "fallbacks" in runtime:
        able = ABILITIES[backend].fallbacks
        runtime["fallbacks"] = [one for one in runtime["fallbacks"] if one in able]
    explanation = values.get("explanation")
    if explanation and network is None and explanation["method"] != "occlusion":
        # An ONNX file does not show its layers.
        explanation["method"] = "occlusion"
        explanation.pop("layer", None)
    monitor = values.get("monitor")
    if monitor and monitor.get("layer"):
        # Layers of this version have other names, and other numbers in them.
        values.pop("monitor")
    # `adaptation` stays: what was adapted asks the gate, however small it is made.
    for key in ("trust", "compression"):
        values.pop(key, None)
    return values


def _evidence(card: Card, variant: str, record: Mapping[str, Any]) -> dict[str, Any]:
    on = record["measured_on"]
    row = next(one for one in record["versions"] if one["variant"] == variant)
    return {
        "validated_on": f"not validated: made smaller from version {card.version}, whose figures "
        f"are not this one's; beside it on {on} only",
        "metrics": [
            {"name": name[:64], "value": round(value, 4), "measured_on": on}
            for name, value in row["figures"].items()
        ],
    }


_REASON = "model.cannot_compress"
