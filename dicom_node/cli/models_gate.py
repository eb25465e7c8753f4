"""``dicom-node models gate ID VERSION --reference FOLDER``: may a candidate take the live place?"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import find_card, open_catalog, open_config
from dicom_node.cli.output import print_json, print_table
from dicom_node.errors import ConfigurationError, ModelFailed

if TYPE_CHECKING:
    from ai_models.adapt.verdict import Verdict

_TOLERANCE = 0.01


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "gate", help="hold a candidate against the live version on reference cases"
    )
    parser.add_argument("model", metavar="ID")
    parser.add_argument("candidate", metavar="VERSION")
    parser.add_argument("--reference", type=Path, required=True, metavar="FOLDER",
                        help="cases with a truth that neither version has learned from")
    parser.add_argument("--tolerance", type=float, default=_TOLERANCE, metavar="D",
                        help=f"how far any figure may fall (default: {_TOLERANCE})")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure both on the same cases; exit 1 when the candidate does not pass."""
    config = open_config(arguments)
    if not 0 <= arguments.tolerance < 1:
        raise ConfigurationError("--tolerance: 0 or more, and less than 1 expected")
    catalog = open_catalog(config)
    candidate = find_card(catalog, arguments.model, arguments.candidate)
    live = find_card(catalog, arguments.model)
    from ai_models.adapt.gate import gate
    from ai_models.adapt.verdict import keep
    from ai_models.training.settings import TrainingError
    from ai_models.types import ModelError
    from dicom_node.node_models import site_of
    from dicom_node.pipeline.training_cases import NodeReader

    try:
        verdict = gate(
            candidate, live, arguments.reference, tolerance=arguments.tolerance,
            reader=NodeReader(), site=site_of(config),
        )
    except TrainingError as error:
        raise ConfigurationError(str(error)) from error
    except ModelError as error:
        raise ModelFailed(str(error), reason=error.reason) from error
    keep(verdict, candidate.folder)
    if arguments.json:
        print_json(asdict(verdict))
    else:
        _print(verdict)
    return 0 if verdict.passed else 1


def _print(verdict: Verdict) -> None:
    print(
        f"{verdict.model_id} {verdict.candidate_version} beside {verdict.live_version}, which is "
        f"live, on {verdict.cases} cases"
    )
    print_table(("figure", "live", "candidate", ""), [
        (one.name, f"{one.live:.4f}", "none" if one.candidate is None else f"{one.candidate:.4f}",
         "worse" if one.worse else "")
        for one in verdict.figures
    ])
    if verdict.passed:
        print(f"passed: no figure falls by more than {verdict.tolerance:g}")
        print(f"next: dicom-node models promote {verdict.model_id} {verdict.candidate_version}")
    else:
        print(f"not passed: a figure falls by more than {verdict.tolerance:g}")
