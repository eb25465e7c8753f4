"""Weights that a backbone begins with: RadiologyNET's files, and torchvision's of ImageNet.

A file must be of the very architecture, by names and shapes in both directions: ResNet34 has every
weight that ResNet18 asks for, and is another network all the same. What the images looked like
that the weights were learned from belongs to them; a network that is shown others answers worse
and nothing says so, so it is recorded and compared with the card.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from ai_models.backends.checkpoint import checkpoint_in
from ai_models.networks.backbones import build_backbone, family_of
from ai_models.training.recipe import Recipe
from ai_models.training.settings import TrainingError

Origin = Literal["radiologynet", "imagenet", "other"]

# Of the tensors of the network, and of those of the file.
LEAST_RESTORED = 0.95
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "backbone.")
_INNER = ("model_state", "state_dict", "model_state_dict", "model")
_CLASSES: Mapping[int, Origin] = {36: "radiologynet", 1000: "imagenet"}
# torchvision's file of DenseNet is older than its names.
_OLD_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")
_COUNTER = "num_batches_tracked"
_SECOND_HEAD = "AuxLogits."
_EXAMPLES = 3
# Values of one tensor that are fewer in the file: the largest of a known backbone has 103 million.
_MOST_REPEATED = 1 << 27
# What has a backbone, and which where its arguments do not say.
_BACKBONE_OF = {"Backbone": "", "BackboneUNet": "resnet50", "BoneAge": "inception_v3"}
_NAMES: Mapping[Origin, str] = {
    "radiologynet": "weights of RadiologyNET", "imagenet": "weights of ImageNet",
    "other": "other weights",
}


@dataclass(frozen=True)
class Pretrained:
    """Where the weights of a backbone are from.

    Attributes
    ----------
    file, sha256
        Name and digest of the file.
    origin
        Who trained it: ``radiologynet`` saw images as they are, ``imagenet`` normalised ones;
        ``other``: whoever names the file knows.
    backbone
        A key of `ai_models.networks.backbones.BACKBONES`.
    restored, tensors
        How many tensors of the network are now those of the file, bit by bit, and how many it has
        besides its heads.
    missing
        Names of those that it has of its own.
    left_out
        Names of heads that answer other classes: they learn anew.
    """

    file: str
    sha256: str
    origin: Origin
    backbone: str
    restored: int
    tensors: int
    missing: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def normalisation(self) -> str | None:
        """What ``input.normalisation`` of a card must say; ``None``: nobody here knows."""
        return normalisation_of(self.origin)


def normalisation_of(origin: Origin) -> str | None:
    """How images must be shown to weights of this origin, in the words of a card."""
    return {"radiologynet": "none", "imagenet": "imagenet", "other": None}[origin]


def begin(recipe: Recipe, network: nn.Module, beside: Path) -> Pretrained | None:
    """Begin with the weights that a recipe names; ``None`` where it names none.

    Raises
    ------
    TrainingError, ModelError
        As `load_pretrained`; the network has no backbone, or the card shows it other images than
        the weights were learned from.
    """
    wanted = recipe.training.pretrained
    if wanted is None:
        return None
    card = recipe.card
    told = card["runtime"]["network"]
    arguments = told.get("arguments") or {}
    backbone = arguments.get("backbone") or _BACKBONE_OF.get(told["name"])
    if told["name"] not in _BACKBONE_OF or not backbone:
        raise TrainingError(
            f"training.pretrained: {told['name']} has no backbone: "
            f"card.runtime.network.name: {', '.join(_BACKBONE_OF)} expected"
        )
    try:
        found = load_pretrained(
            network, backbone, beside / wanted.path, origin=wanted.origin, sha256=wanted.sha256
        )
    except TrainingError as error:
        raise TrainingError(f"training.pretrained: {error}") from error
    shown = (card.get("input") or {}).get("normalisation", "none")
    if found.normalisation not in (None, shown):
        raise TrainingError(
            f"card.input.normalisation: {found.normalisation} expected with "
            f"{_NAMES[found.origin]}, found {shown}: they answer worse of other images, and "
            "nothing would say so"
        )
    centred = bool(arguments.get("transform_input"))
    if backbone == "inception_v3" and found.origin != "other" and \
            centred != (found.origin == "imagenet"):
        raise TrainingError(
            f"card.runtime.network.arguments.transform_input: {not centred} expected with "
            f"{_NAMES[found.origin]}".replace("True", "true").replace("False", "false")
        )
    return found


def words_on(found: Pretrained) -> str:
    """Where a trained network began, for ``weights.source`` of a card."""
    return f"from {_NAMES[found.origin]} ({found.file}, SHA-256 {found.sha256})"


def read_pretrained(path: Path, sha256: str | None = None) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a file by torchvision's names, and its SHA-256.

    RadiologyNET's files are a dictionary with ``model_state`` beside the optimizer's; names begin
    with ``model.``, and of DenseNet121 each tensor is there twice.

    Raises
    ------
    TrainingError
        It is another file than ``sha256`` says, holds no tensors, or holds two under one name.
    ModelError
        ``model.pickle``, ``model.load_failed``: reading it would run code, or it is torn.
    """
    try:
        if path.exists() and not path.is_file():
            raise TrainingError(f"{path} cannot be read: it is no plain file")
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise TrainingError(f"{path.name} has SHA-256 {digest}, not {sha256}")
    if path.suffix == ".safetensors":
        from ai_models.backends.torch_network import read_state_dict

        given = dict(read_state_dict(content, path.name))
    else:
        given = _tensors(checkpoint_in(content, path.name), path.name)
    named: dict[str, torch.Tensor] = {}
    for name, tensor in given.items():
        plain = _plain_name(name)
        if not _is_plain(tensor):
            raise TrainingError(f"{path.name}: {name} is no tensor whose values are in the file")
        if not tensor.is_floating_point() and not name.endswith(_COUNTER):
            # Copied into a network, integers of a quantised one would pass for weights.
            raise TrainingError(f"{path.name}: {name} holds {tensor.dtype}, no floating point")
        if not torch.isfinite(tensor).all():
            raise TrainingError(f"{path.name}: {name} holds values that are no numbers")
        if plain in named and not _same(named[plain], tensor):
            raise TrainingError(f"{path.name} has two different tensors for {plain}")
        named[plain] = tensor
    return named, digest


