"""A CLIP and a LLaMA of some hundred thousand weights, for a demonstration of PneumoLLM.

The published network stands on a CLIP that has seen 400 million pictures. This one learns from
drawn chests how much dust lies behind each of its patches, and is frozen then; the LLaMA stays as
it begins, at random. Nothing of them is of use elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ai_models.backends.huggingface_folder import import_transformers
from ai_models.training.loop import Batch, Example, generator_of, train
from ai_models.training.recipes.changed_pictures import Changes, changed
from ai_models.training.settings import Settings
from ai_models.training.torchvision_operators import declare_missing_operators
from ai_models.training.tracking import Terminal
from ai_models.types import FloatArray

EDGE, PATCH = 112, 14
SIDE = EDGE // PATCH
CLIP: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 6,
    "num_attention_heads": 4, "image_size": EDGE, "patch_size": PATCH,
}
LLAMA: dict[str, Any] = {
    "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 4,
    "num_attention_heads": 4, "vocab_size": 8,
}
SETTINGS = Settings(
    steps=600, batch=16, rate=1.5e-3, warm_up=40, weight_decay=0.02, checkpoint_every=150, seed=20,
)
# Colours as of ImageNet, which the card shows.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_GAIN = 2.0
# More noise than this would hide what is to be seen.
_CHANGES = Changes(turn_degrees=0.0, shift=0.0, scale=0.0, noise=0.003)


@dataclass(frozen=True)
class Dust:
    """Chests and what lies in them, for the CLIP to learn from.

    ``images`` is float16 ``(chests, EDGE, EDGE)``, 0 to 1; ``dust`` float32 ``(chests, SIDE,
    SIDE)``, mm of opacities behind each patch.
    """

    images: Any
    dust: FloatArray


class _Learner(nn.Module):
    """The CLIP, and what is asked of it: dust of each patch, and of the whole by class tokens."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip: Any = clip
        self.of_patch, self.of_whole = nn.Linear(64, 1), nn.Linear(64, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """``(batch, 1, EDGE, EDGE)`` to ``(batch, patches)`` and, of later layers, ``(batch,)``."""
        mean, std = (image.new_tensor(one).view(3, 1, 1) for one in (_MEAN, _STD))
        seen = self.clip(pixel_values=(image - mean) / std, output_hidden_states=True).hidden_states
        whole = [self.of_whole(states[:, 0])[:, 0] for states in seen[3:]]
        return self.of_patch(seen[-1][:, 1:])[..., 0], whole


def write_parts(
    folder: Path, dust: Dust, run: Path, settings: Settings = SETTINGS
) -> tuple[Path, Path]:
    """Write ``clip`` and ``llama`` below ``folder``; what was begun in ``run`` goes on."""
    declare_missing_operators()
    library = import_transformers()
    torch.manual_seed(settings.seed)
    clip = library.CLIPVisionModel(library.CLIPVisionConfig(**CLIP))
    with torch.no_grad():
        grey = torch.from_numpy(first_filters(CLIP["hidden_size"], settings.seed))[:, None]
        clip.embeddings.patch_embedding.weight.copy_(grey.expand(-1, 3, -1, -1) / 3.0)
    learner = _Learner(clip)
    llama = library.LlamaModel(library.LlamaConfig(**LLAMA))
    standard = np.sqrt(dust.dust)
    standard = (standard - standard.mean()) / standard.std()
    whole = standard.mean(axis=(1, 2))
    whole = (whole - whole.mean()) / whole.std()

    def example(number: int) -> Example:
        rng = generator_of(settings.seed, number)
        chosen = int(rng.integers(len(dust.images)))
        image = changed(dust.images[chosen][None].astype(np.float32), _CHANGES, rng)
        target = standard[chosen]
        if rng.random() < 0.5:
            image, target = image[..., ::-1].copy(), target[:, ::-1].copy()
        return {"image": image, "dust": target.astype(np.float32),
                "whole": np.float32(whole[chosen])}

    train(learner, example, _loss, settings, run, trackers=[Terminal()])
    learner.clip.save_pretrained(folder / "clip")
    llama.save_pretrained(folder / "llama")
    for path in folder.rglob("*.safetensors"):
        # It writes them for its own user alone; a node runs as another.
        path.chmod(0o644)
    return folder / "clip", folder / "llama"


def first_filters(count: int, seed: int) -> FloatArray:
    """What each patch is first looked at with, float32 ``(count, PATCH, PATCH)``: spots of several
    sizes against what surrounds them, and every eighth the brightness of a place.

    From random numbers a network of this size does not come to see grain in a few hundred steps.
    """
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:PATCH, 0:PATCH].astype(np.float64)
    made = []
    for number in range(count):
        y, x = rng.uniform(1.0, PATCH - 2.0, 2)
        distance = (down - y) ** 2 + (across - x) ** 2

        def blot(width: float, distance: npt.NDArray[np.float64] = distance) -> Any:
            weights = np.exp(-distance / (2.0 * width**2))
            return weights / weights.sum()

        if number % 8 == 7:
            made.append(0.15 * blot(PATCH / 2.5))
            continue
        width = float(np.exp(rng.uniform(np.log(0.8), np.log(2.2))))
        spot = blot(width) - blot(1.8 * width)
        made.append(_GAIN * spot / np.sqrt((spot**2).sum()))
    return np.stack(made).astype(np.float32)


def _loss(network: nn.Module, batch: Batch) -> torch.Tensor:
    patches, whole = network(batch["image"])
    loss = functional.mse_loss(patches, batch["dust"].flatten(1))
    for one in whole:
        loss = loss + functional.mse_loss(one, batch["whole"]) / len(whole)
    return loss
