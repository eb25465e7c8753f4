"""`Spool`: what everybody uses, whatever form the files are kept in."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from dicom_node.durable import storage_error, sync_directory
from dicom_node.errors import ConfigurationError, OutOfSpace
from dicom_node.part import Part
from dicom_node.spool.folder import FolderKept
from dicom_node.spool.incoming import Incoming, remove_left
from dicom_node.spool.kept import Kept, OnTheirWayOut, Refused, StoredFile
from dicom_node.spool.names import check_inside, host_folder, instance_path, result_path

QUARANTINE_LIMIT_BYTES = 2 << 30
_SPACE_CACHE_S = 0.2
# Of a half-received file that nobody has written to: its host does not come back.
_LEFT_FOR_S = 86_400.0


class Spool:
    """The files of a node; safe for many threads and processes at once.

    Parameters
    ----------
    root
        The folder of this host; made when absent. Without ``kept`` it is also where files stay.
    refuse_below_free_bytes
        `check_space` refuses when less than this would stay free.
    quarantine_limit_bytes
        When the quarantine holds this much, what belongs there is refused (0xA700) instead,
        so that its sender keeps it.
    host
        Given where several hosts share the folder: then it receives in a folder of its own.
    kept
        Where files stay, when that is not ``root``.

    Attributes
    ----------
    quarantined, leaving
        What was refused, and what is being removed.
    """

    def __init__(
        self,
        root: Path,
        refuse_below_free_bytes: int = 0,
        quarantine_limit_bytes: int = QUARANTINE_LIMIT_BYTES,
        *,
        host: str = "",
        kept: Kept | None = None,
    ) -> None:
        self.root = Path(root)
        self._refuse_below_free_bytes = refuse_below_free_bytes
        self._free_bytes = (0.0, 0)
        folder = f"{self.root}/incoming" + (f"/{host_folder(host)}" if host else "")
        names = [] if kept else ["instances", "outbox", "quarantine"]
        _make_folders(
            self.root, [Path(folder), *(self.root / name for name in names)],
            "storage.spool" if host else "node.data_dir",
        )
        self._incoming = Incoming(folder, are_unique=kept is not None)
        self._kept = kept or FolderKept(self.root, quarantine_limit_bytes, is_shared=bool(host))

    @property
    def quarantined(self) -> Refused:
        """What was refused."""
        return self._kept.quarantined

    @property
    def leaving(self) -> OnTheirWayOut:
        """What is being removed; for one thread of one process at a time."""
        return self._kept.leaving

    @property
    def scratch(self) -> Path:
        """A folder of this host for files that nobody needs after a restart."""
        return Path(self._incoming.folder)

    def check_space(self, expected_bytes: int = 0) -> None:
        """Raise `OutOfSpace` when the disk is at its watermark (read at most 5 times a second)."""
        if self._is_short(expected_bytes):
            self._kept.make_room()
            self.forget_space()
        if self._is_short(expected_bytes):
            raise OutOfSpace("free space is below storage.refuse_below_free_bytes")

    def _is_short(self, expected_bytes: int) -> bool:
        return self.free_bytes() - expected_bytes < self._refuse_below_free_bytes

    def free_bytes(self) -> int:
        """Room for what is being received, at most 0.2 s old; raises `StorageFailed`."""
        read_at, free_bytes = self._free_bytes
        now = time.monotonic()
        if now - read_at > _SPACE_CACHE_S or not read_at:
            try:
                found = os.statvfs(self.root)
            except OSError as failure:
                raise storage_error(failure) from failure
            free_bytes = found.f_bavail * found.f_frsize
            self._free_bytes = (now, free_bytes)
        return free_bytes

    def free_for_kept_bytes(self) -> int:
        """Room for what is kept; raises `StorageFailed`."""
        return self._kept.free_bytes()

    def forget_space(self) -> None:
        """Make the next `check_space` look again."""
        self._free_bytes = (0.0, 0)

    def begin(self, association_id: str) -> Part:
        """A new empty file that is being received; raises `OutOfSpace` or `StorageFailed`.

        The open file is locked: `clean_incoming` of another process leaves it alone.
        """
        return self._incoming.begin(association_id)

    def commit(
        self,
        part: Part,
        study_instance_uid: str,
        series_instance_uid: str,
        sop_instance_uid: str,
    ) -> StoredFile:
        """Make `part` a kept instance; returns when it is kept for good, under its name.

        Identical bytes already kept stay untouched; different ones under the same name are
        replaced at once and go to quarantine. The part is gone afterwards, also on failure.

        Raises
        ------
        OutOfSpace, StorageFailed
            Not kept for good. It may stand under its name, whole, all the same; a sender that
            tries again finds it identical.
        """
        relative = instance_path(study_instance_uid, series_instance_uid, sop_instance_uid)
        try:
            return self._kept.keep(part, relative)
        finally:
            part.discard()

    def quarantine(
        self, part_or_path: Part | Path | str, reason: str, detail: str,
        sender: Mapping[str, str] = MappingProxyType({}),
    ) -> str:  # fmt: skip
        """Move a refused file to the quarantine and return its path relative to the spool.

        The same bytes are kept once, however often they come. `reason` is a stable code and
        `detail` a sentence of ours: neither holds patient data. `sender` is written beside them.

        Raises
        ------
        OutOfSpace
            The quarantine is full (nothing was moved; a part is removed).
        StorageFailed
        """
        part = part_or_path if isinstance(part_or_path, Part) else None
        path = part.path if part else str(part_or_path)
        try:
            if part:
                part.flush()
                part.make_common()
                part.finish()
            name = self.quarantined.add(path, reason, detail, sender)
            if part is None:
                os.unlink(path)
        except OSError as failure:
            raise storage_error(failure) from failure
        finally:
            if part:
                part.discard()
        return name

    def quarantine_kept(self, relative: str, reason: str, detail: str) -> str:
        """Move what is kept under this path to the quarantine; raises as `quarantine`."""
        path = self.resolve(relative)
        try:
            name = self.quarantined.add(str(path), reason, detail)
        except OSError as failure:
            raise storage_error(failure) from failure
        self.remove(relative)
        return name

    def resolve(self, relative: str) -> Path:
        """A file of this host that holds what is kept under a relative path.

        It is for reading, and may be gone some minutes later where files are kept elsewhere. Where
        nothing is kept there is no such file. Anything outside the spool is refused.

        Raises
        ------
        PermanentError
            The path leads out of the spool.
        OutOfSpace, StorageFailed
            It could not be brought here.
        """
        return self.resolve_all([relative])[0]

    def resolve_all(self, relatives: Sequence[str]) -> list[Path]:
        """As `resolve`, for many: what is kept elsewhere is brought here side by side."""
        for relative in relatives:
            check_inside(relative)
        return self._kept.local(relatives)

    def prefetch(self, relatives: Sequence[str]) -> None:
        """Begin to bring here what `resolve` will be asked for soon; never raises."""
        self._kept.prefetch(relatives)

    def has(self, relative: str) -> bool:
        """Whether there is a file under this relative path."""
        return self.look(relative) is not None

    def look(self, relative: str) -> StoredFile | None:
        """What is kept under this relative path now; raises `StorageFailed`."""
        check_inside(relative)
        return self._kept.look(relative)

    def check_usable(self) -> None:
        """Find out whether the place where files are kept keeps them as it must.

        Raises
        ------
        ConfigurationError, StorageFailed
        """
        self._kept.check_usable()

    def keeps_what_is_deleted(self) -> bool:
        """Whether versions of what is deleted stay behind, as far as that is known."""
        return self._kept.keeps_what_is_deleted()

    def marker(self) -> str:
        """What tells the place where files are kept from others; empty: it has none."""
        return self._kept.marker()

    def mark(self, identity: str) -> str:
        """Mark that place unless it is marked; its marker. Raises `StorageFailed`."""
        return self._kept.mark(identity)

    def has_any(self) -> bool:
        """Whether an image was ever kept here, as far as can be seen."""
        return self._kept.has_any()

    def stored(self) -> Iterator[str]:
        """Relative path of every kept instance."""
        return (path for path, _ in self._kept.in_order())

    def stored_in_order(self) -> Iterator[tuple[str, str]]:
        """Relative path and fingerprint of every kept instance, in byte order of the paths."""
        return self._kept.in_order()

    def results(self) -> Iterator[tuple[str, float]]:
        """Relative path and time of writing (seconds since the epoch) of every result."""
        return self._kept.results()

    def clean_incoming(self) -> int:
        """Remove the half-received files of this host's processes that are gone; how many."""
        return self._incoming.clean()

    def clean_left_incoming(self) -> int:
        """Remove what any host left half received a day ago or longer; returns how many files.

        None of them was acknowledged: that is done under the name of a kept file only. A host that
        is alive has them open for as long as an association may be silent, which is minutes.
        """
        return remove_left(f"{self.root}/incoming", _LEFT_FOR_S)

    def clean_outbox(self) -> int:
        """Remove results that were half written when the node ended; returns how many.

        Only for the one process that writes results, before it does.
        """
        return self._kept.clean()

    def put_result(
        self, job_id: str, sop_instance_uid: str, write: Callable[[BinaryIO], object]
    ) -> str:
        """Keep one result below ``outbox``, durable on return, and return its relative path.

        An object that is there stays as it is, whatever is given now: it may have been sent, and
        one SOP Instance UID must never name two contents.
        """
        relative = result_path(job_id, sop_instance_uid)
        self._kept.keep_result(relative, write)
        return relative

    def remove(self, relative: str) -> None:
        """Remove a kept file; absent is fine."""
        check_inside(relative)
        self._kept.remove(relative)


def _make_folders(root: Path, folders: Sequence[Path], key_path: str) -> None:
    try:
        # Images of patients are in it; one that is there is its administrator's to close.
        root.mkdir(mode=0o750, parents=True, exist_ok=True)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        sync_directory(str(root))
    except PermissionError as error:
        # Somebody else made it: root, as a rule, by trying the node out.
        raise ConfigurationError(
            f"{error.filename or root} belongs to another user; expected all below "
            f"{key_path} to be the node's", key_path=key_path,
        ) from error
    except OSError as error:
        if error.errno != errno.EROFS:
            raise storage_error(error) from error
        raise ConfigurationError(
            f"{root} can only be read: it is mounted so, or the service may write elsewhere only "
            f"(under systemd: ReadWritePaths={root})", key_path=key_path,
        ) from error
