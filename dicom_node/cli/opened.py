"""What several commands open: the settings, and the ledger of a node that may be running or not."""

from __future__ import annotations

import argparse
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node import config as configuration
from dicom_node.config import Config
from dicom_node.errors import ConfigurationError, LedgerUnavailable, UnknownName
from dicom_node.records import ModelProblem, RuleWithoutModel, Stage

if TYPE_CHECKING:
    from ai_models.card import Card
    from ai_models.catalog import Catalog
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.records import ModelStage


REBUILT_AT_START = "the next start of the node sets it aside and rebuilds it from the images"


def open_config(arguments: argparse.Namespace) -> Config:
    """The settings that ``--config`` and the environment name.

    Raises
    ------
    ConfigurationError
        With key path and line.
    """
    return configuration.load(arguments.config)


def running_roles(
    config: Config, among: Sequence[str] = ("intake", "work", "deliver")
) -> dict[str, int]:
    """Which roles of the node run on this host, each with its process id.

    A running node holds a lock on the file of each role in its data directory.
    """
    roles: dict[str, int] = {}
    for role in among:
        try:
            with (config.node.data_dir / f"{role}.lock").open(encoding="ascii") as held:
                try:
                    fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    text = held.read().strip()
                    roles[role] = int(text) if text.isdecimal() else 0
        except OSError:
            continue
    return roles


def ledger_url(config: Config) -> str:
    """Where the ledger is."""
    return config.database.url or f"sqlite:///{config.node.data_dir / 'ledger.db'}"


def is_ledger_to_come(config: Config) -> bool:
    """Whether no node has run with this setting, so that whoever only looks makes no ledger.

    One that this user made might not be writable for the user that the node runs as, and where one
    is in a database, none moves there any more.

    Raises
    ------
    LedgerUnavailable
        The database does not answer.
    """
    url = config.database.url
    if url is None:
        return not (config.node.data_dir / "ledger.db").exists()
    if not url.startswith("postgresql"):
        return False
    from dicom_node.ledger.database_server import look_at

    return not look_at(url).has_ledger


def open_ledger(config: Config, *, read_only: bool = False) -> Ledger:
    """The ledger of a node that has run before; with ``read_only`` nothing there is changed.

    Raises
    ------
    ConfigurationError
        When there is none in the data directory.
    LedgerUnavailable
        When there is none in the database, or it does not answer.
    """
    from dicom_node.ledger.ledger import Ledger

    # Opened for reading, a database says itself that it has none.
    if config.database.url is not None and not read_only and is_ledger_to_come(config):
        raise LedgerUnavailable("there is no ledger in the database: start the node once")
    if config.database.url is None and is_ledger_to_come(config):
        raise ConfigurationError(
            f"no ledger in {config.node.data_dir}: no node has run with this setting",
            key_path="node.data_dir",
        )
    return Ledger.open(ledger_url(config), read_only=read_only)


def open_catalog(config: Config) -> Catalog:
    """The models that the settings name, and the built-in ones; live is what the ledger says.

    Raises
    ------
    ConfigurationError
        When a directory is missing. A card that is wrong is a problem of the catalogue.
    """
    from ai_models.catalog import Catalog
    from ai_models.types import ModelError

    try:
        catalog = Catalog(config.models.directories)
    except ModelError as error:
        raise ConfigurationError(str(error), key_path="models.directories") from error
    try:
        stages = [one for ones in model_stages(config).values() for one in ones]
    except PermissionError:
        # Whoever may not read the data of the node may try its models on files of his own.
        stages = []
    catalog.prefer({one.model_id: one.version for one in stages if one.stage is Stage.LIVE})
    return catalog


