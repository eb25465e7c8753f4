"""The training loop: the same seed gives the same losses, whether or not the run was killed.

All randomness of a step is a function of the seed and of its number: the order of examples, their
augmentation (an example is asked for by its number in an endless row) and dropout. So a run that
goes on from a checkpoint computes, bit by bit, what it would have computed without the break, on
the same machine with as many threads.

    outcome = train(network, examples, loss_of, Settings(steps=500), folder, validate=validate)
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, default_collate

from ai_models.training.checkpoints import read_checkpoint, write_checkpoint
from ai_models.training.freezing import Frozen
from ai_models.training.settings import Diverged, Settings, TrainingError
from ai_models.training.team import Team
from ai_models.training.tracking import Tracker

Example = dict[str, Any]
Batch = dict[str, Any]
Examples = Callable[[int], Example]
"""The example of a number (0, 1, 2, ...): the same number gives the same example."""
LossOf = Callable[[nn.Module, Batch], torch.Tensor]
"""The mean loss of a batch. It calls the network that it is given."""
Validate = Callable[[nn.Module], Mapping[str, float]]
"""Figures of a network in evaluation mode, by name."""

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
# What may differ in a run that goes on.
_FREE = frozenset({"steps", "at_once", "checkpoint_every", "validate_every", "patience", "workers"})
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Outcome:
    """What a run came to.

    ``losses[i]`` is that of step ``i``; ``validations`` have ``step`` and the figures; ``network``
    holds the best weights (the last ones without validation).
    """

    network: nn.Module
    losses: list[float] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    stopped_early: bool = False


def generator_of(seed: int, number: int) -> np.random.Generator:
    """The random numbers of an example, from the seed of the run and its own number."""
    return np.random.default_rng([seed, number])


def shuffled(count: int, seed: int) -> Callable[[int], int]:
    """Which of ``count`` cases the example of a number shows: each once in every ``count``."""
    epochs: dict[int, Any] = {}

    def chosen(number: int) -> int:
        epoch, place = divmod(number, count)
        if epoch not in epochs:
            epochs.clear()
            epochs[epoch] = np.random.default_rng([seed, 1 << 32, epoch]).permutation(count)
        return int(epochs[epoch][place])

    return chosen


def train(
    network: nn.Module,
    examples: Examples,
    loss_of: LossOf,
    settings: Settings,
    folder: Path,
    *,
    validate: Validate | None = None,
    trackers: Sequence[Tracker] = (),
    team: Team | None = None,
    collate: Callable[[list[Example]], Batch] = default_collate,
    resume: bool = True,
    frozen: Frozen | None = None,
) -> Outcome:
    """Train ``network`` in place, with checkpoints in ``folder``; goes on from one that is there.

    What is ``frozen`` does not learn in the first steps.

    Raises
    ------
    TrainingError
        The loss is no number; the settings cannot be met; the checkpoint is of other settings.
    """
    run = _Run(network, loss_of, settings, folder, team or Team(), collate)
    run.frozen = frozen
    folder.mkdir(parents=True, exist_ok=True)
    if resume and (folder / CHECKPOINT).exists():
        run.restore()
        for tracker in trackers:
            tracker.rewind(run.step)
    for numbers, batches in run.batches(examples):
        if run.outcome.stopped_early:
            break
        rate = settings.rate_at(run.step)
        loss = run.descend(numbers, batches, rate)
        run.step += 1
        run.outcome.losses.append(loss)
        _tell(trackers, run, {"loss": loss, "rate": rate})
        is_last = run.step == settings.steps
        if validate is not None and _is_due(run.step, settings.validate_every, is_last):
            _tell(trackers, run, run.validated(validate))
        if _is_due(run.step, settings.checkpoint_every, is_last or run.outcome.stopped_early):
            run.save()
    if run.team.is_first:
        run.keep_best()
    return run.outcome


def _is_due(step: int, every: int, is_last: bool) -> bool:
    return is_last or (every > 0 and step % every == 0)


def _tell(trackers: Sequence[Tracker], run: _Run, values: Mapping[str, float]) -> None:
    if run.team.is_first:
        for tracker in trackers:
            tracker.scalars(run.step, run.settings.steps, values)


class _Numbered(Dataset[Example]):
    """Examples by number, for worker processes."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitem__(self, number: int) -> Example:
        return self.examples(number)


