"""Which rules have no model that could be run, and why: told, kept, and never a reason to stop.

A node receives whatever becomes of its models. A rule whose model is missing, broken, refused by
the site or has other weights goes on taking series; their jobs wait a while for the model
(`dicom_node.pipeline.retry`) and are then answered as not analysed. Only a name that nothing
knows, in the settings of a node that has never run, stops the start: somebody stands before it,
and nothing is sent to it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.types import ModelError
from dicom_node.config import Config
from dicom_node.errors import ConfigurationError, UnknownName
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import RuleWithoutModel, Stage
from dicom_node.spool import Spool

_IN_USE = frozenset({Stage.LIVE, Stage.CANARY, Stage.SHADOW})


class RuleModels:
    """The rules of a node and whether each has its model.

    Parameters
    ----------
    config, catalog, ledger, events
        The rules, what is on disk, where it is kept, and who is told.
    why_refused
        Why this site must not run a model; ``None`` when it may.
    decides
        Whether this process keeps in the ledger what it finds now: of several processes of a node
        only one does.
    """

    def __init__(
        self, config: Config, catalog: Catalog, ledger: Ledger, events: Events,
        why_refused: Callable[[Card], str | None], *, decides: Callable[[], bool] = lambda: True,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._ledger = ledger
        self._events = events
        self._why_refused = why_refused
        self._decides = decides
        self._known: dict[str, RuleWithoutModel] = {}
        self._is_kept = False

    def check_names(self, *, is_first_start: bool) -> None:
        """Refuse names that nothing knows at the first start; tell of them at any other.

        Raises
        ------
        UnknownName
            At the first start, when a rule or a limit names a model that is in no folder.
        ConfigurationError
            At the first start, when a directory of models is not there.
        LedgerUnavailable
        """
        if is_first_start:
            for problem in self._catalog.problems():
                if problem.reason == "model.directory_missing":
                    raise ConfigurationError(problem.message, key_path="models.directories")
            for key_path, message in misspelt(self._config, self._catalog, self._ledger):
                raise UnknownName(message, key_path=key_path)
        limits = misspelt(self._config, self._catalog, self._ledger, rules=False)
        for key_path, message in limits:
            self._events.node_changed("ignores a setting", key_path=key_path, reason=message)

    def begin(self, *, weights: bool) -> None:
        """Find out which rules have no model; with ``weights`` look through those of the others.

        That takes its time with large files and goes on beside everything else: `refresh` tells.

        Raises
        ------
        LedgerUnavailable
        """
        self._catalog.set_aside_copies()
        if weights:
            for card in self._in_use():
                self._catalog.doubt(card)
        self.refresh()

    def refresh(self) -> None:
        """Tell and keep what changed; to be called after the catalogue was refreshed.

        Raises
        ------
        LedgerUnavailable
            What changed is kept by the next call.
        """
        found = {
            one.rule: one for one in rules_without_model(
                self._config, self._catalog, self._why_refused
            )
        }
        for name, one in found.items():
            before = self._known.get(name)
            if before is not None and replace(one, since=before.since) == before:
                found[name] = before
            else:
                self._tell(one, served=False)
        for name, before in self._known.items():
            if name not in found:
                self._tell(before, served=True)
        self._is_kept &= found == self._known
        self._known = found
        decides = self._decides()
        self._is_kept &= decides
        if decides and not self._is_kept:
            self._ledger.stages.put_rules_without_model(list(found.values()))
            self._is_kept = True

    def _tell(self, one: RuleWithoutModel, *, served: bool) -> None:
        self._events.rule_changed(
            one.rule, one.model_id, "" if served else one.reason, one.message, served=served
        )

    def _in_use(self) -> list[Card]:
        stages = self._ledger.stages.all()
        cards: dict[tuple[str, str], Card] = {}
        for model_id in dict.fromkeys(rule.model for rule in self._config.rules):
            in_use = {one.version for one in stages.get(model_id, []) if one.stage in _IN_USE}
            for card in self._catalog.versions(model_id):
                if card.version in in_use:
                    cards[card.id, card.version] = card
            try:
                live = self._catalog.get(model_id)
            except ModelError:
                continue
            cards[live.id, live.version] = live
        return list(cards.values())


def has_run(ledger: Ledger, spool: Spool) -> bool:
    """Whether a node has run here before: somebody may send images to it already.

    Raises
    ------
    LedgerUnavailable
    """
    if ledger.stages.all() or ledger.receipts.count_by_state():
        return True
    return spool.has_any()


def rules_without_model(
    config: Config, catalog: Catalog, why_refused: Callable[[Card], str | None]
) -> list[RuleWithoutModel]:
    """The rules whose live model is not there or not allowed, as the catalogue knows it now."""
    now = datetime.now(UTC)
    found = []
    for rule in config.rules:
        try:
            refusal = why_refused(catalog.get(rule.model))
            reason = "model.refused"
        except ModelError as error:
            refusal, reason = str(error), error.reason
        if refusal:
            found.append(RuleWithoutModel(rule.name, rule.model, reason, refusal, now))
    return found


def misspelt(
    config: Config, catalog: Catalog, ledger: Ledger | None, *, rules: bool = True
) -> list[tuple[str, str]]:
    """Where the settings name a model that no folder has, good or bad, and no ledger knew.

    As pairs of key path and message; without ``rules`` only of ``jobs.per_model``.
    """
    named = [
        (f"rules[{position}].model", rule.model) for position, rule in enumerate(config.rules)
    ]
    named = named if rules else []
    named += [(f"jobs.per_model.{name}", name) for name in config.jobs.per_model]
    found = []
    for key_path, name in named:
        if catalog.knows(name) or (ledger is not None and ledger.stages.of(name)):
            continue
        try:
            catalog.get(name)
        except ModelError as error:
            found.append((key_path, str(error)))
    return found
