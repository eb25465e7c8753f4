"""Kept files in a folder: of this host, or of a file system that several hosts mount.

A file enters ``instances`` or ``outbox`` by one order only: write, sync the file, give it its
name, sync the directory. A name is therefore never that of half a file, whenever power is lost.

Two files are identical when transfer syntax and data set bytes are equal: the file meta may
differ, because it names the sender.

Nothing here relies on locks: between hosts they hold on some file systems only. What has to be
one's alone is a name that is given by a hard link, which fails everywhere when the name is taken.
"""

from __future__ import annotations

import errno
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dicom_node.durable import DirectorySync, storage_error, write_once
from dicom_node.errors import ConfigurationError, StorageFailed
from dicom_node.part import Part, same_data_set
from dicom_node.spool.kept import StoredFile
from dicom_node.spool.leaving import Leaving
from dicom_node.spool.names import INSTANCES, OUTBOX, outside
from dicom_node.spool.quarantine import Quarantine

_KNOWN_DIRECTORIES = 4096
_PLACED_AT_MOST = 3
# Who has begun to replace a file and has not done so for this long is gone.
_CLAIM_IS_OLD_S = 60.0
_CLAIM_WAITED_FOR_S, _CLAIM_PAUSE_S = 10.0, 0.02
# Half a result of another host, whose clock may be wrong: it is written within seconds.
_HALF_IS_OLD_S = 3600.0


