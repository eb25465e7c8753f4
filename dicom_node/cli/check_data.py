"""What `check` says of settings, ledger, audit trail and tokens."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.cli.opened import (
    REBUILT_AT_START,
    is_ledger_to_come,
    ledger_url,
    running_roles,
)
from dicom_node.errors import LedgerDamaged, StorageFailed
from dicom_node.operations import doctor_host
from dicom_node.operations.doctor import Finding, failed, ok, warning

if TYPE_CHECKING:
    from dicom_node.config import Config

LEDGER_TODO = "if it is PostgreSQL: is the server up, and may this user connect?"


def settings(config: Config, file: Path | None) -> Finding:
    """What was read, and whether anything is done by it."""
    read = f"{file}: " if file else "no file, all defaults: "
    if not config.rules:
        return warning("settings", read + "no rules: every series would be declined",
                       "rules: in the settings; `dicom-node init` writes an example")
    peers = f"{len(config.peers)} peer(s)"
    callers = "anyone" if config.access.accept_unknown_callers else peers
    text = f"{read}{len(config.rules)} rule(s), {callers} may call {config.node.ae_title}"
    if file is not None and _has_a_password(config) and _is_open(file):
        return warning("settings", f"{text}; it holds a password, and every user here can read it",
                       f"chmod 640 {file}, or database.url_file")
    if not config.peers and not config.access.accept_unknown_callers:
        return warning("settings", f"{text}: everybody is refused",
                       "peers: the scanners and the PACS, by their AE titles")
    return ok("settings", text)


def free_space(config: Config) -> Finding:
    """See `doctor_host.free_space`; with the size of a study while none is known."""
    from dicom_node.intake.pressure import UNKNOWN_BYTES

    return doctor_host.free_space(config, UNKNOWN_BYTES)


def ledger(config: Config) -> str:
    """How many series it has; raises what is wrong with it."""
    from dicom_node.ledger.database import sqlite_path
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.ledger.recovery import find_damage

    if is_ledger_to_come(config):
        return "will be created at the first start"
    path = sqlite_path(ledger_url(config))
    damage = find_damage(path) if path is not None else ""
    if damage:
        raise LedgerDamaged(f"{damage}; {REBUILT_AT_START}")
    opened = Ledger.open(ledger_url(config), read_only=path is None)
    counts = opened.receipts.count_by_state()
    opened.close()
    return f"{sum(counts.values())} series"


def hosts(config: Config) -> str | Finding:
    """Which hosts share the ledger, and whether they share what they must."""
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.node_host_facts import in_words, problem_of

    if config.database.url is None:
        return "this one alone: the ledger is a file"
    if is_ledger_to_come(config):
        return "none so far"
    opened = Ledger.open(ledger_url(config), read_only=True)
    found = opened.hosts.all()
    opened.close()
    problem = problem_of(found, config)
    if problem is not None:
        return warning("hosts", *problem)
    living = [f"{one.host_name}: {in_words(one)}" for one in found if one.lives]
    return "; ".join(living) or "none runs"


def audit(config: Config) -> str | Finding:
    """Whether the chain of the audit trail holds from its first line to its last."""
    from dicom_node.operations.audit_trail import AuditTrail

    name, folder = "audit trail", config.node.data_dir / "audit"
    if not config.security.audit.enabled:
        return warning(name, "is not written", "security.audit.enabled: true")
    if not folder.is_dir():
        return "will be begun at the first start"
    try:
        verdict = AuditTrail(folder).verify()
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be read: {error.strerror}") from error
    if verdict.problem:
        return failed(name, verdict.problem,
                      "keep the files as they are, and find out who changed them")
    text = f"{verdict.lines} lines in {verdict.files} files follow each other"
    if verdict.begins:
        text += f", from {verdict.begins} on"
    return f"{text}; {verdict.torn} were torn by a loss of power" if verdict.torn else text


def tokens(config: Config) -> str | Finding:
    """Who may look at the page; the file must be for the node and its administrator alone."""
    from dicom_node.operations.web.tokens import read_tokens

    path, name = config.web.tokens_file, "tokens"
    if not config.web.enabled:
        return "there is no web page (web.enabled)"
    if path is None:
        return "nobody: the page shows no patient data" if config.web.proxy is None else (
            "those that the proxy names"
        )
    if not path.exists():
        return warning(name, f"{path} is not there: nobody can sign in to the page",
                       "dicom-node web-token NAME")
    problem = doctor_host.secret_file(name, path, "tokens")
    if problem is not None:
        return problem
    lines = read_tokens(path)
    if running_roles(config) and not _is_readable_for(path, config.node.data_dir):
        return failed(name, f"{path} is not readable for the user of the node",
                      f"chgrp to that user's group, and chmod 640 {path}")
    return f"{len(lines)} in {path}: {', '.join(f'{one.name} ({one.role})' for one in lines)}"


def _is_readable_for(path: Path, data_dir: Path) -> bool:
    """Whether the owner of the data may read a file, by its mode."""
    node, file = data_dir.stat(), path.stat()
    mode = stat.S_IMODE(file.st_mode)
    if node.st_uid in (0, file.st_uid):
        return node.st_uid == 0 or bool(mode & 0o400)
    return bool(mode & (0o040 if node.st_gid == file.st_gid else 0o004))


def _has_a_password(config: Config) -> bool:
    url = config.database.url or ""
    return config.database.url_file is None and ":" in url.partition("://")[2].partition("@")[0]


def _is_open(file: Path) -> bool:
    return bool(file.stat().st_mode & 0o004)
