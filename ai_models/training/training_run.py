"""From a recipe and data to a model folder: the story of one training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import distributed, nn

from ai_models.card import Card, load_card
from ai_models.prediction.cropping import Cropper
from ai_models.predictor import Predictor
from ai_models.training.cases import Case, DicomReader, Part, find_cases, split_by_patient
from ai_models.training.checkpoints import only_one_in
from ai_models.training.examples import CaseExamples, together
from ai_models.training.freezing import Frozen, frozen_encoder
from ai_models.training.loop import Outcome, train
from ai_models.training.losses import loss_for
from ai_models.training.measuring import figures_of, measured, summary
from ai_models.training.memory_network import measured_card, predictor_of
from ai_models.training.prepared import CaseStore
from ai_models.training.pretrained import Pretrained, begin, words_on
from ai_models.training.rate_finder import RateCurve, find_rate
from ai_models.training.recipe import Recipe
from ai_models.training.release import (
    NOT_TESTED,
    RECORD,
    built_network,
    counted,
    environment,
    evidence_of,
    remove_others,
    write_model,
    write_onnx,
    write_record,
)
from ai_models.training.settings import TrainingError
from ai_models.training.team import Team
from ai_models.training.tracking import LogFile, Tracker

MODEL, RUN, KEPT = "model", "run", "kept"
# More cases make a validation slow, and choose no better weights.
_MOST_VALIDATED = 40
# A line for a person who waits, so often.
_TOLD_EVERY_S = 10.0


def _nobody(_: str) -> None:
    """Where nobody waits before a terminal."""


@dataclass(frozen=True)
class Plan:
    """What is trained, on what, and where to.

    Attributes
    ----------
    recipe, beside
        What and how; ``beside`` is the folder of its file, where a report template may lie.
    data
        A folder or a table of cases.
    output
        ``model`` is made in it, and ``run`` with checkpoints and the log.
    reader
        Of DICOM, by the node.
    trackers
        Who is told of the figures besides the log.
    tell
        Takes a line of what is done now, where that may take minutes.
    """

    recipe: Recipe
    beside: Path
    data: Path
    output: Path
    reader: DicomReader | None = None
    team: Team = field(default_factory=Team)
    trackers: tuple[Tracker, ...] = ()
    resume: bool = True
    tell: Callable[[str], None] = _nobody


@dataclass
class _Ready:
    card: Card
    network: nn.Module
    parts: Mapping[Part, Sequence[Case]]
    examples: CaseExamples
    store: CaseStore
    environment: Mapping[str, Any]
    pretrained: Pretrained | None
    frozen: Frozen | None
    began: float = field(default_factory=time.monotonic)


def train_model(plan: Plan) -> Path:
    """Train, choose the best weights, test them on held-back patients and write the model.

    Returns the model's folder.

    Raises
    ------
    TrainingError
        The recipe or the data cannot be used, or training diverged.
    ModelError
        There is no such architecture, or the network answers off its card.
    """
    plan.output.mkdir(parents=True, exist_ok=True)
    with only_one_in(plan.output) if plan.team.is_first else nullcontext():
        return _train_model(plan)


def _train_model(plan: Plan) -> Path:
    ready = _prepared(plan)
    settings = plan.recipe.training.settings(ready.card.task)
    validated = ready.parts["validation"][:_MOST_VALIDATED]
    trackers = (*plan.trackers, LogFile(plan.output / RUN / "log.jsonl"))
    (plan.output / RUN).mkdir(parents=True, exist_ok=True)
    if not plan.resume and plan.team.is_first:
        for old in (plan.output / RUN).iterdir():
            old.unlink()
    _together(plan.team)

    cropper = Cropper(ready.card, plan.team.device)

    def validate(network: nn.Module) -> Mapping[str, float]:
        predictor = predictor_of(network, ready.card, plan.team.device, cropper)
        results = measured(_one_by_one(validated, "validation", plan), ready.card, predictor,
                           plan.reader, quick=True)
        return {name: figure(results) for name, figure in figures_of(ready.card, results).items()}

    try:
        # Once, and not with each validation.
        cropper.load()
        outcome = train(
            ready.network, ready.examples, loss_for(ready.card, plan.recipe.training.loss),
            settings, plan.output / RUN, validate=validate if validated else None,
            trackers=trackers, team=plan.team, collate=together, resume=plan.resume,
            frozen=ready.frozen,
        )
    finally:
        cropper.close()
        for tracker in trackers:
            tracker.close()
    if plan.team.is_first:
        _release(plan, ready, outcome)
        ready.store.remove()
    _together(plan.team)
    return plan.output / MODEL


def find_learning_rate(plan: Plan) -> RateCurve:
    """Try rates on the training part; nothing of it is kept."""
    ready = _prepared(plan)
    return find_rate(
        ready.network, ready.examples, loss_for(ready.card, plan.recipe.training.loss),
        plan.recipe.training.settings(ready.card.task), device=plan.team.device, collate=together,
    )


def _prepared(plan: Plan) -> _Ready:
    training = plan.recipe.training
    network = built_network(plan.recipe, plan.beside)
    pretrained = begin(plan.recipe, network, plan.beside)
    frozen = None
    if pretrained is not None and training.pretrained is not None:
        frozen = frozen_encoder(network, pretrained, training.pretrained.frozen_steps)
    folder = plan.output / MODEL
    if (folder / RECORD).exists() and plan.resume:
        raise TrainingError(f"{folder} has been trained to its end: name another output")
    if plan.team.is_first:
        write_model(plan.recipe, network, folder, plan.beside)
    _together(plan.team)
    card = load_card(folder)
    # Said before hours of training, not after them.
    loss_for(card, training.loss)
    parts = split_by_patient(
        find_cases(plan.data, card, plan.reader), validation=training.split.validation,
        test=training.split.test, seed=training.seed,
    )
    store = CaseStore(card, plan.output / KEPT, plan.reader)
    window = training.crop or card.runtime.roi
    examples = CaseExamples(
        parts["training"], card, store, training.augmentation, seed=training.seed,
        foreground=training.foreground, window=window,
    )
    ran_on = environment(plan.team.device)
    return _Ready(card, network, parts, examples, store, ran_on, pretrained, frozen)


def _together(team: Team) -> None:
    if team.size > 1:
        distributed.barrier()


def _release(plan: Plan, ready: _Ready, outcome: Outcome) -> None:
    """Write what the network is now, test what was written, and say so in card and record."""
    recipe, folder = plan.recipe, plan.output / MODEL
    network = ready.network.cpu().eval()
    if ready.card.runtime.network is None or not ready.card.runtime.network.folders:
        # What it is built on may be kept in 16 bits, for it takes tens of gigabytes.
        network = network.float()
    write = partial(
        write_model, recipe, network, folder, plan.beside,
        began=words_on(ready.pretrained) if ready.pretrained else "",
    )
    of_torch = write(evidence=NOT_TESTED)
    onnx = write_onnx(network, of_torch, folder)
    backend = recipe.training.serve
    if backend == "onnx" and "left_out" in onnx:
        raise TrainingError(f"training.serve: onnx: {onnx['left_out']}")
    card = write(backend=backend, evidence=NOT_TESTED)
    tested = _tested(card, ready.parts["test"], plan)
    told = evidence_of(tested, card.id)
    card = write(backend=backend, evidence=told)
    remove_others(folder, of_torch, card)
    write_record(folder, {
        "model": {"id": card.id, "version": card.version, "task": card.task},
        "recipe": _told(recipe),
        "pretrained": asdict(ready.pretrained) if ready.pretrained else None,
        "parameters": sum(one.numel() for one in network.parameters()),
        "data": counted(ready.parts),
        "seconds": round(time.monotonic() - ready.began, 1),
        "environment": ready.environment,
        "steps": len(outcome.losses), "best_step": outcome.best_step,
        "stopped_early": outcome.stopped_early,
        "losses": [round(one, 6) for one in outcome.losses],
        "validations": [_plain(one) for one in outcome.validations],
        "onnx": onnx,
        "test": tested,
    })


def _told(recipe: Recipe) -> dict[str, Any]:
    """A recipe as it is kept; of the weights it began with the name, not the folder."""
    told = recipe.model_dump(mode="json")
    if begins := told["training"]["pretrained"]:
        begins["path"] = Path(begins["path"]).name
    return told


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    from math import isfinite

    return {name: value if isfinite(value) else None for name, value in figures.items()}


def _one_by_one(cases: Sequence[Case], what: str, plan: Plan) -> Iterator[Case]:
    """The cases, and now and then a line that says how far one is."""
    told_at = time.monotonic()
    for number, case in enumerate(cases, 1):
        if plan.team.is_first and time.monotonic() - told_at >= _TOLD_EVERY_S:
            told_at = time.monotonic()
            plan.tell(f"{what}: case {number} of {len(cases)}")
        yield case


def _tested(card: Card, cases: Sequence[Case], plan: Plan) -> dict[str, Any] | None:
    """Figures of the model as it was written, by the predictor that the node has."""
    if not cases:
        return None
    plan.tell(f"trained; now the model as it was written answers the {len(cases)} held-back cases")
    predictor = Predictor(measured_card(card), plan.team.device)
    predictor.load()
    try:
        results = measured(_one_by_one(cases, "test", plan), card, predictor, plan.reader)
        return summary(card, results, seed=plan.recipe.training.seed)
    finally:
        predictor.close()
