"""The card of a trained nnU-Net folder: ``plans.json``, ``dataset.json`` and its folds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_models.scaffold.draft import Copy, Draft, Wishes, settle
from ai_models.scaffold.json_file import read_object
from ai_models.scaffold.networks import as_many, put_named_labels
from ai_models.types import ModelError

PLACE = "trained"
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_REORIENTING, _OF_IMAGES = "NibabelIOWithReorient", "NaturalImage2DIO"
_MODALITIES = {
    "CT": "CT", "PET": "PT", "PT": "PT", "MR": "MR", "MRI": "MR", "T1": "MR", "T2": "MR",
    "FLAIR": "MR", "T1W": "MR", "T2W": "MR", "T1C": "MR", "T1CE": "MR", "T1GD": "MR", "ADC": "MR",
    "DWI": "MR", "XRAY": "DX", "CR": "CR", "DX": "DX",
}


def trained_folder(folder: Path) -> Path | None:
    """The folder of a training at or right below ``folder``; ``None`` where there is none."""
    for one in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if (one / "plans.json").is_file() and (one / "dataset.json").is_file():
            return one
    return None


def describe_nnunet(draft: Draft, wishes: Wishes, folder: Path) -> None:
    """A card from what the training wrote.

    Raises
    ------
    ModelError
        ``model.load_failed``, ``model.weights_missing``, ``model.pickle``, ``model.task``.
    """
    if wishes.task not in (None, "segmentation"):
        raise ModelError(f"nnU-Net answers no {wishes.task}", reason="model.task")
    plans, dataset = read_object(folder / "plans.json"), read_object(folder / "dataset.json")
    folds, checkpoint = _folds(folder)
    configuration = _configuration(folder, folds[0], checkpoint)
    draft.put("task", "segmentation")
    _put_input(draft, wishes, plans, dataset)
    names, regions = _labels(dataset)
    if regions:
        draft.put("output.activation", "sigmoid")
        draft.put("output.overlapping", True)
    else:
        draft.put("output.activation", "softmax")
    put_named_labels(draft, as_many(wishes.names or names, len(names)))
    draft.put("output.mirror", [], "[0, 1, 2] averages mirrored inputs: 8 times slower")
    draft.put("runtime.backend", "nnunet")
    draft.put("runtime.nnunet", {"folds": folds, "checkpoint": checkpoint, "step": 0.5})
    if len(folds) > 1:
        draft.check("runtime.nnunet", f"{len(folds)} folds are averaged: one is faster")
    draft.put("runtime.fallbacks", ["offload", "cpu"])
    settle(draft)
    shape = plans.get("configurations", {}).get(configuration, {})
    draft.found.append(
        f"nnU-Net {dataset.get('name') or plans.get('dataset_name', '')} {configuration}, "
        f"folds {', '.join(map(str, folds))}, spacing {shape.get('spacing')} mm, windows "
        f"{shape.get('patch_size')}, read by {plans.get('image_reader_writer', 'no said reader')}"
    )
    draft.found.append(f"{'regions' if regions else 'labels'}: {', '.join(names)}")
    _copy(draft, folder, folds, checkpoint)


def _put_input(
    draft: Draft, wishes: Wishes, plans: Mapping[str, Any], dataset: Mapping[str, Any]
) -> None:
    channels = dataset.get("channel_names") or dataset.get("modality") or {}
    told = [str(one) for one in channels.values()] if isinstance(channels, dict) else []
    known = [_MODALITIES.get(re.sub(r"[^A-Z0-9]", "", one.upper()), "") for one in told]
    reader = str(plans.get("image_reader_writer", ""))
    is_image = reader == _OF_IMAGES
    guess = next((one for one in known if one), "DX" if is_image else "CT")
    modalities = wishes.modalities or [guess]
    is_told = bool(wishes.modalities) or guess in known
    draft.put("input.kind", "image" if is_image else "volume")
    draft.put(
        "input.modality", modalities,
        "" if is_told else f"dataset.json says {', '.join(told) or 'nothing'}",
    )
    if not is_image:
        _put_axes(draft, reader)
    unit = "displayed" if is_image else "HU" if modalities == ["CT"] else "arbitrary"
    draft.put("input.intensity", {"unit": unit})
    if len(told) > 1:
        draft.put(
            "input.repeat", len(told),
            f"trained on {', '.join(told)}: a card gives one series only, so often",
        )


def _put_axes(draft: Draft, reader: str) -> None:
    if reader == _REORIENTING:
        draft.put("input.axes", ["S", "A", "R"])
        return
    draft.put(
        "input.axes", ["S", "A", "R"],
        "as files of training lay: [S, A, R] NIfTI in RAS, [S, P, L] from DICOM",
    )
    draft.hints.append(
        "input.axes decides which side is which: compare the result of a known series with what "
        "nnU-Net itself gives"
    )


def _labels(dataset: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Names by value, or of regions in the order of the channels; whether they are regions."""
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise ModelError("dataset.json has no labels", reason="model.load_failed")
    foreground = {
        str(name): value for name, value in labels.items()
        if name != "ignore" and value not in (0, [0])
    }
    if any(isinstance(value, list) and len(value) > 1 for value in foreground.values()):
        return tuple(foreground), True
    try:
        values = {
            name: int(value[0] if isinstance(value, list) else value)
            for name, value in foreground.items()
        }
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"dataset.json: a label is no number: {error}", reason="model.load_failed"
        ) from error
    return tuple(sorted(values, key=values.__getitem__)), False


def _folds(folder: Path) -> tuple[list[int | str], str]:
    for checkpoint in _CHECKPOINTS:
        names = sorted(
            path.parent.name.removeprefix("fold_")
            for path in folder.glob(f"fold_*/{checkpoint}")
        )
        folds: list[int | str] = [int(name) if name.isdecimal() else name for name in names]
        if folds:
            # What was trained on all cases is not averaged with what was trained on parts.
            parts = [fold for fold in folds if fold != "all"]
            return parts or folds, checkpoint
    raise ModelError(
        f"{folder} has no fold_<n>/{_CHECKPOINTS[0]}", reason="model.weights_missing"
    )


def _configuration(folder: Path, fold: int | str, checkpoint: str) -> str:
    from ai_models.backends.nnunet_folder import read_fold

    return read_fold(folder / f"fold_{fold}" / checkpoint).configuration


def _copy(draft: Draft, folder: Path, folds: list[int | str], checkpoint: str) -> None:
    names = [
        "plans.json", "dataset.json",
        *(f"fold_{fold}/{checkpoint}" for fold in folds),
        *(path.name for path in sorted(folder.iterdir()) if path.name.upper().startswith("LICEN")),
    ]
    draft.copies += [Copy(folder / name, f"{PLACE}/{name}") for name in names]
    draft.put("weights.path", PLACE)
