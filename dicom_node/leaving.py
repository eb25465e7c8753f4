"""Files on their way out of the spool: set aside in one step, then deleted a few at a time.

    removing/<token>/instances/<study>/...    the images of one study
    removing/<token>/outbox/<job>/...         the results of its jobs

A study leaves ``instances`` by a rename, so that whoever walks the kept files finds all of it or
none. Until the ledger has written down that it is removed, it can be put back as it was; after
that, and after a restart, the rest of it is deleted. `dicom_node.ledger.removals` says which.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.durable import storage_error, sync_directory

_FOLDER = "removing"


@dataclass(frozen=True)
class SetAside:
    """What was set aside: fingerprint by the relative path that each image had, and all bytes."""

    fingerprints: dict[str, str]
    size_bytes: int


class Leaving:
    """The folder of a spool in which files wait to be deleted; for one thread of one process.

    Parameters
    ----------
    root
        The folder of the spool.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        self._folder = self._root / _FOLDER

    def tokens(self) -> list[str]:
        """What is here, whether or not it is removed already."""
        try:
            return sorted(entry.name for entry in os.scandir(self._folder))
        except FileNotFoundError:
            return []

    def fingerprints(self, study: str) -> dict[str, str]:
        """Those of the images of a study (a folder below ``instances``), by path.

        Raises
        ------
        StorageFailed
        """
        try:
            return _fingerprints(self._root, self._root / "instances" / study)
        except OSError as failure:
            raise storage_error(failure) from failure

    def set_aside(self, token: str, study: str, jobs: Iterable[str]) -> SetAside:
        """Take the folders of a study and of its jobs out of the spool; durable on return.

        ``study`` and ``jobs`` are names of folders below ``instances`` and ``outbox``; those that
        are not there are passed over.

        Raises
        ------
        StorageFailed, OutOfSpace
            Part of it may be set aside: it is to be put back.
        """
        try:
            place = self._folder / token
            for name in ("instances", "outbox"):
                (place / name).mkdir(parents=True, exist_ok=True)
            self._move(f"instances/{study}", place)
            for job in jobs:
                self._move(f"outbox/{job}", place)
            for folder in (place / "instances", place / "outbox", place, self._folder):
                sync_directory(str(folder))
            for name in ("instances", "outbox"):
                sync_directory(str(self._root / name))
            return self._look_at(place)
        except OSError as failure:
            raise storage_error(failure) from failure

    def _move(self, relative: str, place: Path) -> None:
        try:
            os.rename(self._root / relative, place / relative)
        except FileNotFoundError:
            return

    def _look_at(self, place: Path) -> SetAside:
        size_bytes = sum(path.stat().st_size for path in _files(place))
        return SetAside(_fingerprints(place, place / "instances"), size_bytes)

    def put_back(self, token: str) -> None:
        """Give every file of this its former name, unless another has come under that name.

        Names are durable before the others are gone, so that this can be cut off anywhere and
        done again.

        Raises
        ------
        StorageFailed, OutOfSpace
        """
        place = self._folder / token
        try:
            for name in ("instances", "outbox"):
                for folder in _folders(place / name):
                    self._give_back(folder, self._root / name / folder.name)
                sync_directory(str(self._root / name))
        except OSError as failure:
            raise storage_error(failure) from failure
        self.discard(token)

    def _give_back(self, folder: Path, target: Path) -> None:
        try:
            os.rename(folder, target)
            return
        except OSError as failure:
            if failure.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        # Something has come under the same name meanwhile: file by file beside it.
        for path in list(_files(folder)):
            name = target / path.relative_to(folder)
            name.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.link(path, name)
            sync_directory(str(name.parent))
        sync_directory(str(target))

    def discard(self, token: str, most: int | None = None) -> bool:
        """Delete what is set aside, or ``most`` files of it; whether all of it is gone.

        Raises
        ------
        StorageFailed
        """
        place = self._folder / token
        try:
            for number, path in enumerate(_files(place)):
                if number == most:
                    return False
                path.unlink(missing_ok=True)
            for folder, _, _ in os.walk(place, topdown=False):
                os.rmdir(folder)
        except OSError as failure:
            raise storage_error(failure) from failure
        return True


def _fingerprints(root: Path, folder: Path) -> dict[str, str]:
    found = {}
    for path in _files(folder):
        if path.suffix == ".dcm":
            status = path.stat()
            found[str(path.relative_to(root))] = f"{status.st_size}-{status.st_mtime_ns}"
    return found


def _folders(place: Path) -> list[Path]:
    return sorted(place.iterdir()) if place.is_dir() else []


def _files(place: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(place):
        for name in names:
            yield Path(folder) / name
