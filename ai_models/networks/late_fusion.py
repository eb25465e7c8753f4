"""CT with PET or other series and what is known of the patient, joined at the end (late fusion).

Every series has convolutions of its own, and what is not there has a learned stand-in, so that the
answer does not depend on what fills its channel. In training, series and facts are left out at
random (modality dropout): the network meets every lack before a patient has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn


class LateFusion(nn.Module):
    """Logits of a whole examination.

    Parameters
    ----------
    image_channels
        Of the reference series.
    required
        For each companion of the card, in its order, whether the card requires it. Of one that is
        not, the input has a channel that says whether it is there (``input.presence``).
    clinical
        How many clinical entries the card has: two channels each, the value and 1 where known.
    out_channels
        Of the answer.
    widths
        Channels of the convolutions of each series, each of half the resolution of the last.
    features
        What each series becomes before they are joined.
    modality_dropout
        How often in training a companion that is not required, or a known fact, is left out.
    dropout
        Share of the joined features that is left out in training.
    """

    def __init__(
        self,
        image_channels: int = 1,
        required: Sequence[bool] = (False,),
        clinical: int = 0,
        out_channels: int = 1,
        widths: Sequence[int] = (8, 16, 32, 64),
        features: int = 32,
        modality_dropout: float = 0.3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_channels, self.clinical = image_channels, clinical
        self.required = tuple(bool(one) for one in required)
        self.modality_dropout = modality_dropout
        self.look = nn.ModuleList(
            _Look(channels, widths, features)
            for channels in (image_channels, *(1 for _ in self.required))
        )
        self.stand_in = nn.Parameter(torch.zeros(len(self.required), features))
        joined = features * (1 + len(self.required))
        if clinical:
            self.facts = nn.Sequential(
                nn.Linear(2 * clinical, features), nn.ReLU(), nn.Linear(features, features)
            )
            joined += features
        self.head = nn.Sequential(
            nn.Linear(joined, features), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(features, out_channels),
        )

    @property
    def in_channels(self) -> int:
        """How many channels the input has."""
        optional = self.required.count(False)
        return self.image_channels + len(self.required) + optional + 2 * self.clinical

    def forward(
        self, image: torch.Tensor, left_out: Sequence[int] = ()
    ) -> torch.Tensor:
        """``(batch, in_channels, D, H, W)`` to logits ``(batch, out_channels)``.

        The channels are those of `ai_models.card_input.InputEntry`: the reference, the companions,
        whether those that are not required are there, and value and known of each fact. Companions
        ``left_out`` (from 0) count as not there, whatever the input says.
        """
        present, facts = self._said(image)
        if left_out:
            present = present.index_fill(
                1, torch.tensor(list(left_out), device=image.device), 0.0
            )
        if self.training and self.modality_dropout:
            present, facts = self._thinned(present, facts)
        first = self.image_channels
        parts = [self.look[0](image[:, :first])]
        for number in range(len(self.required)):
            is_there = present[:, number : number + 1]
            at = first + number
            # Zero times a number is zero: nothing of an absent channel gets through.
            seen = self.look[1 + number](image[:, at : at + 1] * is_there[..., None, None, None])
            parts.append(is_there * seen + (1 - is_there) * self.stand_in[number])
        if self.clinical:
            parts.append(self.facts(facts))
        logits: torch.Tensor = self.head(torch.cat(parts, dim=1))
        return logits

    def _said(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which companions are there ``(batch, companions)``; ``(batch, 2 * clinical)`` facts."""
        start = self.image_channels + len(self.required)
        constant = image[:, start:].mean(dim=(2, 3, 4))
        optional = self.required.count(False)
        columns, at = [], 0
        for is_required in self.required:
            if is_required:
                columns.append(torch.ones_like(image[:, 0, 0, 0, 0]))
            else:
                # A mean of ones is not always one to the last bit.
                columns.append((constant[:, at] > 0.5).to(image.dtype))
                at += 1
        present = torch.stack(columns, dim=1) if columns else image.new_zeros((len(image), 0))
        facts = constant[:, optional : optional + 2 * self.clinical].unflatten(1, (-1, 2)) \
            if self.clinical else image.new_zeros((len(image), 0, 2))
        known = (facts[..., 1] > 0.5).to(image.dtype)
        return present, torch.stack((facts[..., 0] * known, known), dim=2).flatten(1)

    def _thinned(
        self, present: torch.Tensor, facts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        stays = (torch.rand_like(present) >= self.modality_dropout).to(present.dtype)
        for number, is_required in enumerate(self.required):
            if is_required:
                stays[:, number] = 1.0
        of_facts = torch.rand_like(facts[:, ::2]) >= self.modality_dropout
        return present * stays, facts * of_facts.to(facts.dtype).repeat_interleave(2, dim=1)


class _Look(nn.Module):
    """``(batch, channels, D, H, W)`` to ``(batch, features)``."""

    def __init__(self, channels: int, widths: Sequence[int], features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for old, new in itertools.pairwise((channels, *widths)):
            layers += [nn.Conv3d(old, new, 3, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm3d(new), nn.ReLU()]
            layers += [nn.Conv3d(new, new, 3, padding=1, bias=False), nn.BatchNorm3d(new)]
            layers.append(nn.ReLU())
        self.body = nn.Sequential(*layers)
        self.describe = nn.Sequential(nn.Linear(2 * widths[-1], features), nn.ReLU())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.body(image).flatten(2)
        described: torch.Tensor = self.describe(
            torch.cat((maps.mean(dim=2), maps.amax(dim=2)), dim=1)
        )
        return described
