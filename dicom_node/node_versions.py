"""Which version of a model a series gets: what the folders hold, and what the operator decided.

    folders -> catalogue -> refresh: first version ever live, in-place update live, no other ever
    ledger (stages)      -> choose:  canary for its share of the series, else the live version;
                                     and beside it the shadow, if there is one
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.catalog_folder import Change, What
from ai_models.types import ModelError, writable
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import ModelProblem, ModelStage, Stage

SUCCEEDED = "its folder had the live version before"
AWAY = "its folder is away: bring it back, or promote another version"
BACK = "its folder is there again"


@dataclass(frozen=True)
class Choice:
    """What runs on one series, and what beside it to be compared, if anything."""

    card: Card
    shadow: Card | None = None


class ModelVersions:
    """The versions of all models of a node.

    Parameters
    ----------
    catalog, ledger, events
        What is on disk, what was decided, and who is told.
    why_refused
        Why this site must not run a model; ``None`` when it may.
    decides
        Whether this process keeps the stages in step with the folders now: of several processes of
        a node only the one that routes does, for each sees a change at its own time.
    """

    def __init__(
        self, catalog: Catalog, ledger: Ledger, events: Events,
        why_refused: Callable[[Card], str | None], *, decides: Callable[[], bool] = lambda: True,
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._events = events
        self._why_refused = why_refused
        self._decides = decides
        self._told: set[str] = set()
        self._known_problems: list[ModelProblem] | None = None
        self._last: dict[str, Card] = {}

    def begin(self) -> None:
        """Bring stages and folders together at start, and tell what is wrong with folders.

        Raises
        ------
        LedgerUnavailable
        """
        for problem in self._catalog.problems():
            folder = writable(str(problem.folder))
            self._events.model_problem(folder, problem.message, solved=False)
        self._keep_up()

    def refresh(self) -> None:
        """Take up what changed in the folders and in the ledger: cheap while nothing did.

        Raises
        ------
        LedgerUnavailable
            What changed is taken up by the next call.
        """
        for change in self._catalog.refresh():
            self._tell(change)
        self._keep_up()

    def live(self, model_id: str) -> Card:
        """The live version of a model.

        Raises
        ------
        ModelError
            There is none: ``model.unknown`` or ``model.no_live_version``.
        """
        card = self._last[model_id] = self._live(model_id, self._ledger.stages.of(model_id))
        return card

    def choose(self, model_id: str, series_instance_uid: str) -> Choice:
        """What runs on a series: the same for the same series, however often it is asked.

        Of a model that has no live version any more, the last one that was: its job ends with the
        reason why, and whoever waits is answered.

        Raises
        ------
        ModelError
            There never was a live version.
        """
        stages = self._ledger.stages.of(model_id)
        try:
            card = self._last[model_id] = self._live(model_id, stages)
        except ModelError:
            if model_id not in self._last:
                raise
            return Choice(self._last[model_id])
        canary = self._in_stage(Stage.CANARY, stages)
        if canary is not None:
            version = canary.version
            share = next(one.share for one in stages if one.version == version)
            if falls_to(model_id, version, series_instance_uid) < share:
                card = canary
        return Choice(card, self._in_stage(Stage.SHADOW, stages))

    def live_name(self, model_id: str) -> str:
        """The version that is live by the ledger, though it may not be there; "" of none."""
        return _version_in(Stage.LIVE, self._ledger.stages.of(model_id)) or ""

    def _live(self, model_id: str, stages: Sequence[ModelStage]) -> Card:
        return self._catalog.get(model_id, live=_version_in(Stage.LIVE, stages))

    def _in_stage(self, stage: Stage, stages: Sequence[ModelStage]) -> Card | None:
        """The version of a stage, where it is on disk and the site allows it."""
        for one in stages:
            if one.stage is stage:
                for card in self._catalog.versions(one.model_id):
                    if card.version == one.version and self._why_refused(card) is None:
                        return card
        return None

    def _keep_up(self) -> None:
        stages = self._ledger.stages.all()
        self._prefer(stages)
        if not self._decides():
            self._known_problems = None
            return
        if self._settle(stages):
            self._prefer(self._ledger.stages.all())
        self._keep_problems()

    def _prefer(self, stages: dict[str, list[ModelStage]]) -> None:
        def names(stage: Stage) -> list[tuple[str, str]]:
            return [
                (one.model_id, one.version)
                for ones in stages.values() for one in ones if one.stage is stage
            ]

        self._catalog.prefer(dict(names(Stage.LIVE)), names(Stage.RETIRED))

    def _settle(self, stages: dict[str, list[ModelStage]]) -> bool:
        """Give every model a live version as far as that needs nobody's decision."""
        moved = False
        for model_id in dict.fromkeys(card.id for card in self._catalog.cards()):
            there = self._catalog.versions(model_id)
            live = _version_in(Stage.LIVE, stages.get(model_id, []))
            if live is None:
                self._ledger.stages.begin(model_id, there[0].version)
                self._events.model_changed(model_id, there[0].version, "live", "the first one")
                moved = True
            elif live not in [card.version for card in there]:
                moved |= self._succeed(model_id, live)
            elif model_id in self._told:
                self._told.discard(model_id)
                self._events.model_changed(model_id, live, "live", BACK)
        return moved

    def _succeed(self, model_id: str, live: str) -> bool:
        """Let what the live one's folder has now take its place; false when it is gone or damaged.

        A version in another folder never does: nobody has said that it is to run.
        """
        try:
            version = self._catalog.get(model_id, live=live).version
        except ModelError as error:
            if model_id not in self._told:
                self._told.add(model_id)
                is_away = error.reason == "model.no_live_version"
                self._events.model_changed(
                    model_id, live, "gone" if is_away else "damaged",
                    AWAY if is_away else str(error),
                )
            return False
        self._told.discard(model_id)
        self._ledger.stages.promote(model_id, version, SUCCEEDED)
        self._events.model_changed(model_id, version, "live", SUCCEEDED)
        return True

    def _keep_problems(self) -> None:
        problems = [
            ModelProblem(writable(str(one.folder)), one.model_id, one.message, one.since)
            for one in self._catalog.problems()
        ]
        if problems != self._known_problems:
            self._ledger.stages.put_problems(problems)
            self._known_problems = problems

    def _tell(self, change: Change) -> None:
        if change.problem is not None:
            solved = change.what is What.SOLVED
            self._events.model_problem(
                writable(str(change.problem.folder)), change.problem.message, solved=solved
            )
            return
        card = change.card or change.former
        if card is not None:
            folder = writable(str(change.folder))
            self._events.model_changed(card.id, card.version, str(change.what), folder)


def falls_to(model_id: str, version: str, series_instance_uid: str) -> float:
    """Where a series falls between 0 and 1 for a canary: always the same, and evenly spread.

    A share that is raised adds series and takes none away; another version gets others first.
    """
    text = f"{model_id}\n{version}\n{series_instance_uid}"
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def _version_in(stage: Stage, stages: Sequence[ModelStage]) -> str | None:
    return next((one.version for one in stages if one.stage is stage), None)
