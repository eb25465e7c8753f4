"""``dicom-node models promote | rollback | shadow | canary``: which version of a model runs.

The decision goes into the ledger; a running node goes by it from its next job on.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from dicom_node.cli.opened import find_card, open_catalog, open_config, open_ledger
from dicom_node.records import Stage

if TYPE_CHECKING:
    from ai_models.card import Card
    from dicom_node.config import Config
    from dicom_node.ledger.ledger import Ledger

BY_OPERATOR = "by operator"


def add_parser(actions: Any) -> None:
    """Declare the four actions."""
    promote = actions.add_parser("promote", help="make a version the live one")
    promote.add_argument("model", metavar="ID")
    promote.add_argument("version", metavar="VERSION")
    promote.set_defaults(run=run_promote)
    rollback = actions.add_parser("rollback", help="go back to the version that was live before")
    rollback.add_argument("model", metavar="ID")
    rollback.set_defaults(run=run_rollback)
    shadow = actions.add_parser(
        "shadow", help="run a version beside the live one; nothing of it is sent"
    )
    canary = actions.add_parser("canary", help="give a version a share of the series")
    for parser, run in ((shadow, run_shadow), (canary, run_canary)):
        parser.add_argument("model", metavar="ID")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("version", metavar="VERSION", nargs="?")
        which.add_argument("--off", action="store_true", help="end it")
        parser.set_defaults(run=run)
    canary.add_argument("--share", type=_share, metavar="0..1",
                        help="part of the series, such as 0.1")


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError("more than 0 and at most 1")
    return value


def run_promote(arguments: argparse.Namespace) -> int:
    """Make a version live, unless its jobs would die."""
    config = open_config(arguments)
    ledger = open_ledger(config)
    card = _fit(config, ledger, arguments.model, arguments.version, gated=True)
    if card is None:
        return 1
    live = ledger.stages.live(card.id)
    if live is not None and live.version == card.version:
        print(f"{card.id} {card.version} is live already")
        return 0
    promoted = ledger.stages.promote(card.id, card.version, BY_OPERATOR)
    before = f"; {promoted.previous} was before: rollback goes back" if promoted.previous else ""
    print(f"{card.id} {card.version} is live{before}")
    return 0


def run_rollback(arguments: argparse.Namespace) -> int:
    """Make the version live that was so before, unless its jobs would die."""
    config = open_config(arguments)
    ledger = open_ledger(config)
    live = ledger.stages.live(arguments.model)
    if live is None or not live.previous:
        print(f"dicom-node: no version of {arguments.model} was live before", file=sys.stderr)
        return 1
    card = _fit(config, ledger, arguments.model, live.previous)
    if card is None:
        return 1
    ledger.stages.rollback(card.id, BY_OPERATOR)
    print(f"{card.id} {card.version} is live again, {live.version} is not")
    return 0


def run_shadow(arguments: argparse.Namespace) -> int:
    """Begin or end running a version beside the live one."""
    return _put(arguments, Stage.SHADOW, 0.0)


def run_canary(arguments: argparse.Namespace) -> int:
    """Begin or end giving a version a share of the series."""
    if not arguments.off and arguments.share is None:
        print("dicom-node: models canary takes --share, such as 0.1", file=sys.stderr)
        return 2
    return _put(arguments, Stage.CANARY, arguments.share or 0.0)


def _put(arguments: argparse.Namespace, stage: Stage, share: float) -> int:
    from dicom_node.ledger.model_stages import IsLive

    config = open_config(arguments)
    ledger = open_ledger(config)
    if arguments.off:
        ended = ledger.stages.end(arguments.model, stage, BY_OPERATOR)
        print(f"{arguments.model} has no {stage}" if ended is None
              else f"{ended.model_id} {ended.version} is no {stage} any more")
        return 0
    # A shadow sends nothing; what a canary says goes to the archive.
    gated = stage is Stage.CANARY
    card = _fit(config, ledger, arguments.model, arguments.version, gated=gated)
    if card is None:
        return 1
    try:
        ledger.stages.put(card.id, card.version, stage, share, BY_OPERATOR)
    except IsLive:
        print(f"dicom-node: {card.id} {card.version} is live", file=sys.stderr)
        return 1
    how = f"gets {share:.1%} of the series" if stage is Stage.CANARY else (
        "runs beside the live version, and nothing of it is sent"
    )
    print(f"{card.id} {card.version} is {stage}: it {how}")
    return 0


def _fit(
    config: Config, ledger: Ledger, model_id: str, version: str, *, gated: bool = False
) -> Card | None:
    """The card of a version that may be given jobs here; ``None``, and it is said why, otherwise.

    With ``gated`` a version that was adapted at a site must have passed the gate against the live
    one. The first version of a model is made known first: what was live before anybody decided
    must be there for `rollback`.

    Raises
    ------
    UnknownName
        There is no such version.
    """
    from ai_models.adapt.verdict import check_gated
    from ai_models.types import ModelError
    from dicom_node.node_models import check_model, site_of

    catalog = open_catalog(config)
    card = find_card(catalog, model_id, version)
    live = ledger.stages.live(card.id)
    running = live.version if live is not None else catalog.versions(card.id)[0].version
    try:
        for other in catalog.versions(card.id):
            if other.version == running and other.task != card.task:
                raise ModelError(
                    f"{card.id} {card.version} does {card.task}, and the live version "
                    f"{other.task}: give it an id of its own", reason="model.other_task",
                )
            if gated and other.version == running != card.version:
                check_gated(card, other)
        check_model(card, site_of(config))
    except ModelError as error:
        print(f"dicom-node: {error.reason}: {error}", file=sys.stderr)
        return None
    if live is None:
        ledger.stages.begin(card.id, running)
    return card
