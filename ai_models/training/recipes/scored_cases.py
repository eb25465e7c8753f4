"""Train and measure a network that scores whole examinations, on phantoms that a recipe draws.

Inputs go to training by the very steps that the card asks for when the model is run
(`ai_models.prediction.preparing`), so what is learned is what is seen later. What is measured is
measured with `ai_models.predictor`, on phantoms of seeds of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ai_models.backends.architectures import build
from ai_models.card import Card, ClassificationCard, load_card
from ai_models.card_outputs import Calibration
from ai_models.catalog import ZOO
from ai_models.predictor import Predictor
from ai_models.training.loop import Example, Outcome, train
from ai_models.training.metrics import auc
from ai_models.training.recipes.case_examples import (
    VALIDATED_ON,
    Case,
    Recipe,
    cached,
    examples,
)
from ai_models.training.recipes.scored_figures import (
    Row,
    balanced_error,
    calibration_of,
    figures_of,
    with_calibrations,
)
from ai_models.training.recipes.turned_series import on_turned_grid
from ai_models.training.tracking import Terminal
from ai_models.types import ClassificationPrediction, FloatArray

_EVALUATION = ("calibration", "measured", "held_back")


def validate_on(
    folder: Path, recipe: Recipe, card: Card
) -> Callable[[torch.nn.Module], Mapping[str, float]]:
    """AUC of every score on phantoms that training does not see, and their mean."""
    kept = [cached(folder, VALIDATED_ON + i, recipe, card) for i in range(recipe.validated)]

    def validate(learner: torch.nn.Module) -> Mapping[str, float]:
        scores = np.array([_scores(inner(learner), one) for one in kept])
        truth = np.array([one["truth"] for one in kept])
        figures = {
            f"auc of {name}": auc(truth[:, i].tolist(), scores[:, i].tolist())
            for i, name in enumerate(card.output_names)
        }
        return {"auc": float(np.mean(list(figures.values()))), **figures}

    return validate


def inner(learner: torch.nn.Module) -> torch.nn.Module:
    """The network alone, without what only training needs."""
    network = learner.network
    if not isinstance(network, torch.nn.Module):
        raise TypeError("a learner has the network as its part")
    return network


def _scores(network: torch.nn.Module, example: Example) -> FloatArray:
    image = torch.from_numpy(example["image"].astype(np.float32))[None]
    logits = network(image)[0].float()
    return np.asarray((logits.amax(dim=0) if logits.ndim == 2 else logits).numpy())


def trained(recipe: Recipe, card: Card, folder: Path) -> Outcome:
    """Train the network of ``card``; what was begun in ``folder`` goes on."""
    if card.runtime.network is None:
        raise ValueError(f"{card.id} says no runtime.network")
    torch.manual_seed(recipe.settings.seed)
    network = build(card.runtime.network.name, card.runtime.network.arguments)
    cases = folder / "cases"
    return train(
        recipe.learner(network), examples(cases, recipe, card), recipe.loss_of, recipe.settings,
        folder, validate=validate_on(cases, recipe, card), trackers=[Terminal()],
        collate=recipe.collate,
    )


def trained_in_time(
    recipe: Recipe, card: Card, folder: Path
) -> tuple[Outcome, dict[str, float]]:
    """`trained`, and ``seconds`` and ``processor_seconds`` of all runs that were not killed."""
    path = folder / "spent.json"
    spent = {"seconds": 0.0, "processor_seconds": 0.0}
    if path.exists():
        spent.update(json.loads(path.read_text()))
    started, computed = time.perf_counter(), time.process_time()
    outcome = trained(recipe, card, folder)
    spent["seconds"] = round(spent["seconds"] + time.perf_counter() - started, 1)
    spent["processor_seconds"] = round(
        spent["processor_seconds"] + time.process_time() - computed, 1
    )
    path.write_text(json.dumps(spent) + "\n")
    return outcome, spent


def write_weights(network: torch.nn.Module, path: Path) -> str:
    """As safetensors; returns their SHA-256."""
    from safetensors.torch import save_file

    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written_card(text: str, sha256: str, validated_on: str, metrics: Sequence[Mapping[str, Any]]
                 ) -> str:
    """The card of another training: its digest, and what was measured."""
    lines = [
        "  metrics:" if metrics else "  metrics: []",
        *(f"    - {{name: {json.dumps(one['name'])}, value: {one['value']}, "
          f"measured_on: {json.dumps(one['measured_on'])}}}" for one in metrics),
    ]
    evidence = f"evidence:\n  validated_on: >-\n    {validated_on}\n" + "\n".join(lines) + "\n"
    text = re.sub(r"(?ms)^evidence:\n.*?(?=^\w)", lambda _: evidence, text)
    # Of the weights: a monitor has a digest of its own.
    return re.sub(
        r'(?ms)^(weights:\n(?:  [^\n]*\n)*?  sha256: )"[0-9a-f]{64}"',
        lambda found: f'{found[1]}"{sha256}"', text,
    )


def calibrated(
    card: Card, record: dict[str, Any], cases: Iterable[tuple[int, Case]]
) -> Card:
    """The card with bias and temperature of every score, by ``cases`` of their own.

    What was found is told in ``record``.
    """
    path = card.folder / "model.yaml"
    plain = with_calibrations(path.read_text(), dict.fromkeys(card.output_names, Calibration()))
    path.write_text(plain)
    rows = measured(load_card(card.folder), cases)
    found, told = {}, {}
    for name in card.output_names:
        truth, scores = [row.truth[name] for row in rows], [row.scores[name] for row in rows]
        found[name] = calibration_of(truth, scores)
        told[name] = {
            **found[name].model_dump(), "cases": len(rows), "positive": int(sum(truth)),
            "calibration_error_before": round(balanced_error(truth, scores), 4),
        }
    record["calibration"] = told
    path.write_text(with_calibrations(plain, found))
    return load_card(card.folder)


def turned_by(degrees: float, cases: Iterable[tuple[int, Case]]) -> Iterator[tuple[int, Case]]:
    """The same patients on grids that lie oblique in them, each about an axis of its own."""
    for seed, case in cases:
        axis = np.random.default_rng((seed, 19)).normal(0.0, 1.0, 3)
        turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
        source, _ = on_turned_grid(case.source, None, np.asarray(turn))
        yield seed, replace(case, source=source, mask=None, slices=None)


def straight_and_turned(
    rows: Sequence[Row], turned: Sequence[Row], name: str
) -> dict[str, Any]:
    """What becomes of the score of a patient whose series lies oblique."""
    straight = {row.seed: row.scores[name] for row in rows}
    apart = [abs(row.scores[name] - straight[row.seed]) for row in turned]
    return {
        **{key: one for key, one in figures_of(turned, name).items() if key != "auc_by"},
        "median_difference": round(float(np.median(apart)), 4),
        "largest_difference": round(float(np.max(apart)), 4),
    }


def answering_always(card: Card) -> Card:
    """The same model, telling its scores also without the companions that they need."""
    if not isinstance(card, ClassificationCard):
        raise TypeError(f"{card.id} is a {card.task}")
    scores = [one.model_copy(update={"needs": []}) for one in card.output.scores]
    return card.model_copy(update={"output": card.output.model_copy(update={"scores": scores})})


def answering_oblique(card: Card) -> Card:
    """The same model, answering also where its card calls a series too oblique."""
    entry = card.input.model_copy(update={"max_tilt_deg": None})
    return card.model_copy(update={"input": entry})


def measured(card: Card, cases: Iterable[tuple[int, Case]]) -> list[Row]:
    """What the model says of these cases, by the way every input goes."""
    # Where it looked is not asked: that takes longer than the answer.
    predictor = Predictor(card.model_copy(update={"explanation": None}))
    predictor.load()
    rows = []
    try:
        for seed, case in cases:
            answer = predictor.predict(case.source)
            if not isinstance(answer, ClassificationPrediction):
                raise TypeError(f"{card.id} is a {card.task}")
            slices: list[tuple[float, float]] = []
            if case.slices is not None:
                said = answer.by_slice[card.output_names[0]]
                slices = [
                    (float(truth), round(float(score), 4))
                    for truth, score in zip(case.slices, said, strict=True) if truth >= 0
                ]
            scores = {name: round(score, 5) for name, score in answer.scores.items()}
            rows.append(Row(seed, scores, case.truth, case.about, tuple(slices)))
    finally:
        predictor.close()
    return rows


def run_as_asked(
    recipe: Recipe, description: str | None, arguments: Sequence[str] | None
) -> tuple[Card, dict[str, Any]]:
    """`run` by the command line that every recipe has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--card", type=Path, default=ZOO, help="folder with the folder of the card")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=recipe.settings.steps)
    parser.add_argument(
        "--measure", action="store_true",
        help="train nothing: calibrate and measure the weights that are with the card",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.measure:
        return trained_before(recipe, options.output, options.card)
    asked = replace(recipe, settings=replace(recipe.settings, steps=options.steps))
    return run(asked, options.output, options.card)


def trained_before(recipe: Recipe, output: Path, zoo: Path) -> tuple[Card, dict[str, Any]]:
    """The folder of a model that is there, copied to ``output``, and what its training came to."""
    folder = output / recipe.model_id
    shutil.copytree(zoo / recipe.model_id, folder, dirs_exist_ok=True)
    record = json.loads((folder / "training.json").read_text())
    for measured_then in _EVALUATION:
        record.pop(measured_then, None)
    return load_card(folder), record


def run(recipe: Recipe, output: Path, zoo: Path) -> tuple[Card, dict[str, Any]]:
    """Train, write the folder of the model without its figures, and open its card."""
    before = load_card(zoo / recipe.model_id)
    outcome, spent = trained_in_time(recipe, before, output / "run")
    folder = output / recipe.model_id
    folder.mkdir(parents=True, exist_ok=True)
    network = inner(outcome.network)
    sha256 = write_weights(network, folder / "weights.safetensors")
    text = (zoo / recipe.model_id / "model.yaml").read_text()
    if before.monitor is not None and before.monitor.reference is not None:
        # Of the input: it stays as it is when the network learns anew.
        name = before.monitor.reference
        shutil.copyfile(zoo / recipe.model_id / name, folder / name)
    (folder / "model.yaml").write_text(written_card(text, sha256, "not measured yet", []))
    every = max(1, len(outcome.losses) // 60)
    record = {
        "model": recipe.model_id,
        "command": recipe.command,
        "data": recipe.data,
        "phantoms": {
            "trained_on": recipe.cases, "chosen_by": recipe.validated,
            "held_back": recipe.held_back,
        },
        "settings": dict(vars(recipe.settings)),
        "parameters": sum(one.numel() for one in network.parameters()),
        "weights_sha256": sha256,
        **spent,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "best_step": outcome.best_step,
        "losses": {
            str(i): round(float(np.mean(outcome.losses[max(0, i - every + 1) : i + 1])), 4)
            for i in range(every - 1, len(outcome.losses), every)
        },
        "validations": outcome.validations,
    }
    return load_card(folder), record


def finish(
    card: Card, record: Mapping[str, Any], validated_on: str, metrics: Sequence[Mapping[str, Any]]
) -> None:
    """Write what was measured into the card and beside it.

    ``training.json`` says how the weights came about, ``evaluation.json`` by what the scores were
    calibrated, and what was measured of whom.
    """
    path = card.folder / "model.yaml"
    text = written_card(path.read_text(), str(record["weights_sha256"]), validated_on, metrics)
    path.write_text(text)
    told = {name: record[name] for name in _EVALUATION if name in record}
    told = {"model": card.id, "weights_sha256": record["weights_sha256"], **told}
    rest = {name: one for name, one in record.items() if name not in _EVALUATION}
    for name, one in (("training.json", rest), ("evaluation.json", told)):
        (card.folder / name).write_text(json.dumps(one, indent=1) + "\n")
    load_card(card.folder)


def metric(name: str, figure: Mapping[str, float | None], measured_on: str) -> dict[str, Any]:
    """One line of a card from a figure with its interval."""
    low, high = figure["low"], figure["high"]
    known = low is not None and high is not None
    interval = f"95 % interval {low:.3f} to {high:.3f}" if known else "too few for an interval"
    where = f"{measured_on}; {interval}"
    return {"name": name, "value": round(float(figure["value"] or 0.0), 3), "measured_on": where}


def called(
    figures: Mapping[str, Any], measured_on: str, of: str = ""
) -> list[dict[str, Any]]:
    """Lines of a card on what the report says, as `figures_of` counted it; ``of`` which score."""
    lines = {
        f"Sensitivity at 0.5{of}": "sensitivity_at_0.5",
        f"Specificity at 0.5{of}": "specificity_at_0.5",
        f"Sensitivity of 'present' (0.7){of}": "sensitivity_of_present",
        f"Specificity of 'present' (0.7){of}": "specificity_of_present",
        f"Missed, 'absent' (below 0.3){of}": "positives_called_absent",
        f"Calibration error{of}": "calibration_error",
    }
    return [metric(name, figures[key], measured_on) for name, key in lines.items()]
