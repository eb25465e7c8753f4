"""The card of a MONAI bundle: ``metadata.json`` and what its configuration says in plain words.

A configuration is a program; nothing of it is evaluated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ai_models.scaffold.draft import Copy, Draft, Wishes, settle
from ai_models.scaffold.json_file import read_object
from ai_models.scaffold.networks import (
    as_many,
    put_labels,
    put_named_labels,
    put_quantities,
    put_scores,
)
from ai_models.scaffold.structures import display_name, without_background
from ai_models.types import ModelError

PLACE = "bundle"
_CONFIGS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_MODALITIES = {
    "CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT", "MAMMOGRAM": "MG", "MG": "MG",
    "XRAY": "DX", "CR": "CR", "DX": "DX",
}
_IMAGES = ("CR", "DX", "MG")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}")


def is_bundle(folder: Path) -> bool:
    """Whether a folder is laid out as a bundle."""
    return (folder / "configs/metadata.json").is_file()


def describe_bundle(draft: Draft, wishes: Wishes, folder: Path) -> None:
    """A card from what the bundle says of itself.

    Raises
    ------
    ModelError
        ``model.load_failed``, ``model.weights_missing``, ``model.wrong_input``, ``model.task``.
    """
    told = read_object(folder / "configs/metadata.json")
    config = next((one for one in _CONFIGS if (folder / one).is_file()), None)
    if config is None:
        raise ModelError(f"{folder} has no {_CONFIGS[0]}", reason="model.weights_missing")
    configuration = _plain(folder / config)
    data = told.get("network_data_format")
    formats = data if isinstance(data, dict) else {}
    given, answered = _first(formats.get("inputs")), _first(formats.get("outputs"))
    _put_identity(draft, told)
    _put_input(draft, wishes, given, configuration)
    _put_output(draft, wishes, given, answered, configuration)
    _put_runtime(draft, folder, config, configuration)
    settle(draft)
    draft.found.append(
        f"MONAI bundle {told.get('name') or folder.name} {told.get('version', '')}: "
        f"{given.get('modality') or 'no modality'}, {given.get('num_channels', '?')} channel(s) of "
        f"{given.get('spatial_shape', 'no said size')}, answers {answered.get('num_channels', '?')}"
    )
    draft.hints.append(
        "its configuration is a program: list the folder above this one in models.trusted_folders"
    )


def _put_identity(draft: Draft, told: Mapping[str, Any]) -> None:
    if _VERSION.fullmatch(str(told.get("version", ""))):
        draft.put("version", str(told["version"]))
    if told.get("name"):
        draft.put("name", str(told["name"])[:64])
    if told.get("authors"):
        draft.put("manufacturer", str(told["authors"])[:64], "of metadata.json: who answers for it")
    if told.get("intended_use"):
        draft.put("intended_use", str(told["intended_use"])[:4000], "as metadata.json has it")


def _put_input(
    draft: Draft, wishes: Wishes, given: Mapping[str, Any], configuration: Mapping[str, Any]
) -> None:
    said = str(given.get("modality") or "")
    known = _MODALITIES.get(re.sub(r"[^A-Z]", "", said.upper()))
    axes = len(given.get("spatial_shape") or (0, 0, 0))
    if axes not in (2, 3):
        raise ModelError(
            f"metadata.json says {axes} axes: volumes or images expected",
            reason="model.wrong_input",
        )
    modalities = wishes.modalities or [known or ("CT" if axes == 3 else "DX")]
    is_image = all(one in _IMAGES for one in modalities)
    draft.put("input.kind", "image" if is_image else "volume")
    draft.put(
        "input.modality", modalities,
        "" if wishes.modalities or known else f"metadata.json says {said or 'nothing'}",
    )
    if not is_image:
        draft.put("input.ndim", axes)
        turns = "Orientationd" in _steps(configuration, "preprocessing")
        draft.put(
            "input.axes", ["R", "A", "S"],
            "" if turns else "as the files of training lay: the bundle turns nothing",
        )
    unit = "displayed" if is_image else "HU" if modalities == ["CT"] else "arbitrary"
    draft.put(
        "input.intensity", {"unit": unit},
        "0 to 1: the bundle may expect 0 to 255 (scale_to)" if is_image else "",
    )
    channels = given.get("num_channels")
    if isinstance(channels, int) and 1 < channels <= 16:
        names = given.get("channel_def")
        what = ", ".join(map(str, names.values())) if isinstance(names, dict) else "channels"
        draft.put(
            "input.repeat", channels, f"takes {what[:60]}: a card gives one series, so often"
        )


def _put_output(
    draft: Draft, wishes: Wishes, given: Mapping[str, Any], answered: Mapping[str, Any],
    configuration: Mapping[str, Any],
) -> None:
    task = wishes.task or _task(given, answered)
    names = _names(answered)
    channels = answered.get("num_channels")
    count = channels if isinstance(channels, int) and channels > 0 else max(len(names), 1)
    activation = _activation(configuration)
    draft.put("task", task)
    if task == "segmentation":
        _put_labels(draft, wishes, count, names, activation)
    elif task == "detection":
        draft.put("output.min_score", 0.5, "below it nothing is reported")
        put_named_labels(draft, wishes.names or ("Finding 1",), are_guessed=not wishes.names)
    elif task == "classification":
        put_scores(draft, wishes, count, names=names, activation=activation)
    else:
        put_quantities(draft, wishes, count, names)


def _put_labels(
    draft: Draft, wishes: Wishes, count: int, names: tuple[str, ...], activation: str
) -> None:
    if activation == "sigmoid":
        named = wishes.names or names or tuple(f"Structure {n + 1}" for n in range(count))
        draft.put("output.activation", "sigmoid")
        draft.put("output.overlapping", count > 1)
        put_named_labels(
            draft, as_many(named, count), are_guessed=not (wishes.names or names)
        )
        return
    # Softmax has its first channel for the background, whatever the bundle calls it.
    put_labels(draft, wishes, count, names=("background", *names[1:]) if len(names) > 1 else ())
    if count > 1 and len(wishes.names) != count:
        known = not names or without_background(names) != list(names)
        draft.put("output.activation", activation or "softmax", (
            "its postprocessing has no Activationsd" if not activation else
            "" if known else f"channel 0, {names[0]}, counts as background"))


def _task(given: Mapping[str, Any], answered: Mapping[str, Any]) -> str:
    if answered.get("type") == "object":
        return "detection"
    shape = answered.get("spatial_shape")
    is_map = isinstance(shape, list) and shape[:1] != [1] and len(shape) == len(
        given.get("spatial_shape") or (0, 0, 0))
    return "segmentation" if is_map or shape is None else "classification"


def _names(answered: Mapping[str, Any]) -> tuple[str, ...]:
    names = answered.get("channel_def")
    if not isinstance(names, dict) or not all(str(key).isdecimal() for key in names):
        return ()
    return tuple(display_name(str(names[key])) for key in sorted(names, key=int))


def _put_runtime(
    draft: Draft, folder: Path, config: str, configuration: Mapping[str, Any]
) -> None:
    draft.put("runtime.backend", "monai_bundle")
    weights = _weights(folder)
    options: dict[str, Any] = {}
    if config != _CONFIGS[0]:
        options["config"] = config
    if weights != "models/model.pt":
        options["weights"] = weights
    for key, usual in (("network", "network_def"), ("preprocessing", "preprocessing")):
        if usual not in configuration:
            like = [one for one in configuration if one.startswith(key)]
            options[key] = like[0] if like else usual
            draft.check(f"runtime.bundle.{key}", f"the configuration has no {usual}")
    if options:
        draft.put("runtime.bundle", options)
    scripts = sorted(folder.glob("scripts/**/*.py"))
    draft.put("trust.config_exec", True)
    if scripts:
        draft.put("trust.remote_code", True, f"{len(scripts)} Python file(s) in scripts/ are run")
    names = [
        weights,
        *(path.relative_to(folder).as_posix() for part in ("configs", "scripts", "docs")
          for path in sorted(folder.glob(f"{part}/**/*")) if path.is_file()),
        *(path.name for path in sorted(folder.iterdir()) if path.name.upper().startswith("LICEN")),
    ]
    draft.copies += [
        Copy(folder / name, f"{PLACE}/{name}") for name in names
        if "__pycache__" not in name and not Path(name).name.startswith(".")
    ]
    draft.put("weights.path", PLACE)
    if any((folder / "docs").glob("data_license*")):
        draft.check("weights.licence", "see docs/data_license.txt of the bundle")


def _weights(folder: Path) -> str:
    found = [folder / "models/model.pt", *sorted((folder / "models").glob("*.pt"))]
    for path in found:
        if path.is_file():
            return path.relative_to(folder).as_posix()
    elsewhere = ": large_files.yml says where they are fetched from" if any(
        folder.glob("large_files.*")) else ""
    raise ModelError(
        f"the bundle has no weights in models/{elsewhere}", reason="model.weights_missing"
    )


def _plain(path: Path) -> dict[str, Any]:
    """The configuration as plain values: expressions stay text."""
    if path.suffix == ".json":
        return read_object(path)
    try:
        values = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}", reason="model.load_failed") from (
            error
        )
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} holds no configuration", reason="model.load_failed")
    return values


def _first(entries: Any) -> Mapping[str, Any]:
    values = list(entries.values()) if isinstance(entries, dict) else []
    return values[0] if values and isinstance(values[0], dict) else {}


def _activation(configuration: Mapping[str, Any]) -> str:
    for step in _walk(configuration.get("postprocessing")):
        if str(step.get("_target_", "")).rpartition(".")[2] == "Activationsd":
            for name in ("softmax", "sigmoid"):
                if step.get(name) in (True, [True]):
                    return name
    return ""


def _steps(configuration: Mapping[str, Any], part: str) -> set[str]:
    return {
        str(step.get("_target_", "")).rpartition(".")[2]
        for step in _walk(configuration.get(part))
    }


def _walk(values: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(values, dict):
        yield values
        for one in values.values():
            yield from _walk(one)
    elif isinstance(values, list):
        for one in values:
            yield from _walk(one)
