"""``dicom-node shift MODEL``: whether the scanners of a site look to a model as it knows them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import find_card, named_card, open_catalog, open_config, open_ledger
from dicom_node.cli.output import print_json, print_table
from dicom_node.errors import ConfigurationError, ModelFailed

if TYPE_CHECKING:
    from ai_models.card import Card
    from dicom_node.config import Config


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "shift", help="whether the scanners of this site look to a model as it knows them"
    )
    parser.add_argument("model", metavar="MODEL", help="a model (its live version) or ID@VERSION")
    parser.add_argument("--png", type=Path, metavar="FILE", help="a picture of all inputs")
    parser.add_argument("--method", choices=("pca", "tsne"), default="pca",
                        help="of the picture (default: pca)")
    parser.add_argument("--reference", type=Path, metavar="FOLDER",
                        help="write the features of these inputs, for monitor.reference of a card: "
                             "DICOM with companions, NIfTI or a table, as for adapt")
    parser.add_argument("--output", type=Path, default=Path("features.npy"), metavar="FILE",
                        help="of --reference (default: features.npy)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print every scanner with what tells it apart; exit 1 when one raises the alarm."""
    config = open_config(arguments)
    if arguments.reference is not None:
        return _write_reference(config, named_card(config, arguments), arguments)
    from dicom_node.node_shift import Scanners

    catalog = open_catalog(config)
    card = find_card(catalog, arguments.model)
    ledger = open_ledger(config, read_only=True)
    scanners = Scanners(ledger, lambda: catalog, config.shift)
    seen = scanners.look(card.id, card.version)
    if arguments.png is not None:
        arguments.png.write_bytes(scanners.picture(card.id, card.version, arguments.method))
    document = seen.document()
    if arguments.json:
        print_json(document)
    else:
        _print(card, document)
    return 1 if any(one["alarm"] for one in document["scanners"]) else 0


def _print(card: Card, document: dict[str, Any]) -> None:
    if card.monitor is None:
        print(f"the card of {card.id} {card.version} has no monitor: nothing is kept of its inputs")
    sources = {"card": "of its card", "site": "the first at this site", "": "not there yet"}
    print(
        f"{card.id} {card.version}: reference {sources[document['reference']]}, "
        f"{document['reference_inputs']} inputs"
    )
    print_table(("scanner", "inputs", "mmd", "by chance", "silhouette", ""), [
        (
            one["scanner"], one["inputs"], *(
                "-" if one[key] is None else f"{one[key]:.4f}"
                for key in ("mmd", "threshold", "silhouette")
            ),
            "UNLIKE THE REFERENCE" if one["alarm"] else one["why_not"],
        )
        for one in document["scanners"]
    ])


def _write_reference(config: Config, card: Card, arguments: argparse.Namespace) -> int:
    """Run the model on every input below a folder, and write how they look to it."""
    import numpy as np

    from ai_models.adapt.inputs import inputs_alone
    from ai_models.monitoring.reference import LEAST_ROWS, write_rows
    from ai_models.predictor import Predictor
    from ai_models.training.prepared import read_input
    from ai_models.training.settings import TrainingError
    from ai_models.types import ModelError
    from dicom_node.node_models import site_of
    from dicom_node.pipeline.training_cases import NodeReader

    if card.monitor is None:
        raise ConfigurationError(f"the card of {card.id} {card.version} has no monitor")
    rows: list[tuple[float, ...]] = []
    try:
        # What an older reference says of these inputs has no meaning for the new one.
        bare = card.model_copy(update={
            "monitor": card.monitor.model_copy(update={"reference": None, "sha256": None}),
        })
        predictor = Predictor(bare, "cpu", site_of(config))
        predictor.load()
        reader = NodeReader()
        for case in inputs_alone(arguments.reference, card, reader):
            try:
                answer = predictor.predict(read_input(case, card, reader))
            except (TrainingError, ModelError) as error:
                print(f"{case.name}: left out: {error}", file=sys.stderr)
                continue
            rows.append(getattr(answer, "features", ()))
    except ModelError as error:
        raise ModelFailed(str(error), reason=error.reason) from error
    if len(rows) < LEAST_ROWS:
        raise ModelFailed(
            f"{len(rows)} series could be run, a reference takes {LEAST_ROWS}",
            reason="model.monitor",
        )
    sha256 = write_rows(arguments.output, np.asarray(rows, dtype=np.float32))
    print(f"{len(rows)} inputs with {len(rows[0])} features each in {arguments.output}; the card:")
    print(f"monitor:\n  reference: {arguments.output.name}\n  sha256: {sha256}")
    return 0
