"""``dicom-node models compress MODEL``: smaller versions, measured beside it in one run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import named_card, open_config
from dicom_node.cli.output import print_json, print_table
from dicom_node.errors import ConfigurationError, ModelFailed

if TYPE_CHECKING:
    from ai_models.card import Card
    from ai_models.compress.making import Comparison
    from dicom_node.config import Config

_VARIANTS = ("onnx", "fp16", "int8-static", "int8-dynamic", "slim")
_MIB = 1 << 20


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "compress", help="make smaller versions and refuse those that answer worse"
    )
    parser.add_argument("model", metavar="MODEL",
                        help="a model, ID@VERSION, or the folder of a card")
    parser.add_argument("--version", metavar="V", help="this version of it")
    parser.add_argument("--variants", nargs="+", choices=_VARIANTS, default=None, metavar="NAME",
                        help=f"of {', '.join(_VARIANTS)} (default: all that can be made)")
    parser.add_argument("--cases", type=Path, metavar="PATH",
                        help="cases whose truth is known, as of train (default: "
                        "compression.reference of the card, else something drawn)")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="where the versions that pass are written; without it nothing is")
    parser.add_argument("--steps", type=int, default=400, metavar="N",
                        help="of the training of slim (default 400)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one row for each version; exit 1 when one is refused or cannot be made as asked."""
    from ai_models.trust import why_refused
    from dicom_node.node_models import site_of

    config = open_config(arguments)
    if arguments.steps < 1:
        raise ConfigurationError("--steps: 1 or more expected")
    card = named_card(config, arguments)
    if refusal := why_refused(card, site_of(config)):
        raise ConfigurationError(refusal, key_path="models.site_use")
    comparison = _compared(card, config, arguments)
    if arguments.json:
        print_json(comparison.document)
    else:
        _print(comparison, arguments.output)
    beyond = any(row.refused and row.was_made for row in comparison.rows)
    missing = arguments.variants and any(
        row.refused for row in comparison.rows if row.variant in arguments.variants
    )
    return 1 if beyond or missing else 0


def _compared(card: Card, config: Config, arguments: argparse.Namespace) -> Comparison:
    from ai_models.compress.making import Wish, compress
    from ai_models.conformance.scene import scene_for
    from ai_models.training.settings import TrainingError
    from ai_models.types import ModelError
    from dicom_node.node_models import site_of
    from dicom_node.pipeline.inference import resolve_devices
    from dicom_node.pipeline.training_cases import NodeReader

    has_cases = arguments.cases or (card.compression and card.compression.reference)
    scene = None if has_cases else scene_for(card, quick=True)
    wish = Wish(
        tuple(arguments.variants or _VARIANTS), arguments.steps,
        device=resolve_devices(config.models.devices)[0], output=arguments.output,
        drawn=(scene.reference,) if scene else (), what=scene.what if scene else "",
    )
    try:
        with tempfile.TemporaryDirectory(prefix="dicom-node-compress-") as scratch:
            return compress(
                card, arguments.cases, wish, Path(scratch), reader=NodeReader(),
                site=site_of(config), told=_told,
            )
    except TrainingError as error:
        raise ConfigurationError(str(error)) from error
    except ModelError as error:
        raise ModelFailed(str(error), reason=error.reason) from error


def _told(what: str) -> None:
    print(f"{what} ...", file=sys.stderr)


def _print(comparison: Comparison, output: Path | None) -> None:
    card = comparison.card
    print(f"{card.id} {card.version} on {comparison.measured_on}, on {comparison.device}; "
          f"{comparison.max_drop:g} may be lost")
    figures = list(dict.fromkeys(name for row in comparison.rows for name in row.figures))
    print_table(
        ("version", "parameters", "MiB", "seconds", "of CPUs", *figures, "lost", ""),
        [
            (
                row.variant, f"{row.parameters:,}", f"{row.bytes / _MIB:.2f}",
                f"{row.seconds:.3f}", f"{row.cpu_seconds:.3f}",
                *(f"{row.figures[name]:.4f}" if name in row.figures else "" for name in figures),
                f"{row.drop:.4f}", "refused" if row.refused else "",
            )
            for row in comparison.rows if row.was_made and row.bytes
        ],
    )
    for row in comparison.rows:
        if row.refused:
            said = "refused" if row.was_made else "not made"
            print(f"{row.variant}: {said}: {row.refused}")
        if row.folder:
            print(f"{row.variant}: {row.folder}")
    if output is None:
        print("nothing was written: --output says where versions are to go")
    elif any(row.folder for row in comparison.rows):
        print(f"next: dicom-node models promote {card.id} VERSION, where {output} is one of "
              "models.directories")