class FolderKept:
    """A folder of kept files; safe for many threads, processes and hosts at once.

    Parameters
    ----------
    root
        With the folders ``instances``, ``outbox`` and ``quarantine``.
    quarantine_limit_bytes
        When the quarantine holds this much, it takes no more.
    is_shared
        Whether other hosts write here too.
    """

    def __init__(
        self, root: Path, quarantine_limit_bytes: int, *, is_shared: bool = False
    ) -> None:
        self._folder = root
        self._is_shared = is_shared
        self._root = str(root)
        self._sync = DirectorySync()
        self._known: set[str] = set()
        self.quarantined = Quarantine(
            f"{self._root}/quarantine", quarantine_limit_bytes, self._sync
        )
        self.leaving = Leaving(root, self.quarantined)

    def keep(self, part: Part, relative: str) -> StoredFile:
        """As `dicom_node.spool.kept.Kept.keep`.

        Identical bytes already kept stay untouched; different ones under the same name are
        replaced at once and go to quarantine.
        """
        target = f"{self._root}/{relative}"
        try:
            part.finish()
            outcome, found = self._keep(part, target)
        except OSError as failure:
            raise storage_error(failure) from failure
        return _stored(relative, found, outcome)

    def _keep(self, part: Part, target: str) -> tuple[str, os.stat_result]:
        """Place the file until it stands under its name when that is durable.

        Otherwise its study was set aside meanwhile, because it is to be removed
        (`dicom_node.spool.leaving`): what is answered for must not go with it.
        """
        series = os.path.dirname(target)
        for _ in range(_PLACED_AT_MOST):
            try:
                self._ensure_directory(series)
                outcome = self._place(part, target, series)
                self._sync.sync(series)
                return outcome, os.stat(target)
            except FileNotFoundError:
                self._known.discard(series)
        raise FileNotFoundError(errno.ENOENT, "its folder is taken away again and again")

    def _ensure_directory(self, series: str) -> None:
        """Make the folders of study and series durable, once per process and series."""
        if series in self._known:
            return
        study = os.path.dirname(series)
        for directory, parent in ((study, f"{self._root}/{INSTANCES}"), (series, study)):
            os.makedirs(directory, exist_ok=True)
            self._sync.sync(parent)
        if len(self._known) >= _KNOWN_DIRECTORIES:
            self._known.clear()
        self._known.add(series)

    def _place(self, part: Part, target: str, series: str) -> str:
        # A hard link, unlike a rename, fails when the name is taken, also by another process.
        try:
            os.link(part.path, target)
            return "new"
        except FileExistsError:
            return self._replace(part, target, series)
        except FileNotFoundError:
            self._known.discard(series)
            self._ensure_directory(series)
        try:
            os.link(part.path, target)
        except FileExistsError:
            return self._replace(part, target, series)
        return "new"

    def _replace(self, part: Part, target: str, series: str) -> str:
        """Put the file in the place of another, which goes to quarantine first.

        Whoever replaces gives the new file the name ``<target>.next`` before it looks at the old
        one: so only one does at a time. A file system of several hosts may answer that a name is
        taken when it was us who took it and the first answer was lost: the same file is ours.
        """
        if _is_one(part.path, target):
            return "new"
        claim = f"{target}.next"
        until_s = time.monotonic() + _CLAIM_WAITED_FOR_S
        while True:
            if _same_and_noticed(part, target, series):
                return "identical"
            try:
                os.link(part.path, claim)
            except FileExistsError:
                if not _is_one(part.path, claim):
                    self._wait_for(claim, until_s)
                    continue
            with suppress(FileNotFoundError):
                if self._take_place(part, claim, target):
                    return "replaced"

    def _take_place(self, part: Part, claim: str, target: str) -> bool:
        """With the claim: another may have replaced the file since it was compared."""
        try:
            if os.path.exists(target):
                if same_data_set(part, target):
                    os.unlink(claim)
                    return False
                self.quarantined.add(
                    target, "replaced", "another data set came with the same SOP Instance UID"
                )
        except BaseException:
            # Whatever it was, the next one need not wait until this claim is old.
            with suppress(OSError):
                os.unlink(claim)
            raise
        os.rename(claim, target)
        return _is_one(part.path, target)

    def _wait_for(self, claim: str, until_s: float) -> None:
        if time.monotonic() > until_s:
            raise StorageFailed(
                "another process is replacing this instance", reason="storage.being_replaced"
            )
        with suppress(FileNotFoundError):
            # By the clock of the file system: those of two hosts may differ.
            probe = f"{claim}.{os.getpid()}-{time.monotonic_ns()}"
            Path(probe).touch()
            try:
                age_s = os.stat(probe).st_mtime - os.stat(claim).st_ctime
                if age_s > _CLAIM_IS_OLD_S:
                    os.unlink(claim)
                    return
            finally:
                os.unlink(probe)
        time.sleep(_CLAIM_PAUSE_S)

    def keep_result(self, relative: str, write: Callable[[BinaryIO], object]) -> None:
        """As `dicom_node.spool.kept.Kept.keep_result`."""
        target = self._folder / relative
        try:
            target.parent.mkdir(exist_ok=True)
            write_once(str(target), write)
            self._sync.sync(str(target.parent))
            self._sync.sync(str(target.parent.parent))
        except OSError as failure:
            raise storage_error(failure) from failure

    def local(self, relatives: Sequence[str]) -> list[Path]:
        """The files themselves; one that a link leads out of the folder is refused."""
        return [self._inside(one) for one in relatives]

    def _inside(self, relative: str) -> Path:
        path = (self._folder / relative).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise outside()
        return path

    def prefetch(self, relatives: Sequence[str]) -> None:
        """Nothing: they are here."""

    def look(self, relative: str) -> StoredFile | None:
        """As `dicom_node.spool.kept.Kept.look`."""
        try:
            found = os.stat(self._folder / relative)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as failure:
            raise storage_error(failure) from failure
        return _stored(relative, found, "identical")

    def in_order(self) -> Iterator[tuple[str, str]]:
        """As `dicom_node.spool.kept.Kept.in_order`."""
        start = len(self._root) + 1
        for study in _in_order(f"{self._root}/{INSTANCES}"):
            for series in _in_order(study):
                found: list[tuple[str, os.stat_result]] = []
                with suppress(FileNotFoundError), os.scandir(series) as entries:
                    found = [
                        (entry.path[start:], entry.stat())
                        for entry in entries
                        if entry.name.endswith(".dcm")
                    ]
                for path, status in sorted(found, key=lambda one: one[0]):
                    yield path, fingerprint(status)

    def results(self) -> Iterator[tuple[str, float]]:
        """As `dicom_node.spool.kept.Kept.results`."""
        start = len(self._root) + 1
        for job in _directories(f"{self._root}/{OUTBOX}"):
            with suppress(FileNotFoundError), os.scandir(job) as entries:
                for entry in entries:
                    if entry.name.endswith(".dcm"):
                        yield entry.path[start:], entry.stat().st_mtime

    def has_any(self) -> bool:
        """Whether there is a folder of a study."""
        return bool(_directories(f"{self._root}/{INSTANCES}"))

    def clean(self) -> int:
        """Only for the one process of a host that writes results, before it does."""
        removed = 0
        before = time.time() - _HALF_IS_OLD_S if self._is_shared else math.inf
        for path in (self._folder / OUTBOX).glob("*/*"):
            if path.suffix in (".tmp", ".new"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        removed += 1
        return removed

    def remove(self, relative: str) -> None:
        """Remove a kept file and the directories that it leaves empty; absent is fine."""
        path = self._folder / relative
        try:
            path.unlink(missing_ok=True)
            keep = {self._folder / name for name in (INSTANCES, OUTBOX)}
            for parent in path.parents:
                if parent in keep or not parent.is_relative_to(self._folder):
                    break
                parent.rmdir()
        except OSError as failure:
            if failure.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise storage_error(failure) from failure

    def free_bytes(self) -> int:
        """Free space of the file system."""
        try:
            found = os.statvfs(self._root)
        except OSError as failure:
            raise storage_error(failure) from failure
        return found.f_bavail * found.f_frsize

    def make_room(self) -> None:
        """Nothing: there are no copies."""

    def check_usable(self) -> None:
        """Give a file a second name, without which nothing here holds.

        Raises
        ------
        ConfigurationError
            The file system has no hard links.
        StorageFailed
        """
        names = [f"{self._root}/.probe-{secrets.token_hex(8)}" for _ in range(2)]
        try:
            Path(names[0]).touch(exist_ok=False)
            os.link(*names)
        except OSError as failure:
            if failure.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise ConfigurationError(
                    "the file system gives no second name to a file (hard link); expected one "
                    "that does, such as NFS", key_path="storage.spool", reason="spool.no_links",
                ) from failure
            raise storage_error(failure) from failure
        finally:
            for name in names:
                Path(name).unlink(missing_ok=True)

    def keeps_what_is_deleted(self) -> bool:
        """Not that anybody here would know."""
        return False

    def marker(self) -> str:
        """As `dicom_node.spool.kept.Kept.marker`."""
        with suppress(FileNotFoundError):
            return (self._folder / "spool-id").read_text("ascii").strip()
        return ""

    def mark(self, identity: str) -> str:
        """As `dicom_node.spool.kept.Kept.mark`."""
        try:
            write_once(
                str(self._folder / "spool-id"), lambda file: file.write(identity.encode("ascii"))
            )
            self._sync.sync(self._root)
            return self.marker()
        except OSError as failure:
            raise storage_error(failure) from failure


def fingerprint(status: os.stat_result) -> str:
    """Another one when the file is replaced."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _stored(relative: str, found: os.stat_result, outcome: str) -> StoredFile:
    return StoredFile(relative, found.st_size, fingerprint(found), outcome, found.st_mtime)


def _is_one(path: str, other: str) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samefile(path, other)
    return False


def _same_and_noticed(part: Part, target: str, series: str) -> bool:
    """Whether the same is kept; then the folder shows that it came again."""
    folder = os.open(series, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not os.path.exists(target) or not same_data_set(part, target):
            return False
        # Whoever is about to remove the study must notice that it comes again.
        os.utime(folder)
        return True
    finally:
        os.close(folder)


def _directories(path: str) -> list[str]:
    """Those in a directory; none of one that was set aside since it was seen."""
    with suppress(FileNotFoundError), os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _in_order(path: str) -> list[str]:
    # As the names of the files below them compare: "1.2/..." comes after "1.2.3/...".
    return sorted(_directories(path), key=lambda one: f"{one}/")