def known_origin(
    tensors: Mapping[str, torch.Tensor], backbone: str, said: str | None, file: str
) -> Origin:
    """Who trained them: by the number of classes of the head, or as it is ``said``.

    Raises
    ------
    TrainingError
        The file tells nothing and nobody says it; or the two say different things.
    """
    head = tensors.get(f"{family_of(backbone).head}.weight")
    seen = None if head is None or head.ndim != 2 else _CLASSES.get(len(head))
    if said is not None and said not in get_args(Origin):
        raise TrainingError(f"no origin {said!r}; there are: {', '.join(get_args(Origin))}")
    stated: Origin | None = next((one for one in get_args(Origin) if one == said), None)
    if stated == "other" or seen is None:
        if stated is None:
            raise TrainingError(
                f"{file} does not tell who trained it, by its number of classes: say "
                "--pretrained-by, or training.pretrained.origin in the recipe: radiologynet "
                "(images as they are), imagenet (normalised ones) or other"
            )
        return stated
    if stated not in (None, seen):
        raise TrainingError(f"{file} is of {seen} by its classes, not of {stated}")
    return seen


def check_backbone(tensors: Mapping[str, torch.Tensor], backbone: str, file: str) -> None:
    """Refuse tensors of another architecture.

    Raises
    ------
    TrainingError
        Fewer than 95 % of the tensors of the backbone are in the file, or of the file in the
        backbone, heads aside; with the counts and some names.
    """
    layout = _layout(backbone)
    fitting = {
        name for name, shape in layout.items() if name in tensors and tensors[name].shape == shape
    }
    theirs = {name for name in tensors if _counts(name, backbone)}
    missing, strange = layout.keys() - fitting, theirs - fitting
    if len(fitting) >= LEAST_RESTORED * max(len(layout), len(theirs)):
        return
    raise TrainingError(
        f"{file} is not of {backbone}: {len(fitting)} of the {len(layout)} tensors of the network "
        f"are in it, and it has {len(theirs)}"
        f"{_examples('not there or of another shape', missing)}{_examples('not known', strange)}"
    )


