"""What `check` says of rules and the further series that their models take: role by role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dicom_node.cli.opened import find_card, open_catalog
from dicom_node.config_rules import PHASES, PRIOR
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
    yield from _phases(rule, card)
    for role in rule.inputs:
        if role not in (PRIOR, PHASES) and role not in roles:
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


def _phases(rule: Rule, card: Card) -> Iterator[Finding]:
    """Phases in several series: whether the model takes phases, and so many."""
    further = rule.inputs.get(PHASES)
    if further is None:
        return
    fewest = 1 + (further.series or 0)
    _, most = card.input.phase_counts
    if most == 1:
        yield failed(
            _NAME, f"rule {rule.name!r} waits for further phases, and {card.id} takes a series of "
            "one moment", "leave rules[].inputs.phases out, or take a model with input.phases",
        )
    elif fewest > most:
        yield failed(
            _NAME, f"rule {rule.name!r} has {fewest} series with a phase each at least, and "
            f"{card.id} takes {most} phases at most", "rules[].inputs.phases.series",
        )
    if further.when.written == rule.when.written:
        yield warning(
            _NAME, f"rule {rule.name!r} fits every series of its phases: each makes a job of its "
            "own with the same result", "rules[].when fits one of the series only",
        )
