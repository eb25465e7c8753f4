"""The part of a first recipe on a backbone: the network, what it is shown, and how it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_models.scaffold.draft import Draft
from ai_models.training.settings import TrainingError

_WINDOW = 96

@dataclass(frozen=True)
class Beginning:
    """What was asked for on the command line.

    Attributes
    ----------
    backbone
        A key of `ai_models.networks.backbones.BACKBONES`.
    pretrained
        A file of weights for it; without one it begins at random.
    origin
        Who trained them, where the file does not tell.
    """

    backbone: str
    pretrained: Path | None = None
    origin: str | None = None


def put_backbone(draft: Draft, beginning: Beginning, count: int) -> dict[str, Any]:
    """The network, its input, and as answer what ``training`` of the recipe says of it.

    ``count`` is how many labels, scores or quantities are learned.

    Raises
    ------
    TrainingError
        No such backbone; it has no network for the task; the file is not of it.
    ModelError
        The file cannot be read without running code.
    """
    from ai_models.networks.backbones import family_of

    task, is_image = draft.get("task"), draft.get("input.kind") == "image"
    try:
        family = family_of(beginning.backbone)
    except ValueError as error:
        raise TrainingError(f"--backbone: {error}") from error
    if task == "detection" or (task == "regression" and not is_image):
        raise TrainingError(
            f"--backbone: no {task} of {'images' if is_image else 'volumes'} is made with one"
        )
    arguments: dict[str, Any] = {"backbone": beginning.backbone, "out_channels": count}
    name = "Backbone"
    if task == "segmentation":
        from ai_models.networks.backbone_unet import BACKBONES_OF_UNETS

        if beginning.backbone not in BACKBONES_OF_UNETS:
            raise TrainingError(
                f"--backbone: no segmentation on {beginning.backbone}; there are: "
                f"{', '.join(BACKBONES_OF_UNETS)}"
            )
        name, arguments["out_channels"] = "BackboneUNet", count + 1
        draft.put("runtime.roi", [_WINDOW] * 2, "multiples of 32, as memory allows")
    else:
        draft.put("input.size", {"edges": [family.edge] * 2, "fit": "pad"},
                  "what the backbone was pretrained with")
    if task == "classification" and not is_image:
        draft.put("output.per", "slice", "every slice is looked at by itself")
    draft.put("input.repeat", 3, "one grey channel three times")
    begins, normalisation = _pretrained(beginning)
    if normalisation is None:
        draft.check("input.normalisation", "what the weights were trained on")
    else:
        draft.put("input.normalisation", normalisation)
    if beginning.backbone == "inception_v3" and normalisation == "imagenet":
        arguments["transform_input"] = True
    draft.put("runtime.backend", "state_dict")
    draft.put("runtime.network", {"name": name, "arguments": arguments})
    return begins


def _pretrained(beginning: Beginning) -> tuple[dict[str, Any], str | None]:
    """``training.pretrained`` and ``input.normalisation`` of a file of weights."""
    if beginning.pretrained is None:
        return {}, "none"
    from ai_models.training.pretrained import (
        check_backbone,
        known_origin,
        normalisation_of,
        read_pretrained,
    )

    path = beginning.pretrained.absolute()
    tensors, digest = read_pretrained(path)
    check_backbone(tensors, beginning.backbone, path.name)
    origin = known_origin(tensors, beginning.backbone, beginning.origin, path.name)
    begins = {"path": str(path), "sha256": digest, "origin": origin}
    return {"pretrained": begins}, normalisation_of(origin)
