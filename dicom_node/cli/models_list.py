"""``dicom-node models list``: every version of every model, and what is wrong with folders."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import (
    model_problems,
    model_stages,
    open_catalog,
    open_config,
    without_model,
)
from dicom_node.cli.output import print_json, print_table, when
from dicom_node.records import CANDIDATE, Stage

if TYPE_CHECKING:
    from ai_models.card import Card
    from ai_models.catalog import Catalog
    from dicom_node.config import Config
    from dicom_node.records import ModelProblem, ModelStage


def add_parser(actions: Any) -> None:
    """Declare the action."""
    parser = actions.add_parser("list", help="every version of every model, and bad folders")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print models, versions and stages, bad folders, and the rules that have no model by that."""
    config = open_config(arguments)
    catalog = open_catalog(config)
    stages = model_stages(config)
    problems = model_problems(config, catalog)
    models = [described(card, catalog, stages.get(card.id, [])) for card in catalog.cards()]
    without = without_model(config, catalog)
    if arguments.json:
        print_json({
            "models": models, "problems": [vars(one) for one in problems],
            "rules_without_model": [vars(one) for one in without],
        })
        return 0
    print_table(
        ("model", "version", "stage", "task", "modality", "licence", "intended use"),
        [
            (one["id"], one["version"], _stage_text(one), one["task"], ",".join(one["modality"]),
             one["licence"], one["intended_use"].split(".")[0])
            for one in models
        ],
    )
    for gone in _gone(catalog, stages, config):
        print(f"\n{gone}")
    print_problems(problems)
    for one in without:
        print(f"\nrule {one.rule} is without its model {one.model_id}, since {when(one.since)}:\n"
              f"  {one.reason}: {one.message}")
    return 0


def described(card: Card, catalog: Catalog, stages: list[ModelStage]) -> dict[str, Any]:
    """One version of a model for programs."""
    stage = stage_of(card, catalog, stages)
    share = next((one.share for one in stages if one.version == card.version), 0.0)
    return {
        "id": card.id,
        "version": card.version,
        "task": card.task,
        "modality": list(card.modality),
        "licence": card.licence,
        "intended_use": card.intended_use,
        "stage": stage,
        "share": share if stage == Stage.CANARY else None,
        "folder": str(card.folder),
    }


def stage_of(card: Card, catalog: Catalog, stages: list[ModelStage]) -> str:
    """The stage of a version: as the ledger has it, or as the node's next start will."""
    found = next((str(one.stage) for one in stages if one.version == card.version), CANDIDATE)
    if any(one.stage is Stage.LIVE for one in stages):
        return found
    is_first = catalog.versions(card.id)[0].version == card.version
    return str(Stage.LIVE) if is_first else found


def print_problems(problems: list[ModelProblem]) -> None:
    """What is wrong with which folder, for a person."""
    for one in problems:
        print(f"\n{one.folder} is not used as it is, since {when(one.since)}:\n  {one.message}")


def _stage_text(one: dict[str, Any]) -> str:
    return f"{one['stage']} {one['share']:.1%}" if one["share"] is not None else str(one["stage"])


def _gone(
    catalog: Catalog, stages: dict[str, list[ModelStage]], config: Config
) -> list[str]:
    """Versions that have a task and no folder any more."""
    ruled = {rule.model for rule in config.rules}
    return [
        f"{one.model_id} {one.version} is {one.stage} and its folder is gone"
        for model_id, ones in sorted(stages.items())
        for one in ones
        if one.stage is not Stage.RETIRED
        and (catalog.versions(model_id) or model_id in ruled)
        and one.version not in {card.version for card in catalog.versions(model_id)}
    ]
