"""Files on their way out of the spool: set aside in one step, then deleted a few at a time.

    removing/<token>,instances,<study>/...    the images of one study
    removing/<token>,outbox,<job>/...         the results of its jobs
    removing/<token>,gone,...                 either, once the first of its files is deleted

A study leaves ``instances`` by a rename, so that whoever walks the kept files finds all of it or
none. Until the ledger has written down that it is removed, it can be put back as it was; after
that, and after a restart, the rest of it is deleted. `dicom_node.ledger.removals` says which, and
the name ``gone`` says it also where that ledger is lost: nothing comes back by half.

There are no folders within folders, because each that changes has to be synced before the ledger
may be told.
"""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dicom_node.durable import storage_error, sync_directory
from dicom_node.spool.kept import SetAside
from dicom_node.spool.quarantine import Quarantine

_FOLDER = "removing"
_GONE = "gone"


class Leaving:
    """The folder of a spool in which files wait to be deleted; for one thread of one process.

    Parameters
    ----------
    root
        The folder of the spool.
    quarantine
        Where what cannot have its name back goes.
    """

    def __init__(self, root: Path, quarantine: Quarantine) -> None:
        self._root = Path(root)
        self._quarantine = quarantine
        self._folder = self._root / _FOLDER

    def tokens(self) -> list[str]:
        """What is here, whether or not it is removed already."""
        return sorted({folder.name.partition(",")[0] for folder in self._all()})

    def _all(self) -> list[Path]:
        try:
            return sorted(self._folder.iterdir())
        except FileNotFoundError:
            return []

    def _of(self, token: str) -> list[Path]:
        return [folder for folder in self._all() if folder.name.startswith(f"{token},")]

    def fingerprints(self, study: str) -> dict[str, str]:
        """Those of the images of a study (a folder below ``instances``), by path.

        Raises
        ------
        StorageFailed
        """
        try:
            return _fingerprints(self._root / "instances" / study, f"instances/{study}")
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
            if not self._folder.exists():
                self._folder.mkdir(exist_ok=True)
                sync_directory(str(self._root))
            changed = {self._folder}
            for kind, names in (("instances", (study,)), ("outbox", jobs)):
                for name in names:
                    if self._move(kind, name, token):
                        changed.add(self._root / kind)
            for folder in sorted(changed):
                sync_directory(str(folder))
            return self._look_at(token)
        except OSError as failure:
            raise storage_error(failure) from failure

    def _move(self, kind: str, name: str, token: str) -> bool:
        try:
            os.rename(self._root / kind / name, self._folder / f"{token},{kind},{name}")
        except FileNotFoundError:
            return False
        return True

    def _look_at(self, token: str) -> SetAside:
        fingerprints: dict[str, str] = {}
        size_bytes = 0
        last_came_at = 0.0
        for folder in self._of(token):
            _, kind, name = folder.name.split(",", 2)
            size_bytes += sum(path.stat().st_size for path in _files(folder))
            if kind == "instances":
                fingerprints = _fingerprints(folder, f"instances/{name}")
                last_came_at = max((one.stat().st_mtime for one in folder.iterdir()), default=0.0)
        return SetAside(fingerprints, size_bytes, last_came_at)

    def put_back(self, token: str) -> None:
        """Give every file of this its former name, or the quarantine where another has that name.

        Names are durable before the others are gone, so that this can be cut off anywhere and
        done again.

        Raises
        ------
        StorageFailed, OutOfSpace
        """
        try:
            for folder in self._of(token):
                _, kind, name = folder.name.split(",", 2)
                if kind != _GONE:
                    self._give_back(folder, self._root / kind / name)
                    sync_directory(str(self._root / kind))
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
        changed = {target}
        for path in list(_files(folder)):
            name = target / path.relative_to(folder)
            name.parent.mkdir(parents=True, exist_ok=True)
            changed.add(name.parent)
            try:
                os.link(path, name)
            except FileExistsError:
                self._keep_former(path, name)
        # Once each: the main loop waits for it, and a series may have thousands of files.
        for one in sorted(changed):
            sync_directory(str(one))

    def _keep_former(self, path: Path, name: Path) -> None:
        """As when an image comes that is another than the one of the same UID."""
        if not filecmp.cmp(path, name, shallow=False):
            self._quarantine.add(
                str(path), "replaced", "another data set came with the same SOP Instance UID"
            )

    def discard(self, token: str, most: int | None = None) -> bool:
        """Delete what is set aside, or ``most`` files of it; whether all of it is gone.

        Raises
        ------
        StorageFailed
        """
        left = most
        try:
            self._mark(token)
            for folder in self._of(token):
                for path in _files(folder):
                    if left == 0:
                        return False
                    path.unlink(missing_ok=True)
                    left = None if left is None else left - 1
                for inner, _, _ in os.walk(folder, topdown=False):
                    os.rmdir(inner)
        except OSError as failure:
            raise storage_error(failure) from failure
        return True

    def may_begin(self, token: str) -> bool:
        """At once: nobody else sees what is set aside."""
        return True

    def _mark(self, token: str) -> None:
        """Before the first file is deleted: what is left of this is put back no more."""
        kept = [one for one in self._of(token) if not one.name.startswith(f"{token},{_GONE},")]
        for folder in kept:
            os.rename(folder, folder.with_name(f"{token},{_GONE},{folder.name.split(',', 1)[1]}"))
        if kept:
            sync_directory(str(self._folder))


def _fingerprints(folder: Path, relative: str) -> dict[str, str]:
    """Those of the images in a folder that is ``relative`` in the spool."""
    found = {}
    for path in _files(folder):
        if path.suffix == ".dcm":
            status = path.stat()
            name = f"{relative}/{path.relative_to(folder)}"
            found[name] = f"{status.st_size}-{status.st_mtime_ns}"
    return found


def _files(folder: Path) -> Iterator[Path]:
    for inner, _, names in os.walk(folder):
        for name in names:
            yield Path(inner) / name
