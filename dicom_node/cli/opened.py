"""What several commands open: the settings, and the ledger of a node that may be running or not."""

from __future__ import annotations

import argparse
import fcntl
from typing import TYPE_CHECKING

from dicom_node import config as configuration
from dicom_node.config import Config
from dicom_node.errors import ConfigurationError, UnknownName

if TYPE_CHECKING:
    from ai_models.card import Card
    from ai_models.catalog import Catalog
    from dicom_node.ledger.ledger import Ledger


REBUILT_AT_START = "the next start of the node sets it aside and rebuilds it from the images"


def open_config(arguments: argparse.Namespace) -> Config:
    """The settings that ``--config`` and the environment name.

    Raises
    ------
    ConfigurationError
        With key path and line.
    """
    return configuration.load(arguments.config)


def running_roles(config: Config) -> dict[str, int]:
    """Which roles of the node run on this host, each with its process id.

    A running node holds a lock on the file of each role in its data directory.
    """
    roles: dict[str, int] = {}
    for role in ("intake", "work", "deliver"):
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


def open_ledger(config: Config, *, read_only: bool = False) -> Ledger:
    """The ledger of a node that has run before; with ``read_only`` nothing there is changed.

    Raises
    ------
    ConfigurationError
        When there is none where the settings say.
    """
    from dicom_node.ledger.ledger import Ledger

    if config.database.url is None and not (config.node.data_dir / "ledger.db").exists():
        raise ConfigurationError(
            f"no ledger in {config.node.data_dir}: no node has run with this setting",
            key_path="node.data_dir",
        )
    return Ledger.open(ledger_url(config), read_only=read_only)


def open_catalog(config: Config) -> Catalog:
    """The models that the settings name, and the built-in ones.

    Raises
    ------
    ConfigurationError
        When a directory is missing or a card is wrong: file, line and key path of the card.
    """
    from ai_models.catalog import Catalog
    from ai_models.types import ModelError

    try:
        return Catalog(config.models.directories)
    except ModelError as error:
        raise ConfigurationError(str(error), key_path="models.directories") from error


def find_card(catalog: Catalog, model_id: str) -> Card:
    """The card of one model.

    Raises
    ------
    UnknownName
        When there is no such model; the message lists those that there are.
    """
    from ai_models.types import ModelError

    try:
        return catalog.get(model_id)
    except ModelError as error:
        raise UnknownName(str(error)) from error
