"""``dicom-node models new SOURCE``: a model folder with a first card, by a look into weights."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import open_config
from dicom_node.cli.output import print_json
from dicom_node.errors import ConfigurationError, ModelFailed

if TYPE_CHECKING:
    from ai_models.scaffold.draft import Draft, Wishes

_TASKS = ("segmentation", "classification", "regression", "detection", "text")
_ON_IMAGES = ("classification", "regression")
_SOURCES = (
    "SOURCE is an ONNX, TorchScript, torch.export (.pt2) or state_dict (.safetensors, .pth) file, "
    "or the folder of nnU-Net, a MONAI bundle or Hugging Face; a model of another host has none."
)


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "new", help="make a model folder with a first card from a file of weights",
        epilog=_SOURCES,
    )
    parser.add_argument("source", type=Path, nargs="?", metavar="SOURCE",
                        help="a file or folder with the weights of a model")
    parser.add_argument("--id", metavar="ID",
                        help="of the card (default: by the name of DIR, or of SOURCE)")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="the folder that is made (default: ./ID)")
    parser.add_argument("--task", choices=_TASKS, help="where it cannot be told from the answers")
    parser.add_argument("--modality", metavar="M", help="such as CT, MR or CR,DX")
    parser.add_argument("--labels", metavar="NAMES",
                        help="names of labels, scores or quantities, in the order of the channels, "
                             "separated by commas, without the background")
    parser.add_argument("--network", metavar="NAME",
                        help="of a state_dict: its architecture, such as monai.SegResNet")
    parser.add_argument("--arguments", metavar="JSON",
                        help='of a state_dict: its constructor\'s, as {"strides": [2, 2]}')
    parser.add_argument("--endpoint", metavar="NAME",
                        help="a key of models.endpoints in the settings: that host serves it")
    parser.add_argument("--model", metavar="M", help="with --endpoint: as that host calls it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say what was found, what was assumed and what is to be checked."""
    from ai_models.scaffold.folder import to_check, write_folder
    from ai_models.types import ModelError

    wrong = _wrong_use(arguments)
    if wrong:
        raise ConfigurationError(wrong)
    wishes = _wishes(arguments)
    folder = (arguments.output or Path(wishes.model_id)).absolute()
    try:
        draft = _draft(arguments, wishes)
        card = write_folder(draft, folder, _own_report(draft))
    except ModelError as error:
        raise ModelFailed(str(error), reason=error.reason) from error
    marked = to_check(card, draft)
    if arguments.json:
        print_json({
            "folder": str(folder), "id": card.id, "task": card.task,
            "backend": card.runtime.backend, "found": draft.found, "hints": draft.hints,
            "check": [vars(one) for one in marked],
        })
        return 0
    print(f"written: {_shown(folder)}/model.yaml, a {card.task} by {card.runtime.backend}")
    print(f"id: {card.id} (the name in rules; change it with --id)")
    for line in draft.found:
        print(f"  {line}")
    print(f"to check, marked in the card by \"# check:\" ({len(marked)}):")
    for one in marked:
        print(f"  line {one.line:3d}  {one.key_path}: {one.why}")
    for hint in draft.hints:
        print(f"note: {hint}")
    print(f"next: edit it, then  dicom-node models verify {_shown(folder)}")
    return 0


def _wrong_use(arguments: argparse.Namespace) -> str:
    """What cannot be meant; empty when all can."""
    if (arguments.source is None) == (arguments.endpoint is None):
        return "models new takes a SOURCE, or --endpoint and --model"
    if (arguments.endpoint is None) != (arguments.model is None):
        return "--endpoint and --model go together"
    if arguments.id is not None and not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", arguments.id):
        return f"--id {arguments.id}: small letters, digits and - expected"
    return ""


def _wishes(arguments: argparse.Namespace) -> Wishes:
    from ai_models.scaffold.draft import Wishes

    try:
        given = json.loads(arguments.arguments or "{}")
    except ValueError as error:
        raise ConfigurationError(f"--arguments is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise ConfigurationError('--arguments: an object expected, as {"strides": [2, 2]}')
    names = tuple(one.strip() for one in (arguments.labels or "").split(",") if one.strip())
    return Wishes(
        arguments.id or _id_of(_name_of(arguments)),
        arguments.task, arguments.modality, names, arguments.network, given,
    )


def _name_of(arguments: argparse.Namespace) -> str:
    """What the model is called by: its folder, as far as one is named, or its source."""
    if arguments.output is not None:
        return str(arguments.output.resolve().name)
    return str(arguments.model or arguments.source.resolve().name)


def _id_of(name: str) -> str:
    stem = re.sub(r"\.(onnx|ts|pt|pt2|pth|safetensors)$", "", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:64].strip("-") or "new-model"


def _draft(arguments: argparse.Namespace, wishes: Wishes) -> Draft:
    from ai_models.scaffold.source import draft_of_endpoint, draft_of_source

    if arguments.source is not None:
        return draft_of_source(arguments.source, wishes)
    from dicom_node.node_models import site_of

    site = site_of(open_config(arguments))
    return draft_of_endpoint(arguments.endpoint, arguments.model, site, wishes)


def _own_report(draft: Draft) -> tuple[str, str] | None:
    """A template of its own for numbers that none of the node's reports; see docs/reports.md."""
    if draft.get("task") not in _ON_IMAGES:
        return None
    from ai_models.scaffold.report_text import NAME, report_text

    named = draft.get("output.scores") or draft.get("output.quantities")
    shipped = _shipped_report(
        draft.get("task"), [one["name"] for one in named], draft.get("input.modality")
    )
    if shipped is None:
        return NAME, report_text(draft)
    draft.put(
        "report", shipped, f"its codes and words fit by the names{_thresholds(shipped)}"
    )
    return None


def _thresholds(report: str) -> str:
    """From which score on a report says what: nobody asked whoever trained the model."""
    from sr_templates.template import load_template

    told = []
    for scale in load_template(report).scales.values():
        bounded = [one for one in scale.steps if one.at_least is not None]
        if bounded:
            words = [f"{one.value.meaning.lower()} from {one.at_least:g}" for one in bounded]
            last = scale.steps[-1].value.meaning.lower()
            told.append(", ".join([*words, f"{last} below {bounded[-1].at_least:g}"]))
    return f", and its thresholds: {'; '.join(dict.fromkeys(told))}" if told else ""


def _shipped_report(task: str, outputs: list[str], modalities: list[str]) -> str | None:
    from dicom_node.results.report import check_template
    from sr_templates.template import FOLDER, NOT_TEMPLATES, load_template

    for path in sorted(FOLDER.glob("*.yaml")):
        if path.stem in NOT_TEMPLATES:
            continue
        try:
            check_template(path.stem, None, task, outputs)
        except ConfigurationError:
            continue
        if set(modalities) <= set(load_template(path.stem).procedure_reported):
            return path.stem
    return None


def _shown(folder: Path) -> str:
    """Relative where it lies below the current folder."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


