"""The arguments of a training, and what becomes of them: the same for the node and without it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_models.training.cases import DicomReader
    from ai_models.training.drafting_backbones import Beginning
    from ai_models.training.recipe import Recipe
    from ai_models.training.tracking import Tracker

TASK_WORDS = ("segment", "detect", "classify", "regress")
PRECISIONS = ("fp32", "bf16", "fp16")
_EPILOG = (
    "The first run without a recipe writes one from the data (DIR/recipe.yaml) and stops, so that "
    "it can be looked at: then give it as RECIPE. A run that was broken off goes on where it was, "
    "with the same command. On several GPUs: torchrun --nproc-per-node N -m dicom_node train ..."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.epilog = _EPILOG
    parser.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE",
                        help="a YAML file with the card of the model to come and how it is trained")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH",
                        help="a table (.csv), a folder of NIfTI images and labels, or of DICOM "
                             "series with Segmentations")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
                        help="the model goes to DIR/model, checkpoints and the log to DIR/run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
                        help="change one value of the recipe, such as training.rate=0.0003")
    parser.add_argument("--steps", type=int, metavar="N", help="training.steps")
    parser.add_argument("--rate", type=float, metavar="R", help="training.rate")
    parser.add_argument("--batch", type=int, metavar="N", help="training.batch")
    parser.add_argument("--precision", choices=PRECISIONS, help="training.precision")
    parser.add_argument("--seed", type=int, metavar="N", help="training.seed")
    parser.add_argument("--device", metavar="D", help="cpu or cuda:<n> (default: a GPU if any)")
    parser.add_argument("--find-rate", action="store_true",
                        help="try learning rates, print the curve and the best, and stop")
    parser.add_argument("--tensorboard", action="store_true",
                        help="write figures for TensorBoard to DIR/tensorboard")
    parser.add_argument("--mlflow", metavar="ADDRESS",
                        help="tell figures to MLflow: a server, or sqlite:///FILE")
    parser.add_argument("--anew", action="store_true", help="do not go on from a checkpoint")
    draft = parser.add_argument_group("a first recipe")
    draft.add_argument("--task", choices=TASK_WORDS, help="what is to be learned")
    draft.add_argument("--id", metavar="ID", help="of the model (default: by the name of DIR)")
    draft.add_argument("--labels", metavar="NAMES",
                       help="of labels, scores or quantities, separated by commas, where the data "
                            "do not say them")
    draft.add_argument("--modality", metavar="M", help="such as CT, MR or CR,DX")
    draft.add_argument("--network", metavar="NAME", help="such as monai.SegResNet")
    draft.add_argument("--backbone", metavar="NAME",
                       help="in place of a network: a classifier of images, such as resnet18")
    draft.add_argument("--pretrained", type=Path, metavar="FILE",
                       help="weights that it begins with: RadiologyNET's .pth, or torchvision's")
    draft.add_argument("--pretrained-by", metavar="WHO",
                       help="radiologynet, imagenet or other, where the file does not tell")
    draft.add_argument("--arguments", metavar="JSON", help="of its constructor")


def run_command(arguments: argparse.Namespace, reader: DicomReader | None) -> int:
    """Draft a recipe, find a rate, or train; the exit code.

    Raises
    ------
    TrainingError, ModelError
        The message says what is to be changed.
    """
    if arguments.recipe is None:
        return _draft(arguments, reader)
    _check_of_draft(arguments)
    from ai_models.training.team import default_device, joined_team
    from ai_models.training.training_run import Plan, find_learning_rate, train_model

    recipe = _recipe(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with joined_team(arguments.device or default_device()) as team:
        trackers = _trackers(arguments, recipe) if team.is_first else ()
        plan = Plan(recipe, arguments.recipe.absolute().parent, arguments.data, arguments.output,
                    reader, team, trackers, not arguments.anew, tell=_tell_waiting)
        if arguments.find_rate:
            curve = find_learning_rate(plan)
            for rate, loss in zip(curve.rates, curve.losses, strict=True):
                print(f"rate {rate:.2e}  loss {loss:.4f}")
            found = curve.suggested
            print("the loss never fell" if found is None
                  else f"it fell fastest at {found:.2e}: --rate {found:.1e}")
            return 0 if found is not None else 1
        folder = train_model(plan)
        if team.is_first:
            _tell(folder)
    return 0


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from ai_models.training.recipe import read_recipe

    names = ("steps", "rate", "batch", "precision", "seed")
    changes = [f"training.{name}={value}" for name in names
               if (value := getattr(arguments, name)) is not None]
    return read_recipe(arguments.recipe, [*arguments.changes, *changes])


def _check_of_draft(arguments: argparse.Namespace) -> None:
    """Refuse what only a first recipe takes, where leaving it aside would train something else."""
    from ai_models.training.settings import TrainingError

    for name in ("backbone", "pretrained", "pretrained_by"):
        if getattr(arguments, name) is not None:
            raise TrainingError(
                f"--{name.replace('_', '-')} is for a first recipe: this one says it itself "
                "(card.runtime.network, training.pretrained)"
            )


def _beginning(arguments: argparse.Namespace) -> Beginning | None:
    from ai_models.training.drafting_backbones import Beginning
    from ai_models.training.settings import TrainingError

    if arguments.backbone is None:
        if arguments.pretrained is not None:
            raise TrainingError("--pretrained: --backbone says of which network")
        return None
    if arguments.network is not None or arguments.arguments is not None:
        raise TrainingError("--backbone or --network: one of the two")
    return Beginning(arguments.backbone, arguments.pretrained, arguments.pretrained_by)


def _trackers(arguments: argparse.Namespace, recipe: Recipe) -> tuple[Tracker, ...]:
    from ai_models.training.tracking import Mlflow, TensorBoard, Terminal

    trackers: list[Tracker] = [Terminal()]
    if arguments.tensorboard:
        trackers.append(TensorBoard(arguments.output / "tensorboard"))
    if arguments.mlflow:
        trackers.append(Mlflow(arguments.mlflow, str(recipe.card.get("id", "training"))))
    return tuple(trackers)


def _draft(arguments: argparse.Namespace, reader: DicomReader | None) -> int:
    from ai_models.scaffold.draft import Wishes
    from ai_models.training.drafting import TASKS, draft_recipe
    from ai_models.training.settings import TrainingError

    if arguments.task is None:
        raise TrainingError(f"a RECIPE, or --task ({', '.join(TASK_WORDS)}) for a first one")
    try:
        given = json.loads(arguments.arguments or "{}")
    except ValueError as error:
        raise TrainingError(f"--arguments is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise TrainingError('--arguments: an object expected, as {"strides": [2, 2]}')
    names = tuple(one.strip() for one in (arguments.labels or "").split(",") if one.strip())
    name = re.sub(r"[^a-z0-9]+", "-", arguments.output.absolute().name.lower()).strip("-")
    wishes = Wishes(arguments.id or name[:64].strip("-") or "new-model", TASKS[arguments.task],
                    arguments.modality, names, arguments.network, given)
    if (arguments.output / "recipe.yaml").exists():
        raise TrainingError(
            f"{arguments.output / 'recipe.yaml'} is there already: train with it, or name another "
            "output"
        )
    path = draft_recipe(arguments.data, wishes, arguments.output, reader, _beginning(arguments))
    marked = path.read_text(encoding="utf-8").count("# check:")
    print(f"written: {path}, with {marked} lines to check, marked \"# check:\"")
    print(f"next: edit it, then  dicom-node train {path} --data {arguments.data} "
          f"--output {arguments.output}")
    return 0


def _tell_waiting(text: str) -> None:
    """What takes a while, beside the lines of the loss."""
    print(text, file=sys.stderr, flush=True)


def _tell(folder: Path) -> None:
    """What the test found, for a person."""
    from ai_models.training.release import interval_text

    record = json.loads((folder / "training.json").read_text())
    print(f"written: {folder}: model.yaml, weights, training.json")
    test = record["test"]
    if test is None:
        print("no patient was held back for a test: the model is not validated")
        return
    print(f"on {test['cases']} held-back cases of {test['patients']} patients:")
    for name, one in test["figures"].items():
        if one["value"] is None:
            print(f"  {name}: cannot be had of these cases: {one['why']}")
        else:
            print(f"  {name}: {one['value']:.3f}, {interval_text(one)}")
    sys.stdout.flush()