class _Run:
    """A run with all that a checkpoint keeps of it."""

    def __init__(
        self, network: nn.Module, loss_of: LossOf, settings: Settings, folder: Path, team: Team,
        collate: Callable[[list[Example]], Batch],
    ) -> None:
        if settings.batch % team.size:
            raise TrainingError(
                f"a batch of {settings.batch} cannot be shared by {team.size} processes"
            )
        self.loss_of, self.settings, self.folder, self.team = loss_of, settings, folder, team
        self.collate = collate
        self.network = network.to(team.device)
        self.together: nn.Module = self.network
        if team.size > 1:
            self.together = nn.parallel.DistributedDataParallel(self.network)
        self.optimiser = torch.optim.AdamW(
            _groups(network, settings.weight_decay), settings.rate, (0.9, settings.second_beta)
        )
        self.kind = torch.device(team.device).type
        self.scaler = torch.amp.GradScaler(self.kind, enabled=settings.precision == "fp16")
        self.average = copy.deepcopy(self.network).eval() if settings.average else None
        self.step = 0
        self.outcome = Outcome(network)
        self.best, self.waited = math.nan, 0
        self.frozen: Frozen | None = None

    def batches(self, examples: Examples) -> Iterator[tuple[int, list[Batch]]]:
        """For every step left: how many examples this process has, and these in batches."""
        mine = self.settings.batch // self.team.size
        at_once = min(self.settings.at_once or mine, mine)
        starts = range(self.step * self.settings.batch, self.settings.steps * self.settings.batch,
                       self.settings.batch)
        numbers = [
            list(range(start + self.team.rank + first * self.team.size,
                       start + min(first + at_once, mine) * self.team.size, self.team.size))
            for start in starts for first in range(0, mine, at_once)
        ]
        loader: DataLoader[Example] = DataLoader(
            _Numbered(examples), batch_sampler=numbers, num_workers=self.settings.workers,
            collate_fn=self.collate, pin_memory=self.kind == "cuda",
        )
        parts = iter(loader)
        per_step = math.ceil(mine / at_once)
        sizes = iter(numbers)
        for _ in starts:
            weights = [len(one) for one in itertools.islice(sizes, per_step)]
            batches = [
                {**_to(batch, self.team.device), "share": weight / mine}
                for weight, batch in zip(weights, itertools.islice(parts, per_step), strict=True)
            ]
            yield mine, batches

    def descend(self, examples: int, batches: Sequence[Batch], rate: float) -> float:
        """One change of the weights; returns the mean loss of its examples over all processes."""
        torch.manual_seed(_mixed(self.settings.seed, self.step, self.team.rank))
        self.together.train()
        frozen = self.frozen if self.frozen is not None and self.frozen.holds(self.step) else None
        if frozen is not None:
            frozen.rest(self.network)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.team.device)
        half = _AUTOCAST.get(self.settings.precision)
        for batch in batches:
            share = batch.pop("share")
            with torch.autocast(self.kind, dtype=half, enabled=half is not None):
                loss = self.loss_of(self.together, batch) * share
            self.scaler.scale(loss).backward()
            total += loss.detach().float()
        value = float(self.team.mean(total))
        if not math.isfinite(value):
            raise Diverged(
                f"the loss is {value} at step {self.step + 1}: a lower rate, bf16 in place of "
                "fp16, or values in the input that are no numbers"
            )
        if frozen is not None:
            frozen.forget(self.network)
        self.scaler.unscale_(self.optimiser)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            _average_into(self.average, self.network, self.settings.average, self.step)
        return value

    def validated(self, validate: Validate) -> dict[str, float]:
        """Figures of the kept weights; notes the best, and whether to stop."""
        chosen = self.average if self.average is not None else self.network
        figures: dict[str, float] = {}
        if self.team.is_first:
            chosen.eval()
            with torch.no_grad():
                figures = {name: float(value) for name, value in validate(chosen).items()}
            self.outcome.validations.append({"step": self.step, **figures})
        watch = self.settings.watch or next(iter(figures), "")
        if self.team.is_first and watch not in figures:
            raise TrainingError(f"{watch} is watched, and validation gives {', '.join(figures)}")
        value, = self.team.told_by_first([figures.get(watch, math.nan)])
        better = value > self.best if self.settings.best == "max" else value < self.best
        if better or (math.isnan(self.best) and not math.isnan(value)):
            self.best, self.waited, self.outcome.best_step = value, 0, self.step
            if self.team.is_first:
                write_checkpoint(self.folder / BEST,
                                 {"step": self.step, "network": chosen.state_dict()})
        else:
            self.waited += 1
        self.outcome.stopped_early = 0 < self.settings.patience <= self.waited
        return {f"validation/{name}": value for name, value in figures.items()}

    def save(self) -> None:
        """Write the checkpoint, from the first process."""
        if not self.team.is_first:
            return
        write_checkpoint(self.folder / CHECKPOINT, {
            "settings": json.dumps(asdict(self.settings), sort_keys=True),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": torch.tensor(self.outcome.losses, dtype=torch.float64),
            "validations": json.dumps(self.outcome.validations),
            "best": self.best,
            "best_step": self.outcome.best_step,
            "waited": self.waited,
            "stopped_early": self.outcome.stopped_early,
        })

    def restore(self) -> None:
        """Go on from the checkpoint."""
        content = read_checkpoint(self.folder / CHECKPOINT)
        try:
            self._restore(content)
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise TrainingError(
                f"{self.folder / CHECKPOINT} is of another training ({type(error).__name__}); "
                "begin anew (--anew)"
            ) from error

    def _restore(self, content: Mapping[str, Any]) -> None:
        # Of settings that are newer than the run it had what holds without them.
        usual = asdict(Settings(steps=self.settings.steps))
        before, now = usual | json.loads(content["settings"]), asdict(self.settings)
        changed = sorted(k for k in now if k not in _FREE and before[k] != now[k])
        if changed:
            raise TrainingError(
                f"{self.folder / CHECKPOINT} was made with another {', '.join(changed)}; "
                "set it back, or begin anew in an empty folder"
            )
        self.network.load_state_dict(content["network"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        if content["scaler"]:
            self.scaler.load_state_dict(content["scaler"])
        self.step = int(content["step"])
        self.outcome.losses = content["losses"].tolist()
        self.outcome.validations = json.loads(content["validations"])
        self.outcome.best_step = int(content["best_step"])
        self.outcome.stopped_early = bool(content["stopped_early"])
        self.best, self.waited = float(content["best"]), int(content["waited"])

    def keep_best(self) -> None:
        """Put the best weights, or the last, into the network."""
        if self.outcome.best_step:
            state = read_checkpoint(self.folder / BEST)["network"]
            self.network.load_state_dict(state)
        elif self.average is not None:
            self.network.load_state_dict(self.average.state_dict())
        self.network.eval()


def descend_once(
    network: nn.Module, optimiser: torch.optim.Optimizer, loss_of: LossOf, batch: Batch,
    rate: float, settings: Settings, device: str,
) -> float:
    """One step at a rate, outside of a run; returns the loss, whatever it is."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    half = _AUTOCAST.get(settings.precision)
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=half, enabled=half is not None):
        loss = loss_of(network, _to(batch, device))
    loss.backward()
    if settings.clip_norm:
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
    optimiser.step()
    return float(loss.detach())


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases and what normalises do not."""
    trained = [one for one in network.parameters() if one.requires_grad]
    if not trained:
        raise TrainingError("no weight of the network may change")
    return [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]


def _mixed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


@torch.no_grad()
def _average_into(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Running average; early it follows the network faster, or it would stay at the start."""
    share = 1.0 - min(decay, (step + 1.0) / (step + 10.0))
    theirs = network.state_dict()
    for name, ours in average.state_dict().items():
        if ours.is_floating_point():
            ours.lerp_(theirs[name], share)
        else:
            ours.copy_(theirs[name])


def _to(value: Any, device: str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: _to(one, device) for name, one in value.items()}
    if isinstance(value, list):
        return [_to(one, device) for one in value]
    return value
