"""What `check` says of a spool that several hosts share: a folder, or an object store."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dicom_node.cli.opened import is_ledger_to_come, ledger_url
from dicom_node.operations.doctor import Finding, ok, warning

if TYPE_CHECKING:
    from dicom_node.config import Config

NAME = "spool"
TODO = "storage.spool: the same place for all hosts; docs/spool.md says what it must be"


def is_shared(config: Config) -> bool:
    """Whether there is anything to say."""
    return config.storage.spool is not None


def spool(config: Config) -> Finding:
    """Whether it can be used, and is the one that the ledger knows; raises what is wrong."""
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.node_spool import problem_of
    from dicom_node.spool import open_spool

    opened = open_spool(config)
    opened.check_usable()
    found = opened.marker()
    text = f"{config.storage.spool} can be used"
    if is_ledger_to_come(config):
        text += "; it is marked at the first start"
        return _warned(config, opened.keeps_what_is_deleted(), text)
    ledger = Ledger.open(ledger_url(config), read_only=True)
    known = ledger.places.spool()
    ledger.close()
    problem = problem_of(known, found) if known else None
    if problem is not None:
        raise problem
    text += ", and is the one that the ledger knows" if known else "; no host has marked it yet"
    return _warned(config, opened.keeps_what_is_deleted(), text)


def _warned(config: Config, is_versioned: bool, text: str) -> Finding:
    if config.storage.store is None:
        folder = Path(config.storage.spool or "")
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o007:
            return warning(
                NAME, f"{text}; it (mode {mode:o}) is open to every user of each machine that "
                "mounts it, and images of patients are in it", f"chmod 750 {folder}",
            )
        return ok(NAME, text)
    settings = config.storage.s3
    url = urlsplit(settings.endpoint_url or "https://")
    if url.scheme == "http" and url.hostname not in ("127.0.0.1", "::1", "localhost"):
        return warning(NAME, f"{text}; images go there by http, for anybody to read",
                       "storage.s3.endpoint_url: https://...")
    file = settings.credentials_file
    if file is not None and _is_open_to_others(file.stat()):
        return warning(NAME, f"{text}; {file} can be read by others than its user",
                       f"chmod 600 {file}")
    if is_versioned:
        return warning(NAME, f"{text}; the bucket keeps versions of what is deleted: images of "
                       "patients stay", "a lifecycle rule that ends noncurrent versions")
    return ok(NAME, text)


def _is_open_to_others(found: os.stat_result) -> bool:
    """Whether others than its user, root and one more account may read or change a file.

    Packages leave secrets to root and let a service read them by a group of its own, systemd by an
    access list, which shows as rights of the group root.
    """
    mode = stat.S_IMODE(found.st_mode)
    return bool(mode & 0o027 or (mode & 0o040 and len(_accounts_of(found.st_gid)) > 1))


def _accounts_of(group: int) -> set[str]:
    """Who is in a group, besides root."""
    import grp
    import pwd

    names = {one.pw_name for one in pwd.getpwall() if one.pw_gid == group}
    # One that has no name has no members by name: a container was given it for this file.
    with suppress(KeyError):
        names.update(grp.getgrgid(group).gr_mem)
    return names - {"root"}
