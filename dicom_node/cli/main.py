"""``dicom-node``: the arguments, the exit code, and nothing else.

Exit codes: 0 done, 1 the thing asked for failed, 2 wrong use or configuration. With ``--json`` a
reading command prints one JSON document on stdout and nothing else; logs go to stderr.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import dicom_node
from dicom_node.cli import (
    adapt,
    audit,
    cancel,
    check,
    conformance,
    demo,
    draft,
    echo,
    explain,
    fetch,
    hold,
    init,
    jobs,
    models,
    move_ledger,
    release,
    remove,
    replay,
    retry,
    run,
    schema,
    send,
    serve,
    shift,
    show,
    status,
    train,
    web_token,
)
from dicom_node.cli.opened import REBUILT_AT_START
from dicom_node.errors import ConfigurationError, HostNameTaken, LedgerDamaged, NodeError
from dicom_node.events import configure_logging

_COMMANDS = (
    demo, serve, check, run, explain, status, jobs, show, retry, cancel, hold,
    release, remove, send, fetch, echo, models, train, draft, adapt, shift, replay, audit,
    web_token, move_ledger, conformance, schema, init,
)
# These end before there is any garbage to speak of.
_SHORT = frozenset({"status", "jobs", "show", "retry", "cancel", "hold", "release", "remove"})
_DEFAULT_FILES = (Path("config.yaml"), Path("/etc/dicom-node/config.yaml"))


def build_parser() -> argparse.ArgumentParser:
    """Every command and its arguments."""
    parser = argparse.ArgumentParser(
        prog="dicom-node",
        description="AI node for a PACS: C-STORE in, models, DICOM SEG and SR out.",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE",
        help="settings; without it $DICOM_NODE_CONFIG, ./config.yaml, "
        "/etc/dicom-node/config.yaml, or the defaults",
    )
    parser.add_argument("--version", action="version", version=dicom_node.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    # Also behind the command, where many write it; left out there, the one before it stays.
    for one in commands.choices.values():
        one.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS,
                         help="settings, as before the command")
    return parser


def find_config(given: Path | None) -> Path | None:
    """The settings file to read, or ``None`` for the defaults."""
    if given is not None:
        return given
    if os.environ.get("DICOM_NODE_CONFIG"):
        return Path(os.environ["DICOM_NODE_CONFIG"])
    return next((path for path in _DEFAULT_FILES if path.is_file()), None)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parsed = build_parser().parse_args(arguments)
    if parsed.command not in _SHORT:
        gc.enable()
    parsed.config = find_config(parsed.config)
    # Before anything is read: what libraries say of a file may name its patient.
    configure_logging("warning", "console")
    try:
        return int(parsed.run(parsed))
    except ConfigurationError as error:
        print(f"dicom-node: configuration: {error}", file=sys.stderr)
        # Who has this host's name now may be gone in a minute: another start can find that.
        return 1 if isinstance(error, HostNameTaken) else 2
    except NodeError as error:
        hint = f"; {REBUILT_AT_START}" if isinstance(error, LedgerDamaged) else ""
        print(f"dicom-node: {error.reason}: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: not an error, and nothing left to say.
        sys.stderr.close()
        return 0
    except OSError as error:
        if parsed.command == "serve":
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"dicom-node: {where}{error.strerror or type(error).__name__}", file=sys.stderr)
        return 1


def _end_in_order_on_sigterm() -> None:
    """Let SIGTERM unwind what runs, so that temporary folders, which may hold images, are removed.

    ``serve`` has its own way. A forked child, whose parent ends it so, ends at once as it would.
    """
    command = os.getpid()

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != command:
            os.kill(os.getpid(), number)
            return
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def main() -> None:
    """Entry point of the ``dicom-node`` script."""
    _end_in_order_on_sigterm()
    code = run_command()
    # The interpreter would look through all that was imported once more before it ends.
    gc.freeze()
    sys.exit(code)
