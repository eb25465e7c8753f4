"""``dicom-node adapt MODEL --cases FOLDER --method M``: a candidate for the scanners of a site."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import named_card, open_config
from dicom_node.cli.output import print_json
from dicom_node.errors import ConfigurationError, ModelFailed

if TYPE_CHECKING:
    from ai_models.card import Card

_METHODS = ("adabn", "head", "lora")


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "adapt", help="make a candidate version of a model for the scanners of this site"
    )
    parser.add_argument("model", metavar="MODEL",
                        help="a model (its live version), ID@VERSION, or the folder of a card")
    parser.add_argument("--cases", type=Path, required=True, metavar="FOLDER",
                        help="DICOM with SEG, NIfTI with labels, or a table; of adabn images alone")
    parser.add_argument("--method", choices=_METHODS, required=True,
                        help="adabn: statistics anew; head: the last layer; lora: small additions")
    parser.add_argument("--replay", type=Path, metavar="FOLDER",
                        help="cases of before, trained on as well so that they are not forgotten")
    parser.add_argument("--as", dest="candidate", metavar="VERSION",
                        help="version of the candidate (default: the old one+METHOD.N)")
    parser.add_argument("--output", type=Path, metavar="FOLDER",
                        help="folder of the candidate (default: beside that of the model)")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="of training")
    parser.add_argument("--rate", type=float, default=1e-4, metavar="R", help="learning rate")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="windows at once")
    parser.add_argument("--rank", type=int, default=4, metavar="N", help="of lora")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the candidate; the model that it is made from is only read."""
    config = open_config(arguments)
    for name in ("steps", "batch", "rank"):
        if getattr(arguments, name) < 1:
            raise ConfigurationError(f"--{name}: 1 or more expected")
    if not 0 < arguments.rate < 1:
        raise ConfigurationError("--rate: a number between 0 and 1 expected")
    card = named_card(config, arguments)
    version, folder = _place(card, arguments)
    from ai_models.adapt.candidate import Wish, make_candidate
    from ai_models.training.settings import TrainingError
    from ai_models.types import ModelError
    from dicom_node.node_models import site_of
    from dicom_node.pipeline.training_cases import NodeReader

    wish = Wish(
        arguments.method, arguments.steps, arguments.rate, arguments.batch, arguments.rank,
        arguments.seed,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="dicom-node-") as scratch:
            made = make_candidate(
                card, arguments.cases, folder, version, wish, Path(scratch),
                replay=arguments.replay, reader=NodeReader(), site=site_of(config),
            )
    except TrainingError as error:
        raise ConfigurationError(str(error)) from error
    except ModelError as error:
        raise ModelFailed(str(error), reason=error.reason) from error
    if arguments.json:
        print_json({
            "model": made.id, "version": made.version, "from_version": card.version,
            "method": arguments.method, "folder": str(made.folder),
            "weights_sha256": made.weights_sha256,
        })
        return 0
    print(f"{made.id} {made.version} is in {made.folder}; {card.version} was not touched")
    print(f"next: dicom-node models gate {made.id} {made.version} --reference FOLDER")
    return 0


def _place(card: Card, arguments: argparse.Namespace) -> tuple[str, Path]:
    """Version and folder of the candidate: the first that is free, unless it is said."""
    from ai_models.catalog import ZOO

    if arguments.output is None and card.folder.parent == ZOO:
        raise ConfigurationError(
            f"{card.id} is shipped with the program, which nothing is written into: say with "
            "--output where the candidate goes, such as a new folder in one of models.directories"
        )
    for number in range(1, 1000):
        version = arguments.candidate or f"{card.version}+{arguments.method}.{number}"
        folder = arguments.output or card.folder.with_name(f"{card.folder.name}-{version}")
        if arguments.candidate or arguments.output or not folder.exists():
            if len(version) > 32:
                raise ConfigurationError(f"--as: {version} is longer than 32 characters")
            return version, folder
    raise ConfigurationError(f"--as: no version of {card.id} is free")
