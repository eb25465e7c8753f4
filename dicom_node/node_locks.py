"""One node on a data directory: each role is held by one process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from dicom_node.errors import ConfigurationError


def lock_data_dir(data_dir: Path, roles: frozenset[str]) -> list[IO[str]]:
    """Hold the roles of one node on ``data_dir``: two that do the same would do it twice.

    Raises
    ------
    ConfigurationError
        When another node holds one of them, or the directory cannot be written.
    """
    locks: list[IO[str]] = []
    try:
        locks.extend(_lock(data_dir, role) for role in sorted(roles))
    except ConfigurationError:
        for lock in locks:
            lock.close()
        raise
    return locks


def _lock(data_dir: Path, role: str) -> IO[str]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        held = (data_dir / f"{role}.lock").open("a+", encoding="ascii")
    except OSError as error:
        raise ConfigurationError(
            f"{data_dir} cannot be used: {error.strerror}; expected a writable directory",
            key_path="node.data_dir",
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise ConfigurationError(
            f"another node is using {data_dir} ({role})", key_path="node.data_dir"
        ) from error
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    return held

