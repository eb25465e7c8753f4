"""A convolutional network that looks at each slice or phase, and an LSTM that knows the others.

Of slices: what a radiologist does who scrolls, an answer for each slice that knows its neighbours
(pulmonary embolism on CT: Huhtanen et al., BMC Medical Imaging 2022, which looks at the first 96
slices only; here at all). Of phases: how one place changes with time after contrast medium.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class CnnLstm(nn.Module):
    """Logits of each step of a sequence, or of the whole.

    Parameters
    ----------
    in_channels
        Of one step: those of the input for ``slices``, 1 for ``phases``.
    out_channels
        Of the answer, for each step or for the whole.
    sequence
        ``slices``: the steps are the slices of a volume, each seen by 2D convolutions.
        ``phases``: the steps are the channels of the input, each a volume seen by 3D convolutions.
    every_step
        Answer each step, as ``output.per: sequence`` of a card wants it; otherwise the whole.
    widths
        Channels of the convolutions, each of half the resolution of the one before.
    features
        What one step becomes before the LSTM.
    hidden
        Of the LSTM, in each direction.
    context
        So many slices on either side are shown with each slice. Of ``slices``.
    dropout
        Share of the features that is left out in training, 0 to 1.

    Raises
    ------
    ValueError
        ``context`` for phases, or more than one channel in a phase.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        sequence: Literal["slices", "phases"] = "slices",
        every_step: bool = True,
        widths: Sequence[int] = (16, 32, 64, 64),
        features: int = 64,
        hidden: int = 64,
        context: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if sequence not in ("slices", "phases"):
            raise ValueError(f"sequence {sequence!r}: slices or phases")
        if sequence == "phases" and (context or in_channels != 1):
            raise ValueError("a phase has one channel and no context")
        self.sequence, self.every_step, self.context = sequence, every_step, context
        shown = in_channels * (2 * context + 1)
        self.look = _convolutions(shown, widths, 2 if sequence == "slices" else 3)
        self.describe = nn.Sequential(
            nn.Linear(2 * widths[-1], features), nn.ReLU(), nn.Dropout(dropout)
        )
        self.remember = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear((2 if every_step else 4) * hidden, out_channels)
        )

    def forward(
        self, image: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``(batch, channels, D, H, W)`` to ``(batch, steps, out)`` or ``(batch, out)``.

        ``lengths`` (batch,) says how many steps of each input are there; what is behind them is
        padding, which changes nothing to the last bit, and is answered with 0. Without it all
        steps count, as in an exported network.
        """
        steps = self.steps(image)
        if lengths is None:
            described = self.describe(self._pooled(self.shown(steps, None).flatten(0, 1)))
            remembered, _ = self.remember(described.unflatten(0, steps.shape[:2]))
            if self.every_step:
                every: torch.Tensor = self.head(remembered)
                return every
            mean, most = remembered.mean(dim=1), remembered.amax(dim=1)
            return self._of_whole(mean, most)
        return self._of_padded(steps, lengths.to("cpu", torch.int64))

    def steps(self, image: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, D, H, W)`` as ``(batch, steps, channels, ...)``."""
        return image.transpose(1, 2) if self.sequence == "slices" else image.unsqueeze(2)

    def shown(self, steps: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """Each step with its neighbours as further channels; beyond an end that end again."""
        if not self.context:
            return steps
        count = steps.shape[1]
        last = torch.tensor([count]) if lengths is None else lengths
        last = (last - 1).to(steps.device)[:, None]
        here = torch.arange(count, device=steps.device)[None]
        parts = []
        for offset in range(-self.context, self.context + 1):
            index = torch.minimum((here + offset).clamp(min=0), last)
            if lengths is None:
                parts.append(steps.index_select(1, index[0]))
            else:
                parts.append(torch.stack([one[at] for one, at in zip(steps, index, strict=True)]))
        return torch.cat(parts, dim=2)

    def _of_padded(self, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        count = steps.shape[1]
        there = torch.arange(count)[None] < lengths[:, None]
        seen = self.shown(steps, lengths)[there.to(steps.device)]
        described = self.describe(self._pooled(seen))
        padded = described.new_zeros((*steps.shape[:2], described.shape[-1]))
        padded[there.to(steps.device)] = described
        packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        remembered, _ = pad_packed_sequence(
            self.remember(packed)[0], batch_first=True, total_length=count
        )
        if self.every_step:
            every: torch.Tensor = self.head(remembered)
            return every * there.to(steps.device)[:, :, None]
        of_each = [one[:length] for one, length in zip(remembered, lengths.tolist(), strict=True)]
        return self._of_whole(
            torch.stack([one.mean(dim=0) for one in of_each]),
            torch.stack([one.amax(dim=0) for one in of_each]),
        )

    def _pooled(self, frames: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.look(frames).flatten(2)
        # What is looked for may fill a hundredth of a slice: its mean alone would drown it.
        return torch.cat((maps.mean(dim=2), maps.amax(dim=2)), dim=1)

    def _of_whole(self, mean: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = self.head(torch.cat((mean, most), dim=1))
        return whole


def _convolutions(channels: int, widths: Sequence[int], dims: int) -> nn.Sequential:
    convolution = nn.Conv2d if dims == 2 else nn.Conv3d
    normalised = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
    layers: list[nn.Module] = []
    for old, new in itertools.pairwise((channels, *widths)):
        layers += [convolution(old, new, 3, stride=2, padding=1, bias=False), normalised(new)]
        layers += [nn.ReLU(), convolution(new, new, 3, padding=1, bias=False), normalised(new)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
