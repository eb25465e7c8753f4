"""How a network is trained: numbers that a person sets, each with a default that works."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


class TrainingError(Exception):
    """What was asked for cannot be trained; the message says what is to be changed."""


class Diverged(TrainingError):
    """The loss became no number."""


@dataclass(frozen=True)
class Settings:
    """Of one run of `ai_models.training.loop.train`.

    Attributes
    ----------
    steps
        Changes of the weights, in all.
    batch
        Examples for each, over all processes.
    at_once
        Examples that go through the network together on one device; fewer take less memory and
        give the same step, where the loss is a mean over examples. 0: all of them.
    rate, schedule, warm_up
        Of AdamW: the highest learning rate; how it falls after ``warm_up`` steps of rising.
    first_rate, last_rate
        Where the rate begins to rise, and where ``cosine`` ends. 0: at the first step of as many
        as ``warm_up`` says, and at a hundredth of ``rate``.
    second_beta
        Of AdamW: how long it remembers how large gradients were.
    weight_decay
        Not of biases and normalisations.
    clip_norm
        The longest gradient; longer ones are shortened. 0: none is.
    precision
        ``bf16`` and ``fp16`` by autocast; ``fp16`` with a scaled loss.
    average
        Decay of the running average of the weights that is validated and kept, such as 0.99. 0:
        the weights themselves are.
    seed
        Of everything random: weights, order, augmentation, dropout.
    checkpoint_every, validate_every
        In steps. 0: at the end only.
    watch, best
        Which figure of the validation says which weights are kept, and whether more is better.
    patience
        Validations without a better figure after which training stops. 0: it never does.
    workers
        Processes that prepare examples. 0: this one does.
    """

    steps: int
    batch: int = 2
    at_once: int = 0
    rate: float = 1e-3
    schedule: Literal["cosine", "polynomial", "constant"] = "cosine"
    warm_up: int = 0
    first_rate: float = 0.0
    last_rate: float = 0.0
    second_beta: float = 0.999
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    average: float = 0.0
    seed: int = 20
    checkpoint_every: int = 100
    validate_every: int = 0
    watch: str = ""
    best: Literal["max", "min"] = "max"
    patience: int = 0
    workers: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warm_up:
            if self.first_rate > 0.0:
                return self.first_rate + (self.rate - self.first_rate) * step / self.warm_up
            return self.rate * (step + 1) / self.warm_up
        part = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        if self.schedule == "cosine":
            last = self.last_rate or 0.01 * self.rate
            fallen = 0.5 * (1.0 + math.cos(math.pi * min(part, 1.0)))
            return last + (self.rate - last) * fallen
        if self.schedule == "polynomial":
            return float(self.rate * max(1.0 - part, 0.0) ** 0.9)
        return self.rate
