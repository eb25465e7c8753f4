"""Train bone-age-dx: ``python -m ai_models.training.recipes.bone_age_dx --output DIR``.

Hands are drawn (`ai_models.training.phantoms.hands`) of any bone age from 2 to 18 years, and the
collimator leaves more or less about them: how large a hand is in the picture says nothing. The
network is told the sex, as the same hand is a younger girl's or an older boy's; in training it is
left out at random, and what its lack costs is measured. ``--evaluate`` measures the weights of the
card again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ai_models.card import Card
from ai_models.networks.backbones import build_backbone, family_of, feature_maps, without_head
from ai_models.training.phantoms.bones import XRAY_UNITS, random_unit
from ai_models.training.phantoms.hands import (
    hand_radiograph,
    random_hand,
    random_margins_mm,
)
from ai_models.training.recipes.changed_pictures import Changes
from ai_models.training.recipes.scored_images import (
    ImageCase,
    ImageRecipe,
    Part,
    run_as_asked,
)
from ai_models.training.settings import Settings
from ai_models.types import Image

FIRST_SEED: dict[Part, int] = {"train": 0, "validation": 50_000, "held_back": 130_000}
SPACING_MM = 1.0
SEX = {"F": -1.0, "M": 1.0}
"""As the card has it."""
BACKBONE = "mobilenet_v3_small"


class PooledBoneAge(nn.Module):
    """`ai_models.networks.bone_age.BoneAge` with a small head: means of the maps, and the sex.

    With all places of the maps and two layers of 1000, as published, the weights would be eight
    times as many. ``(batch, 3, rows, columns)`` (image, sex, whether it is known) to
    ``(batch, 1)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build_backbone(BACKBONE, 1, 1)
        without_head(self.backbone)
        self.sex = nn.Linear(2, 32)
        self.head = nn.Sequential(
            nn.Linear(family_of(BACKBONE).width + 32, 256), nn.ReLU(), nn.Linear(256, 1)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """One number in the network's own unit; the card says months."""
        maps = feature_maps(self.backbone, image[:, :1]).mean(dim=(2, 3))
        sex = torch.relu(self.sex(image[:, 1:].mean(dim=(2, 3))))
        answer: torch.Tensor = self.head(torch.cat((maps, sex), dim=1))
        return answer


def network(card: Card) -> nn.Module:
    """For a card of one picture and one fact."""
    if card.input.channel_counts[1] != 3:
        raise ValueError(f"{card.id}: a picture and one fact expected")
    return PooledBoneAge()


def of_unknown_sex(case: ImageCase) -> ImageCase:
    """The same hand, and nobody says whose."""
    if not isinstance(case.source, Image):
        raise TypeError("a hand is an image")
    return replace(case, source=replace(case.source, clinical={"sex": None}))


def draw(part: Part, number: int) -> ImageCase:
    """A hand of any age; boys and girls take turns."""
    seed = FIRST_SEED[part] + number
    rng = np.random.default_rng((seed, 5))
    variation = replace(
        random_hand(rng), sex="MF"[number % 2], margins_mm=random_margins_mm(rng)
    )
    is_own = part == "held_back"
    unit = XRAY_UNITS[(number // 2) % len(XRAY_UNITS)] if is_own else random_unit(rng)
    shown = hand_radiograph(seed, variation, unit, SPACING_MM)
    years = int(variation.bone_age_months // 12)
    return ImageCase(
        Image(shown, (SPACING_MM, SPACING_MM), {"sex": SEX[variation.sex]}),
        variation.bone_age_months,
        about={"sex": variation.sex, "unit": unit.name,
               "years": f"{years // 4 * 4:02d}-{years // 4 * 4 + 3:02d}"},
    )


def recipe_of(data: Path | None = None) -> ImageRecipe:
    """The recipe; nothing is read."""
    return ImageRecipe(
        model_id="bone-age-dx",
        command="python -m ai_models.training.recipes.bone_age_dx --output DIR",
        draw=draw, counts={"train": 1500, "validation": 150, "held_back": 240},
        settings=Settings(
            steps=1200, batch=32, rate=1.5e-3, warm_up=60, weight_decay=1e-3, average=0.99,
            validate_every=200, checkpoint_every=200, watch="error", best="min", seed=20,
        ),
        changes=Changes(turn_degrees=6.0, shift=0.03, scale=0.06, noise=0.02),
        data="drawn radiographs of hands, bone age 2 to 18 years, boys and girls alike",
        shortcomings=(
            "Drawn hands: the order in which bones come and close is that of atlases in round "
            "numbers, the shapes are invented, and every hand is healthy. Figures say nothing of "
            "children."
        ),
        held_back="drawn hands, seen by three X-ray units of their own",
        network=network, also={"sex not told": of_unknown_sex},
    )


def main(arguments: list[str] | None = None) -> int:
    """Train, measure on held-back hands, write the folder of the model."""
    return run_as_asked(recipe_of, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
