"""A candidate: a new version of a model in a folder of its own, made from one that stays as it is.

The folder is written beside and renamed at the end, so that a running node never sees half of it.
The card says what the version was made from; its evidence is none until somebody measures it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import nn

from ai_models.adapt.inputs import cases_with_truth, inputs_alone, window_of, windows
from ai_models.adapt.methods import (
    KeepsStatistics,
    merged,
    open_head,
    take_statistics,
    with_lora,
)
from ai_models.adapt.verdict import RECORD, VERDICT
from ai_models.card import CARD_NAME, Card, load_card
from ai_models.folder_copy import check_beside, copy_beside, copy_cropping
from ai_models.training.augmentation import Augmentation
from ai_models.training.cases import Case, DicomReader
from ai_models.training.examples import CaseExamples, together
from ai_models.training.loop import train
from ai_models.training.losses import loss_for
from ai_models.training.prepared import CaseStore
from ai_models.training.settings import Settings
from ai_models.trust import Site
from ai_models.types import ModelError

Method = Literal["adabn", "head", "lora"]
METHODS: tuple[Method, ...] = ("adabn", "head", "lora")
_WEIGHTS = "weights.safetensors"
# Another place and another size; grey values stay, for they are what a scanner is known by.
_MOVED = Augmentation(
    elastic_probability=0, gamma_probability=0, noise_probability=0, smooth_probability=0,
    shift_probability=0,
)
_LEFT_BEHIND = (CARD_NAME, RECORD, VERDICT, "training.json", "__pycache__", "*.onnx")


@dataclass(frozen=True)
class Wish:
    """How a candidate is made.

    Attributes
    ----------
    steps, rate, batch
        Of training; ``adabn`` trains nothing, and takes ``batch`` windows at once.
    rank
        Of the additions of ``lora``.
    seed
        Of everything random.
    """

    method: Method
    steps: int = 200
    rate: float = 1e-4
    batch: int = 4
    rank: int = 4
    seed: int = 0


def make_candidate(
    card: Card, cases: Path, output: Path, version: str, wish: Wish, scratch: Path, *,
    replay: Path | None = None, reader: DicomReader | None = None, site: Site | None = None,
) -> Card:
    """Write a candidate of ``card`` to the folder ``output``, which must not exist.

    Parameters
    ----------
    cases
        Cases as `ai_models.training.cases.find_cases` reads them; for ``adabn`` without truth.
    scratch
        A folder for what is prepared of them: it holds images of patients, and is emptied.
    replay
        Cases of before, trained on as well, so that what was known is not forgotten.

    Raises
    ------
    ModelError
        ``model.cannot_adapt``, or whatever is wrong with the card, its weights or the cases.
    TrainingError
        The cases cannot be read or trained on.
    """
    _check(card, output)
    store = CaseStore(card, scratch / "cases", reader)
    if wish.method == "adabn":
        found = inputs_alone(cases, card, reader)
    else:
        found = cases_with_truth(cases, card, reader)
        found += cases_with_truth(replay, card, reader) if replay is not None else []
    module = _module(card, site)
    try:
        changed, told = _changed(module, card, found, store, wish, scratch)
    finally:
        store.remove()
    record = {
        "method": wish.method, "seed": wish.seed, "cases": [one.digest for one in found], **told,
    }
    return _write(card, changed, output, version, record)


def _check(card: Card, output: Path) -> None:
    if card.runtime.backend != "state_dict":
        raise ModelError(
            f"{card.id} is run by {card.runtime.backend}: only the layers of a state_dict can be "
            "changed", reason=_REASON,
        )
    if card.weights.ensemble:
        raise ModelError("an ensemble is adapted member by member", reason=_REASON)
    if output.exists():
        raise ModelError(f"{output} is there already: nothing is written over", reason=_REASON)
    check_beside(card.folder, _left_out(card), _REASON)


def _module(card: Card, site: Site | None) -> nn.Module:
    from ai_models.backends.torch_network import TorchNetwork

    network = TorchNetwork(card, "cpu", site or Site())
    network.load()
    return network.module


def _changed(
    module: nn.Module, card: Card, cases: list[Case], store: CaseStore, wish: Wish, scratch: Path
) -> tuple[nn.Module, dict[str, Any]]:
    if wish.method == "adabn":
        batches = take_statistics(module, windows(cases, store, card, wish.batch))
        return module, {"batches": batches}
    examples = CaseExamples(
        cases, card, store, _MOVED, window=window_of(card), seed=wish.seed
    )
    first = examples(0)["image"][None]
    adapted: Any = module
    if wish.method == "lora":
        adapted = with_lora(module, first, wish.rank)
        trained = [name for name, one in adapted.named_parameters() if one.requires_grad]
    else:
        trained = open_head(module, first)
    settings = Settings(
        steps=wish.steps, batch=wish.batch, rate=wish.rate, seed=wish.seed, checkpoint_every=0,
        warm_up=min(10, wish.steps // 10),
    )
    outcome = train(
        KeepsStatistics(adapted), examples, loss_for(card), settings, scratch / "run",
        collate=together, resume=False,
    )
    told = {
        "steps": wish.steps, "rate": wish.rate, "batch": wish.batch, "losses": outcome.losses,
        "trained": trained,
    }
    if wish.method == "lora":
        return merged(adapted), {**told, "rank": wish.rank}
    return module, told


def _write(
    card: Card, module: nn.Module, output: Path, version: str, record: dict[str, Any]
) -> Card:
    from safetensors.torch import save

    weights: bytes = save({
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    })
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        copy_beside(card.folder, beside, _left_out(card), _REASON)
        copy_cropping(card, beside, _REASON)
        (beside / _WEIGHTS).write_bytes(weights)
        (beside / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        values = _card_values(card, version, hashlib.sha256(weights).hexdigest(), record)
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
        (beside / CARD_NAME).write_text(text, encoding="utf-8")
        load_card(beside)
        # Whatever appeared meanwhile under that name stays: a full folder is not replaced.
        beside.rename(output)
    except OSError as error:
        raise ModelError(f"{output} cannot be written: {error.strerror}", reason=_REASON) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return load_card(output)


def _left_out(card: Card) -> list[str]:
    left = [*_LEFT_BEHIND, Path(card.weights.path or "").name]
    if card.monitor is not None and card.monitor.reference is not None:
        left += [Path(card.monitor.reference).name] if card.monitor.layer is not None else []
    return left


def _card_values(
    card: Card, version: str, weights_sha256: str, record: dict[str, Any]
) -> dict[str, Any]:
    """The card of the version that was adapted, with what is not true of the candidate changed."""
    values: dict[str, Any] = yaml.safe_load(card.content)
    count = len(record["cases"])
    values["version"] = version
    values["weights"] |= {
        "path": _WEIGHTS, "sha256": weights_sha256,
        "source": f"adapted from version {card.version} by {record['method']} on {count} inputs",
    }
    values["evidence"] = {
        "validated_on": f"not validated: adapted from version {card.version}, whose figures are "
        "not this one's",
    }
    monitor = values.get("monitor")
    if monitor and monitor.get("layer"):
        # Other weights have other features: what the old ones were has no meaning here.
        for key in ("reference", "sha256", "out_of_range"):
            monitor.pop(key, None)
    values["adaptation"] = {
        "from_version": card.version, "from_weights_sha256": card.weights_sha256,
        "method": record["method"], "cases": count,
    }
    return values


_REASON = "model.cannot_adapt"