def find_card(catalog: Catalog, model_id: str, version: str | None = None) -> Card:
    """The card of one model; ``id@version`` is one version of it, and none means the live one.

    Raises
    ------
    UnknownName
        When there is no such model; the message lists those that there are, or says what is
        wrong with its card.
    """
    from ai_models.types import ModelError

    name, _, behind = model_id.partition("@")
    try:
        return catalog.get(name, version or behind or None)
    except ModelError as error:
        raise UnknownName(str(error)) from error


def card_of(config: Config, model: str, version: str | None = None) -> Card:
    """A model of the catalogue as `find_card` finds it, or the card of a folder that is named.

    Raises
    ------
    UnknownName
        There is none, or its card is wrong: the message says what.
    ConfigurationError
        As `open_catalog`.
    """
    from ai_models.card import CARD_NAME, load_card
    from ai_models.types import ModelError

    folder = Path(model)
    if not (folder / CARD_NAME).is_file():
        return find_card(open_catalog(config), model, version)
    try:
        return load_card(folder.resolve())
    except ModelError as error:
        raise UnknownName(str(error)) from error


def named_card(config: Config, arguments: argparse.Namespace) -> Card:
    """The card of ``arguments.model``, as `card_of`; of what is none, also where it was looked for.

    Raises
    ------
    UnknownName
    ConfigurationError
    """
    from ai_models.card import CARD_NAME

    model = arguments.model
    try:
        return card_of(config, model, getattr(arguments, "version", None))
    except UnknownName as error:
        folder = Path(model)
        if (folder / CARD_NAME).is_file():
            raise
        if folder.is_dir() and folder.name != model:
            raise UnknownName(f"there is no {CARD_NAME} in {model}") from error
        if os.sep in model:
            raise UnknownName(f"there is no such folder: {model}") from error
        if arguments.config is None:
            raise UnknownName(
                f"{error}; settings: none found (--config); a folder with a card works too"
            ) from error
        raise


def model_stages(config: Config) -> dict[str, list[ModelStage]]:
    """The versions of each model that have a stage; none where no node has run yet.

    Raises
    ------
    LedgerUnavailable
    """
    if is_ledger_to_come(config):
        return {}
    ledger = open_ledger(config, read_only=True)
    try:
        return ledger.stages.all()
    finally:
        ledger.close()


def model_problems(config: Config, catalog: Catalog) -> list[ModelProblem]:
    """What is wrong with model folders: as read now, and what a running node found besides.

    Raises
    ------
    LedgerUnavailable
    """
    found = {
        str(one.folder): ModelProblem(str(one.folder), one.model_id, one.message, one.since)
        for one in catalog.problems()
    }
    if "intake" in running_roles(config) and not is_ledger_to_come(config):
        ledger = open_ledger(config, read_only=True)
        try:
            for problem in ledger.stages.problems():
                found.setdefault(problem.folder, problem)
        finally:
            ledger.close()
    return sorted(found.values(), key=lambda one: one.folder)


def without_model(config: Config, catalog: Catalog | None = None) -> list[RuleWithoutModel]:
    """The rules whose model cannot be run: as a node that runs here found, or else as a catalogue
    is read now: a node goes on with the last good card of a folder, which nobody else knows.

    Without a catalogue, what the node that runs here, or ran last, has found.

    Raises
    ------
    LedgerUnavailable
    """
    found: dict[str, RuleWithoutModel] = {}
    of_the_node = catalog is None or "intake" in running_roles(config)
    if catalog is not None and (not of_the_node or is_ledger_to_come(config)):
        from functools import partial

        from ai_models.trust import why_refused
        from dicom_node.node_models import site_of
        from dicom_node.node_rules import rules_without_model

        refused = partial(why_refused, site=site_of(config))
        found = {one.rule: one for one in rules_without_model(config, catalog, refused)}
    if of_the_node and not is_ledger_to_come(config):
        ledger = open_ledger(config, read_only=True)
        try:
            found |= {one.rule: one for one in ledger.stages.rules_without_model()}
        finally:
            ledger.close()
    return [found[rule.name] for rule in config.rules if rule.name in found]
