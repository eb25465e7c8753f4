"""``dicom-node serve``: run the node until it is told to stop."""

from __future__ import annotations

import argparse
import faulthandler
import signal
import threading
from typing import Any

from dicom_node.cli.opened import open_config
from dicom_node.errors import ConfigurationError
from dicom_node.freed_memory import share_arenas

_STARTING = "starting: what is on disk is taken up"


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("serve", help="run the node")
    parser.add_argument("--only", metavar="ROLES", help="some of intake,work,deliver,web")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, then finish what runs and exit 0."""
    share_arenas()
    config = open_config(arguments)

    from dicom_node.events import Events, configure_logging
    from dicom_node.node import ROLES, Node
    from dicom_node.operations.systemd import ServiceManager

    roles = frozenset(arguments.only.split(",")) if arguments.only else ROLES
    if not roles <= ROLES:
        raise ConfigurationError(
            f"found {', '.join(sorted(roles - ROLES))}, expected some of "
            f"{', '.join(sorted(ROLES))}",
            key_path="--only",
        )
    configure_logging(config.logging.level, config.logging.format)
    # Where each thread was, and nothing of what it had, when a watchdog or a library ends it.
    faulthandler.enable()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    manager = ServiceManager.from_environment()
    with manager.patient(_STARTING):
        node = Node(config, Events(), roles, manager)
    try:
        with manager.patient(_STARTING):
            node.start()
        node.run(stop)
    finally:
        node.close()
    return 0
