"""What `check` says of rules and the further series that their models take: role by role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dicom_node.cli.opened import find_card, open_catalog
from dicom_node.config_rules import PRIOR
from dicom_node.errors import LedgerUnavailable, NodeError
from dicom_node.operations.doctor import Finding, failed, ok, warning

if TYPE_CHECKING:
    from ai_models.card import Card
    from dicom_node.config import Config, Rule

_NAME = "further series"
_TODO = "rules[].inputs names the roles of the card's input.companions: `models show MODEL`"


def further_series(config: Config) -> list[Finding]:
    """Whether each rule gives its model the series that the card asks for, and no others."""
    try:
        catalog = open_catalog(config)
    except LedgerUnavailable:
        # Told by the check of the ledger: which version of a model runs stands there.
        return []
    found: list[Finding] = []
    joined = 0
    for rule in config.rules:
        try:
            card = find_card(catalog, rule.model)
        except NodeError:
            # Told by the check of models.
            continue
        joined += bool(rule.inputs)
        found += _differences(rule, card)
    if not found and joined:
        found.append(ok(_NAME, f"{joined} of the rules take further series, as their models do"))
    return found


def _differences(rule: Rule, card: Card) -> Iterator[Finding]:
    roles = {one.role: one for one in card.input.companions}
    for role in rule.inputs:
        if role != PRIOR and role not in roles:
            names = ", ".join(roles) or "none"
            yield failed(
                _NAME, f"rule {rule.name!r} waits for {role!r}, which {card.id} does not take; its "
                f"roles: {names}", _TODO,
            )
    for role, companion in roles.items():
        if role in rule.inputs:
            continue
        if companion.required:
            yield failed(
                _NAME, f"rule {rule.name!r} gives {card.id} no series for {role!r}, without which "
                "it answers nothing", _TODO,
            )
        else:
            yield warning(
                _NAME, f"rule {rule.name!r} gives {card.id} no series for {role!r}: it always does "
                "without", _TODO,
            )
