"""``dicom-node models list``: every version of every model, and what is wrong with folders."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import (
    model_problems,
    model_stages,
    open_catalog,
    open_config,
    running_roles,
    without_model,
)
from dicom_node.cli.output import print_json, print_table, when
from dicom_node.records import CANDIDATE, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    unread = list(_unread(catalog, stages, problems))
    models = sorted([*models, *map(_of_unread, unread)], key=lambda one: one["id"])
    if arguments.json:
        print_json({
            "models": models, "problems": [vars(one) for one in problems],
            "rules_without_model": [vars(one) for one in without],
        })
        return 0
    print_table(
        ("model", "version", "stage", "task", "modality", "licence", "intended use"),
        [
            (one["id"], one["version"], _stage_text(one), one["task"] or "?",
             ",".join(one["modality"]), one["licence"] or "?",
             (one["intended_use"] or "?").split(".")[0])
            for one in models
        ],
    )
    # A node that runs goes on with the card as it was, unless it began with this one.
    begun_with = {one.model_id for one in without}
    for one, _ in unread:
        goes_on = "intake" in running_roles(config) and one.model_id not in begun_with
        print(f"\n{one.model_id} {one.version} is {one.stage} "
              f"{'by its last good card' if goes_on else 'and cannot be used'}; "
              "its folder has a problem, below")
    for gone in _gone(catalog, stages, config, {one.model_id for one, _ in unread}):
        print(f"\n{gone}")
    print_problems(problems)
    for rule in without:
        print(f"\nrule {rule.rule} is without its model {rule.model_id}, since "
              f"{when(rule.since)}:\n  {rule.reason}: {rule.message}")
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


def _unread(
    catalog: Catalog, stages: dict[str, list[ModelStage]], problems: list[ModelProblem]
) -> Iterator[tuple[ModelStage, ModelProblem]]:
    """Versions that have a task and whose card cannot be read now, with what is wrong there."""
    for model_id, ones in stages.items():
        there = {card.version for card in catalog.versions(model_id)}
        readable = {str(card.folder) for card in catalog.versions(model_id)}
        wrong = next((one for one in problems
                      if one.model_id == model_id and one.folder not in readable), None)
        for one in ones:
            if wrong is not None and one.stage is not Stage.RETIRED and one.version not in there:
                yield one, wrong


def _of_unread(unread: tuple[ModelStage, ModelProblem]) -> dict[str, Any]:
    """What is known of a version whose card cannot be read, in the form of `described`."""
    one, problem = unread
    return {
        "id": one.model_id, "version": one.version, "task": None, "modality": [],
        "licence": None, "intended_use": None, "stage": str(one.stage),
        "share": one.share if one.stage is Stage.CANARY else None, "folder": problem.folder,
    }


def _gone(
    catalog: Catalog, stages: dict[str, list[ModelStage]], config: Config, unread: set[str]
) -> list[str]:
    """Versions that have a task and no folder any more."""
    ruled = {rule.model for rule in config.rules}
    return [
        f"{one.model_id} {one.version} is {one.stage} and its folder is gone"
        for model_id, ones in sorted(stages.items())
        for one in ones
        if one.stage is not Stage.RETIRED and model_id not in unread
        and (catalog.versions(model_id) or model_id in ruled)
        and one.version not in {card.version for card in catalog.versions(model_id)}
    ]
