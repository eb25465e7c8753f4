"""The machine under a node: its clock, its limits, and the disks of its data and its images."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import shutil
import stat
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from dicom_node.config import Config
from dicom_node.errors import ConfigurationError, OutOfSpace
from dicom_node.operations.doctor import Finding, failed, ok, warning

_WRITE_BYTES, _SYNCS = 32 << 20, 20
# An image is answered after two syncs: below that a modality waits for the node.
_SLOWEST_MB_S, _SLOWEST_SYNC_S = 40.0, 0.03
_FEWEST_FILES = 50_000
# Of timex: error of the status word, and where that stands in the structure (adjtimex(2)).
_UNSYNCHRONISED, _TIME_ERROR, _STATUS_OFFSET, _TIMEX_BYTES = 0x40, 5, 40, 208
_FILES_PER_ASSOCIATION, _OTHER_FILES = 4, 256


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def folder_of_images(config: Config) -> Path:
    """Where images are written: the folder of ``storage.spool``, or else ``node.data_dir``."""
    storage = config.storage
    if storage.spool is None or storage.store is not None:
        return config.node.data_dir
    return Path(storage.spool)


def data_dir(config: Config) -> Finding:
    """Whether this user can write there, and whether all in it belongs to the same user."""
    name, folder = "data_dir", config.node.data_dir
    there = existing(folder)
    closed = closed_to_this_user(config)
    if closed is not None:
        return _closed(name, folder, closed)
    if not os.access(there, os.W_OK | os.X_OK):
        me = _user(os.geteuid())
        return failed(name, f"{there} is not writable for {me}",
                      f"as root: install -d -o {me} -m 750 {folder}; or, where the node runs as "
                      "another user: sudo -u THAT_USER dicom-node check")
    if there != folder:
        return ok(name, f"{folder}, which the first start makes")
    owner = folder.stat().st_uid
    strangers = [path for path in _first_levels(folder) if path.lstat().st_uid != owner]
    if strangers:
        return failed(
            name,
            f"{folder} belongs to {_user(owner)}, and {strangers[0]} to "
            f"{_user(strangers[0].lstat().st_uid)}, as {len(strangers)} of what is in it",
            f"chown -R {_user(owner)} {folder}",
        )
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o007:
        return warning(
            name, f"{folder} (mode {mode:o}) is open to every user of this machine, and images "
            "of patients are in it", f"chmod 750 {folder}",
        )
    return ok(name, f"{folder}, of {_user(owner)}, mode {mode:o}")


def closed_to_this_user(config: Config) -> Path | None:
    """What of the data this user may not read and write; ``None``: nothing of it.

    Whatever else looks into the data would find the same, and take it for damage.
    """
    folder = config.node.data_dir
    if not folder.exists():
        return None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return folder
    parts = [folder / name for name in ("ledger.db", "audit", "spool")]
    return next(
        (one for one in parts if one.exists() and not os.access(one, os.R_OK | os.W_OK)), None
    )


def _closed(name: str, folder: Path, closed: Path) -> Finding:
    me, owner = _user(os.geteuid()), _user(closed.stat().st_uid)
    text = f"{closed} belongs to {owner} and is closed to {me}; nothing more was checked"
    if owner == me:
        return failed(name, text, f"chmod -R u+rwX {folder}")
    return failed(
        name, text, f"sudo -u {owner} dicom-node check, if the node runs as {owner}; if it is to "
        f"run as {me}, as root: chown -R {me} {folder}",
    )


def file_system(config: Config) -> Finding:
    """Whether the data lie on a disk of this machine."""
    from dicom_node.ledger.database import refuse_network_file_system

    name = "file system"
    try:
        refuse_network_file_system(existing(config.node.data_dir))
    except ConfigurationError as error:
        if config.database.url is None:
            raise
        return warning(name, f"the spool: {error}", "keep node.data_dir on a local disk: what is "
                       "acknowledged is kept only as well as this file system keeps it")
    return ok(name, f"{existing(config.node.data_dir)} is on a local disk")


def free_space(config: Config, next_study_bytes: int) -> Finding:
    """How much room there is above the line under which images are refused."""
    name, folder = "free space", existing(folder_of_images(config))
    free_bytes = shutil.disk_usage(folder).free
    watermark_bytes = config.storage.refuse_below_free_bytes
    text = f"{free_bytes / 2**30:.1f} GiB free for {folder}, images are refused below "
    text += f"{watermark_bytes / 2**30:.1f} GiB"
    if free_bytes <= watermark_bytes:
        raise OutOfSpace(text)
    todo = "make room, or lower storage.refuse_below_free_bytes"
    if watermark_bytes and free_bytes - watermark_bytes < next_study_bytes:
        text += "; new associations may be refused: a study may not fit above that"
        return warning(name, text, todo)
    make_room_bytes = config.storage.make_room_below_free_bytes
    if free_bytes < make_room_bytes:
        text += (f"; below {make_room_bytes / 2**30:.1f} GiB studies that were delivered go before "
                 "their time (storage.keep_delivered_for_h)")
        return warning(name, text, "make room, or lower storage.make_room_below_free_bytes")
    room = os.statvfs(folder)
    if room.f_files and room.f_favail < _FEWEST_FILES:
        return warning(name, f"{text}; room for {room.f_favail} more files only (inodes)",
                       "a file system made with more inodes: each image is a file")
    return ok(name, text)


def disk_speed(config: Config) -> Finding:
    """How fast 32 MiB are on the disk, and how long one small write takes to be there."""
    name, folder = "disk speed", folder_of_images(config)
    if not folder.is_dir():
        return ok(name, "not measured: the directory is made by the first start")
    if shutil.disk_usage(folder).free < 8 * _WRITE_BYTES:
        return warning(name, "not measured: the disk is nearly full", "make room")
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        block = os.urandom(1 << 20)
        began = time.monotonic()
        for _ in range(_WRITE_BYTES >> 20):
            file.write(block)
        os.fsync(file.fileno())
        mb_s = _WRITE_BYTES / 1e6 / max(time.monotonic() - began, 1e-6)
        latencies = []
        for _ in range(_SYNCS):
            began = time.monotonic()
            file.write(block[:4096])
            os.fdatasync(file.fileno())
            latencies.append(time.monotonic() - began)
    sync_s = statistics.median(latencies)
    text = f"{folder}: {mb_s:.0f} MB/s, and {sync_s * 1000:.1f} ms until a small write is on disk"
    if mb_s < _SLOWEST_MB_S or sync_s > _SLOWEST_SYNC_S:
        return warning(name, f"{text}: senders will wait for it",
                       "an SSD, and for a file server a cache that outlives a power cut; look for "
                       "other load on this disk")
    return ok(name, text)


def clock() -> Finding:
    """Whether something keeps the clock right; DICOM has no way to ask a peer what time it is."""
    name = "clock"
    shown = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    synchronised = _is_synchronised()
    if synchronised is None:
        return warning(name, f"{shown}; whether it is kept right cannot be seen here",
                       "see that the host runs chrony or systemd-timesyncd")
    if not synchronised:
        return warning(
            name, f"{shown}; nothing keeps it right (NTP), and results carry its time",
            "timedatectl set-ntp true, or chrony, with the time servers that the PACS uses",
        )
    return ok(name, f"{shown}, kept right by NTP; a peer's own clock cannot be asked for")


def time_zone() -> Finding:
    """Whether the machine knows where it is: times in results are local."""
    name = "time zone"
    offset = datetime.now().astimezone().strftime("%Z (%z)")
    link = Path("/etc/localtime")
    if "TZ" not in os.environ and not link.exists():
        return warning(name, f"none is set, so that {offset} is used",
                       "timedatectl set-timezone Europe/Berlin; in a container TZ=Europe/Berlin")
    zone = os.environ.get("TZ") or str(link.resolve()).partition("zoneinfo/")[2]
    return ok(name, f"{zone or 'as /etc/localtime says'}, now {offset}")


def limits(config: Config, process_id: int) -> Finding:
    """How many files and sockets the node may have open at a time; 0: as this process."""
    name = "open files"
    allowed = _open_files_of(process_id) if process_id else None
    whose = "the running node" if allowed is not None else "this shell"
    if allowed is None:
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = config.access.max_associations * _FILES_PER_ASSOCIATION + _OTHER_FILES
    text = f"{whose} may have {allowed} open; {config.access.max_associations} associations "
    text += f"want {wanted}"
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        return warning(name, text, "LimitNOFILE=65536 in the unit; `ulimit -n` in a shell")
    return ok(name, text)


def secret_file(name: str, path: Path, what: str) -> Finding | None:
    """What is wrong with a file that nobody else may read; ``None``: nothing."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return failed(name, f"{path} cannot be looked at: {error.strerror}", f"write {what} there")
    if not os.access(path, os.R_OK):
        return failed(name, f"{path} is not readable for this user",
                      "run this as the user of the node; chown it to that user's group, mode 640")
    if mode & 0o077 & ~0o040:
        return failed(name, f"{path} (mode {mode:o}) can be read or changed by every user here",
                      f"chmod 640 {path}")
    return None


def _first_levels(folder: Path) -> Iterator[Path]:
    """What is in a folder, and in the folders in it; not each of a million images."""
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink() and os.access(path, os.R_OK | os.X_OK):
            with os.scandir(path) as entries:
                for _, entry in zip(range(100), entries, strict=False):
                    yield Path(entry.path)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _is_synchronised() -> bool | None:
    """What the kernel says of its clock, whoever keeps it (adjtimex(2)); ``None``: nothing."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (AttributeError, OSError):
        return None
    if state < 0:
        return None
    status = int.from_bytes(timex.raw[_STATUS_OFFSET : _STATUS_OFFSET + 4], "little")
    return state != _TIME_ERROR and not status & _UNSYNCHRONISED


def _open_files_of(process_id: int) -> int | None:
    try:
        lines = Path(f"/proc/{process_id}/limits").read_text("ascii").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("Max open files")]
    soft = found[0][3] if found else "unlimited"
    return int(soft) if soft.isdecimal() else resource.RLIM_INFINITY
