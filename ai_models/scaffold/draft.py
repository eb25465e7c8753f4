"""A card that is being drafted: values, why some of them must be checked, and files to copy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_models.scaffold.structures import body_part
from ai_models.types import ModelError

NO_INTENDED_USE = "Nobody has stated yet what this model is for."
_INDEX = re.compile(r"\[(\d+)\]")
_TASKS_ON_VOXELS = ("segmentation", "detection")
_IMAGES = ("CR", "DX", "MG", "IO", "PX", "RG")


@dataclass(frozen=True)
class Wishes:
    """What the developer said besides the source.

    Attributes
    ----------
    model_id
        ``id`` of the card.
    task, modality
        ``None``: guessed. Several modalities are separated by commas.
    names
        Of labels, scores or quantities, in the order of the channels, the background left out.
    network, arguments
        Of a ``state_dict``.
    """

    model_id: str
    task: str | None = None
    modality: str | None = None
    names: tuple[str, ...] = ()
    network: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modalities(self) -> list[str]:
        """As they were given; none when they were not."""
        return [one.strip().upper() for one in (self.modality or "").split(",") if one.strip()]


@dataclass(frozen=True)
class Copy:
    """A file that is copied; ``to`` is its place below the folder of the card."""

    source: Path
    to: str


@dataclass
class Draft:
    """A card by its keys, in the order of its text.

    Attributes
    ----------
    values
        The card. ``weights.sha256`` is filled in when the files are copied.
    checks
        Key path, such as ``output.labels[0].type``, to what a person must look at there.
    found
        Lines that say what the source is.
    hints
        Lines that say what must be done besides.
    copies
        What is copied.
    """

    values: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)

    def put(self, key_path: str, value: Any, check: str = "") -> None:
        """Set a value by its key path; ``check`` says what a person must look at there."""
        *parents, key = key_path.split(".")
        place = self.values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = value
        if check:
            self.checks[key_path] = check
        else:
            self.checks.pop(key_path, None)

    def check(self, key_path: str, why: str) -> None:
        """Say that a person must look at a value."""
        self.checks[key_path] = why

    def get(self, key_path: str) -> Any:
        """A value by its key path; ``None`` where there is none."""
        place: Any = self.values
        for part in _INDEX.sub(r".\1", key_path).split("."):
            if isinstance(place, list):
                place = place[int(part)]
            elif isinstance(place, dict) and part in place:
                place = place[part]
            else:
                return None
        return place


def new_draft(wishes: Wishes, what: str) -> Draft:
    """What every card begins with; ``what`` is where its weights are from."""
    draft = Draft()
    draft.put("id", wishes.model_id)
    draft.put("version", "0.1.0")
    draft.put("name", wishes.model_id.replace("-", " ").capitalize()[:64])
    draft.put("task", wishes.task or "segmentation")
    draft.put("intended_use", NO_INTENDED_USE, "what for, for whom, in which images")
    draft.put("not_for", ["any decision about a patient"])
    draft.put("demonstration", True, "false once it is more than that")
    draft.put("manufacturer", "Not stated", "who answers for the model")
    draft.put("licence", "", "SPDX name of the code's licence; empty is refused at clinical sites")
    draft.put("evidence", {"validated_on": "not validated"}, "figures, and on what")
    draft.put("input", {})
    draft.put("output", {})
    draft.put("weights", {"path": None, "sha256": None, "licence": "", "source": what})
    draft.check("weights.licence", "SPDX name of the weights' licence")
    draft.put("runtime", {})
    draft.put("report", "structures")
    return draft


def put_input(draft: Draft, wishes: Wishes, *, axes: int, channels: int) -> None:
    """The part on the input, where nothing tells how values were scaled in training.

    Parameters
    ----------
    axes, channels
        That the network takes.
    """
    given = wishes.modalities
    modalities = given or (["CT"] if axes == 3 else ["CR", "DX"])
    is_image = all(one in _IMAGES for one in modalities)
    if is_image and axes == 3:
        raise ModelError(
            f"the network takes volumes, and {', '.join(modalities)} are images",
            reason="model.wrong_input",
        )
    draft.put("input.kind", "image" if is_image else "volume")
    draft.put("input.modality", modalities, "" if given else "assumed from the number of axes")
    if not is_image:
        draft.put("input.ndim", axes)
        draft.put("input.axes", ["S", "P", "L"], "directions in which the arrays of training grew")
    if axes == 3:
        draft.put("input.spacing_mm", [1.5, 1.5, 1.5], "the spacing it was trained at")
    draft.put("input.intensity", _intensity(is_image, modalities), _intensity_check(is_image))
    if channels == 3 and axes == 2:
        draft.put("input.repeat", 3, "one grey channel three times")
        draft.put("input.normalisation", "imagenet", "none, zscore, imagenet, or mean and std")
    elif channels > 1:
        draft.put(
            "input.repeat", channels,
            "its channels are one series, so often: input.channels gives windows of their own",
        )
    if "input.normalisation" not in draft.checks:
        draft.put("input.normalisation", "none", "none, zscore, imagenet, or mean and std")


def _intensity(is_image: bool, modalities: list[str]) -> dict[str, Any]:
    if is_image:
        return {"unit": "displayed"}
    if modalities == ["CT"]:
        return {"unit": "HU", "clip": [-1000.0, 1000.0], "scale_to": [0.0, 1.0]}
    return {"unit": "arbitrary", "clip_percentiles": [0.5, 99.5], "scale_to": [0.0, 1.0]}


def _intensity_check(is_image: bool) -> str:
    if is_image:
        return "it sees 0 to 1, white high; scale_to where training had other values"
    return "how values were clipped and scaled in training"


def settle(draft: Draft) -> None:
    """What follows from the rest: the report, and where in the body the model looks.

    Segments and text have reports of the node that take any of them; of numbers see
    `ai_models.scaffold.report_text`.
    """
    task, is_image = draft.get("task"), draft.get("input.kind") == "image"
    if task == "text":
        draft.put("report", "draft")
    elif task in _TASKS_ON_VOXELS:
        draft.put("report", "regions" if is_image else "structures")
    if not is_image:
        _put_body_part(draft)


def _put_body_part(draft: Draft) -> None:
    entries = [draft.get(f"output.{key}") for key in ("labels", "scores", "quantities")]
    found = body_part([one["name"] for some in entries if some for one in some])
    values: dict[str, Any] = draft.values["input"]
    after = {key: values.pop(key) for key in list(values) if key not in ("kind", "modality")}
    why = "by the names of what it finds" if found else "such as CHEST, ABDOMEN, HEAD"
    draft.put("input.body_part", [found] if found else [], f"{why}; `models verify` draws by it")
    values.update(after)
