"""What is to be trained, in one YAML file: the card of the model to come, and how it learns.

    card:      as model.yaml, without weights and evidence
    training:  steps, rate, augmentation, ...

The card says what the network takes and answers, so the same lines that prepare the inputs of
training prepare those of patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ai_models.training.augmentation import Augmentation
from ai_models.training.settings import Settings, TrainingError
from ai_models.types import CardError
from ai_models.yaml_lines import read_content, read_yaml

RECIPE_NAME = "recipe.yaml"
# Months of any machine: more is a slip of the pen.
_MOST_STEPS = 100_000_000


class Split(BaseModel):
    """Parts of the patients that are held back, where the table does not say which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: float = Field(0.15, ge=0, lt=1)
    """Chooses the weights."""
    test: float = Field(0.15, ge=0, lt=1)
    """Never looked at before the end: its figures go into the card."""


class Pretraining(BaseModel):
    """Weights of a backbone to begin with; `ai_models.training.pretrained` reads them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """A ``.pth`` or ``.safetensors``, from the folder of the recipe on."""
    sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{64}$")
    """As ``sha256sum`` prints it: another file is refused."""
    origin: Literal["radiologynet", "imagenet", "other"] | None = None
    """Who trained them. By their number of classes, 36 or 1000, where it is not said."""
    frozen_steps: int = Field(0, ge=0, le=_MOST_STEPS)
    """In so many steps only what is not from the file learns."""


class Training(BaseModel):
    """The part ``training`` of a recipe; `ai_models.training.settings.Settings` says what the
    numbers of the loop mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(2000, ge=1, le=_MOST_STEPS)
    batch: int = Field(2, ge=1, le=65536)
    at_once: int = Field(0, ge=0, le=65536)
    rate: float = Field(1e-3, gt=0, le=1)
    schedule: Literal["cosine", "polynomial", "constant"] = "cosine"
    warm_up: int = Field(0, ge=0, le=_MOST_STEPS)
    first_rate: float = Field(0.0, ge=0, le=1)
    last_rate: float = Field(0.0, ge=0, le=1)
    second_beta: float = Field(0.999, gt=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0, le=10)
    clip_norm: float = Field(5.0, ge=0, le=1e6)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    average: float = Field(0.0, ge=0, lt=1)
    seed: int = Field(20, ge=0, le=2**32 - 1)
    checkpoint_every: int = Field(100, ge=0, le=_MOST_STEPS)
    validate_every: int = Field(200, ge=0, le=_MOST_STEPS)
    watch: str = ""
    best: Literal["max", "min", ""] = ""
    patience: int = Field(0, ge=0, le=_MOST_STEPS)
    workers: int = Field(0, ge=0, le=256)
    loss: str | None = None
    """``dice_ce``, ``dice_focal``, ``ce``; ``ce``, ``focal``, ``bce``; ``smooth_l1``, ``mse``."""
    crop: list[Annotated[int, Field(ge=1, le=4096)]] | None = None
    """Edges of the examples, in voxels of the network's grid; those of ``runtime.roi`` without."""
    foreground: float = Field(0.6, ge=0, le=1)
    """Of so many crops the middle is a voxel of a label."""
    start_from: str | None = None
    """Weights to begin with (.safetensors) beside the recipe; random ones without."""
    pretrained: Pretraining | None = None
    """Weights of RadiologyNET or ImageNet for the backbone of the network."""
    serve: Literal["state_dict", "onnx"] = "state_dict"
    """Which of the two files of weights the card names."""
    augmentation: Augmentation = Augmentation()
    split: Split = Split()

    @model_validator(mode="after")
    def _one_beginning(self) -> Training:
        if self.pretrained is not None and self.start_from is not None:
            raise ValueError("start_from and pretrained are two beginnings: one of them expected")
        return self

    def settings(self, task: str) -> Settings:
        """Of the loop; errors of a regression are better when they are smaller."""
        known = {one.name for one in fields(Settings)} - {"best"}
        given = {name: value for name, value in self.model_dump().items() if name in known}
        return Settings(**given, best=self.best or ("min" if task == "regression" else "max"))


class Recipe(BaseModel):
    """A whole recipe; ``card`` is checked when the model folder is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    card: dict[str, Any]
    training: Training = Training(steps=2000)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe with ``changes`` such as ``training.steps=500`` applied.

    Raises
    ------
    TrainingError
        The file cannot be read, or a value is wrong; the message names its place.
    """
    try:
        values, lines = read_yaml(read_content(path), path)
    except CardError as error:
        raise TrainingError(str(error)) from error
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: card and training expected")
    return recipe_of(changed(values, changes), str(path), lines)


def recipe_of(
    values: Mapping[str, Any], where: str, lines: Mapping[str, int] | None = None
) -> Recipe:
    """A recipe from plain values."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        line = (lines or {}).get(place)
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise TrainingError(
            f"{where}{f':{line}' if line else ''}: {place}: {message}"
        ) from error


def changed(values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Values with single ones set: ``training.augmentation.gamma=[0.8, 1.2]``.

    An entry of a list goes by its number from 0: ``card.output.labels.0.name=Nodule``.
    """
    result: dict[str, Any] = _copied(values)
    for change in changes:
        key_path, equals, text = change.partition("=")
        *parents, key = key_path.strip().split(".")
        if not equals or not key:
            raise TrainingError(f"{change!r}: KEY=VALUE expected, such as training.steps=500")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise TrainingError(f"{change!r}: the value is no YAML") from error
        place: Any = result
        for name, inner in zip(parents, [*parents[1:], key], strict=True):
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
            if isinstance(place, list) and not (inner.isdecimal() and int(inner) < len(place)):
                raise TrainingError(f"{change!r}: {name} is a list of {len(place)}, from 0 on")
            if not isinstance(place, dict | list):
                raise TrainingError(f"{change!r}: {name} has no keys")
        place[int(key) if isinstance(place, list) else key] = value
    return result


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(one) for name, one in value.items()}
    return list(map(_copied, value)) if isinstance(value, list) else value