def load_pretrained(
    network: nn.Module, backbone: str, path: Path, *, origin: Origin | None = None,
    sha256: str | None = None,
) -> Pretrained:
    """Begin with the weights of a file.

    Parameters
    ----------
    network
        Of `ai_models.networks`: a backbone, or what has one as its ``backbone``.
    origin
        Who trained the weights, where their number of classes does not tell.
    sha256
        Which file is meant.

    Raises
    ------
    TrainingError
        As `read_pretrained` and `check_backbone`; the origin is not known or another; or the
        network takes images of another number of channels than three.
    ModelError
        As `read_pretrained`.
    """
    tensors, digest = read_pretrained(path, sha256)
    check_backbone(tensors, backbone, path.name)
    trained_by = known_origin(tensors, backbone, origin, path.name)
    inner = getattr(network, "backbone", None)
    body = inner if isinstance(inner, nn.Module) else network
    own = body.state_dict()
    wanted = [name for name in own if _counts(name, backbone)]
    _check_colours(own, tensors, path.name)
    fitting = {
        name: tensors[name] for name in own
        if name in tensors and tensors[name].shape == own[name].shape
    }
    body.load_state_dict({**own, **fitting}, strict=True)
    return Pretrained(
        path.name, digest, trained_by, backbone,
        sum(name in fitting for name in wanted), len(wanted),
        tuple(name for name in wanted if name not in fitting),
        tuple(name for name in own if not _counts(name, backbone)
              and name not in fitting and not name.endswith(_COUNTER)),
    )


def _tensors(loaded: Any, file: str) -> dict[str, torch.Tensor]:
    for key in ("", *_INNER):
        inner = loaded.get(key) if key and isinstance(loaded, dict) else loaded
        if isinstance(inner, dict) and inner and all(
            isinstance(name, str) and isinstance(one, torch.Tensor) for name, one in inner.items()
        ):
            return dict(inner)
    raise TrainingError(f"{file} holds no weights by name (model_state, or a state_dict)")


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether every value has a place: a few bytes may claim to be a tensor of gigabytes."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return False
    # One value for many is no harm as long as they are not too many.
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.numel() <= max(stored, _MOST_REPEATED)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _plain_name(name: str) -> str:
    while prefix := next((one for one in _PREFIXES if name.startswith(one)), ""):
        name = name.removeprefix(prefix)
    return _OLD_NAME.sub(r"\1\2", name)


def _layout(backbone: str) -> dict[str, torch.Size]:
    """Names and shapes of the whole backbone, heads aside."""
    with torch.device("meta"):
        network = build_backbone(backbone)
    return {
        name: one.shape for name, one in network.state_dict().items() if _counts(name, backbone)
    }


def _counts(name: str, backbone: str) -> bool:
    """Whether a tensor tells of its architecture.

    Heads answer other classes, and counters of batches change no answer: older files have none.
    """
    is_head = name.rpartition(".")[0] == family_of(backbone).head
    return not is_head and not name.startswith(_SECOND_HEAD) and not name.endswith(_COUNTER)


def _check_colours(
    own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], file: str
) -> None:
    for name, tensor in own.items():
        if tensor.ndim == 4 and name in tensors:
            if tensor.shape[1] != tensors[name].shape[1]:
                raise TrainingError(
                    f"{file} was trained on {tensors[name].shape[1]} channels, the network takes "
                    f"{tensor.shape[1]}: in_channels: 3 of the network, and input.repeat: 3"
                )
            return


def _examples(what: str, names: Sequence[str] | set[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(sorted(names)[:_EXAMPLES])
    return f"; {what}: {shown}{' and others' if len(names) > _EXAMPLES else ''}"
