"""``dicom-node models quality MODEL FOLDER``: what the gate of one's own model compares with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import named_card, open_config
from dicom_node.cli.output import print_json
from dicom_node.errors import ConfigurationError, ModelFailed

if TYPE_CHECKING:
    import numpy as np

    from ai_models.card import Card
    from ai_models.training.cases import Case
    from ai_models.trust import Site
    from ai_models.types import FloatArray

# Of so many patients one chooses the limits, and is not learned from.
_ONE_IN = 5


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "quality", help="learn from a folder what pictures of a model are like, for its gate"
    )
    parser.add_argument("model", metavar="MODEL", help="a model, ID@VERSION, or a card's folder")
    parser.add_argument("folder", type=Path, metavar="FOLDER",
                        help="inputs as the model learned from: DICOM, NIfTI or a table")
    parser.add_argument("--version", metavar="V", help="this version of it")
    parser.add_argument("--output", type=Path, default=Path("quality.npy"), metavar="FILE",
                        help="for beside the card (default: quality.npy)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, and print the line for the card."""
    from ai_models.monitoring.exposure import chosen_ranges, exposure_of, told_limits
    from ai_models.monitoring.likeness import chosen_limits, learned_space, write_space
    from ai_models.types import ModelError
    from dicom_node.node_models import site_of

    config = open_config(arguments)
    card = named_card(config, arguments)
    if card.input.size is None:
        raise ConfigurationError(
            f"{card.id} {card.version} has no input.size: the gate compares pictures that its "
            "network takes whole"
        )
    try:
        learned, choosing = _inputs(card, arguments.folder, site_of(config))
        if not choosing:
            raise ModelError(
                f"inputs of {_ONE_IN} patients at least expected: some choose the limits and are "
                "not learned from", reason="model.quality",
            )
        try:
            space = learned_space([one for shown in learned for one in _small(shown)])
        except ModelError as error:
            raise ModelError(
                f"{error}, besides those of one patient in {_ONE_IN}, which choose the limits "
                f"({len(choosing)} inputs)", reason=error.reason,
            ) from error
        limits: dict[str, float | tuple[float, float]] = {
            **chosen_limits([space.distances(one) for one in choosing]),
            **chosen_ranges([one for one in map(exposure_of, choosing) if one is not None]),
        }
        sha256 = write_space(arguments.output, space)
    except ModelError as error:
        raise ModelFailed(str(error), reason=error.reason) from error
    document = {"reference": arguments.output.name, "sha256": sha256, **limits}
    if arguments.json:
        print_json({"learned_from": len(learned), "chosen_by": len(choosing), **document})
        return 0
    print(f"{len(learned)} inputs learned from, limits chosen by {len(choosing)}; below "
          "input.quality of the card:")
    print(f'    likeness: {{reference: {arguments.output.name}, sha256: "{sha256}", '
          f"{told_limits(limits)}}}")
    return 0


def _inputs(card: Card, folder: Path, site: Site) -> tuple[list[FloatArray], list[FloatArray]]:
    """Prepared ``(slices, rows, columns)``, to learn from and to choose by: no patient in both.

    Of a card with ``input.crop`` the part that is looked at, which is all that the gate is shown.
    """
    from ai_models.adapt.inputs import inputs_alone
    from ai_models.prediction.cropping import Cropper
    from ai_models.prediction.preparing import prepare
    from ai_models.training.prepared import read_input
    from ai_models.training.settings import TrainingError
    from ai_models.types import ModelError
    from dicom_node.pipeline.training_cases import NodeReader

    reader = NodeReader()
    cropper = Cropper(card, site=site)
    cropper.load()
    cases: list[Case] = inputs_alone(folder, card, reader)
    patients = sorted({case.patient for case in cases})
    choose = set(patients[_ONE_IN - 1 :: _ONE_IN])
    learned: list[FloatArray] = []
    choosing: list[FloatArray] = []
    for case in cases:
        try:
            source = read_input(case, card, reader)
            array = prepare(source, card, cropper.find(source).window).image.array
        except (TrainingError, ModelError) as error:
            print(f"{case.name}: left out: {error}", file=sys.stderr)
            continue
        first: FloatArray = array[0]
        shown = first[None] if first.ndim == 2 else first
        (choosing if case.patient in choose else learned).append(shown)
    return learned, choosing


def _small(shown: FloatArray) -> list[np.ndarray]:
    from ai_models.monitoring.likeness import small_picture

    return [one for one in map(small_picture, shown) if one is not None]
