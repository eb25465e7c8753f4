"""Writes down in the audit trail who gave an order at the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dicom_node.cli.opened import open_config

_MOST_NAMES = 20


def note(arguments: argparse.Namespace, action: str, about: Sequence[str]) -> None:
    """The user of this process asked for ``action``; nothing is written where no trail is kept.

    The order is given whether it can be written down or not: that it was not, is told.
    """
    if not about:
        return
    import socket

    from dicom_node.errors import TransientError
    from dicom_node.operations.audit_records import ordered
    from dicom_node.operations.audit_trail import AuditTrail

    config = open_config(arguments)
    trail = AuditTrail(config.node.data_dir / "audit")
    try:
        if not config.security.audit.enabled or not trail.files():
            return
        names = " ".join(about[:_MOST_NAMES])
        if len(about) > _MOST_NAMES:
            names += f" and {len(about) - _MOST_NAMES} more"
        trail.append([
            ordered(config, socket.gethostname(), *user_of_system(), f"{action}: {names}")
        ])
    except (TransientError, OSError) as error:
        print(f"who asked for it is not written down in the audit trail: {error}", file=sys.stderr)


def user_of_system() -> tuple[str, str]:
    """The user of this process, and by whom ``sudo`` says that it was called."""
    import os
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return user, os.environ.get("SUDO_USER", "")
