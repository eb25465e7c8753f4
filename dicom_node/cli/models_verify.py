"""``dicom-node models verify [MODEL]``: may it run here, and does it do what every model must?"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import named_card, open_catalog, open_config
from dicom_node.cli.output import print_json

if TYPE_CHECKING:
    from ai_models.conformance.check import Check
    from dicom_node.config import Config


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser(
        "verify", help="weights and gates of all models, or the conformance suite for one"
    )
    parser.add_argument("model", metavar="MODEL", nargs="?",
                        help="one model, ID@VERSION, or the folder of a card: the whole suite")
    parser.add_argument("--version", metavar="V", help="this version of it")
    parser.add_argument("--quick", action="store_true", help="smaller volumes, and fewer of them")
    parser.add_argument("--on", nargs="+", type=Path, default=(), metavar="PATH",
                        help="a DICOM series to show in the place of what is generated")
    parser.add_argument("--keep", type=Path, metavar="DIR",
                        help="leave what is drawn there, as a DICOM series to try things with")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit 1 when a check failed; without MODEL when a folder is bad or a model may not run."""
    config = open_config(arguments)
    return _verify_all(config, arguments) if arguments.model is None else _verify(config, arguments)


def _verify_all(config: Config, arguments: argparse.Namespace) -> int:
    from ai_models.types import ModelError
    from dicom_node.node_models import check_model, site_of

    catalog, site = open_catalog(config), site_of(config)
    found: list[dict[str, Any]] = []
    for card in catalog.cards():
        outcome = {"id": card.id, "version": card.version, "sha256": card.weights_sha256}
        try:
            check_model(card, site)
        except ModelError as error:
            found.append({**outcome, "ok": False, "found": f"{error.reason}: {error}"})
        else:
            text = f"weights as the card says ({card.weights_sha256})"
            if card.weights.path is None:
                text = "another host has the weights: their SHA-256 is not checked"
            found.append({**outcome, "ok": True, "found": text})
    problems = catalog.problems()
    if arguments.json:
        told = [{"folder": str(one.folder), "message": one.message} for one in problems]
        print_json({"models": found, "problems": told})
    else:
        for one in found:
            print(f"{one['id']} {one['version']}: {one['found']}")
        for problem in problems:
            print(problem.message)
    return 1 if problems or not all(one["ok"] for one in found) else 0


def _verify(config: Config, arguments: argparse.Namespace) -> int:
    from dicom_node.cli.series_roles import largest_together
    from dicom_node.cli.verify_suite import Bench, run_suite
    from dicom_node.events import configure_logging
    from dicom_node.node_models import site_of
    from dicom_node.pipeline.inference import resolve_devices

    configure_logging("warning", "console")
    card = named_card(config, arguments)
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="dicom-node-verify-") as scratch:
        bench = Bench(
            resolve_devices(config.models.devices)[0], site_of(config), Path(scratch),
            min(config.models.deadline_s, card.runtime.deadline_s),
            largest_together(arguments.on, card.input), arguments.quick, arguments.keep,
        )
        for check in run_suite(card, bench):
            checks.append(check)
            if not arguments.json:
                print(f"{check.outcome:14}  {check.name:16}  {check.sentence}", flush=True)
    ok = all(check.outcome != "failed" for check in checks)
    if arguments.json:
        print_json({
            "model": {"id": card.id, "version": card.version, "backend": card.runtime.backend,
                      "task": card.task, "sha256": card.weights_sha256},
            "device": bench.device, "quick": bench.quick, "ok": ok,
            "checks": [vars(check) for check in checks],
        })
    return 0 if ok else 1
