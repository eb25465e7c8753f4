"""Small file systems of a test's own: an ext4 image on a loop device, or memory of a fixed size.

    with ext4_image(tmp_path) as image:
        image.folder                       # mounted, with a journal that is written when asked only
        image.as_after_power_cut(copy)     # what the disk held, mounted again at ``copy``

Mounting needs root and loop devices; where they are not, the test is skipped with that reason.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

# The journal is not written by itself while a test runs: only what is synced reaches the disk.
_OPTIONS = "loop,commit=300,noatime"


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount program here")
    if done.returncode:
        pytest.skip(f"this place does not let us mount: {done.stderr.strip()[:200]}")


def _unmount(folder: Path) -> None:
    done = subprocess.run(["umount", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        # Whoever still holds a file there must not keep the mount alive behind the test.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass(frozen=True)
class Ext4Image:
    """A mounted image and the file that stands for its disk."""

    disk: Path
    folder: Path

    def read_only(self, wanted: bool) -> bool:
        """Mount it anew, read-only or writable; false while somebody writes to a file there."""
        how = "ro" if wanted else "rw"
        command = ["mount", "-o", f"remount,{how}", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def break_down(self) -> None:
        """As the kernel does on an error of the disk: read-only from now on, whoever writes."""
        command = ["mount", "-o", "remount,abort", str(self.folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this kernel does not let a file system be broken down")

    def mount_again(self) -> None:
        """Unmount and mount, as after a restart of the machine."""
        _unmount(self.folder)
        _mount("-o", _OPTIONS, str(self.disk), str(self.folder))

    @contextmanager
    def as_after_power_cut(self, place: Path) -> Iterator[Path]:
        """The disk as it is now, without anything that is only in memory, mounted below `place`.

        Who writes must be stopped meanwhile: a copy takes time, and the power goes at once.
        """
        place.mkdir()
        disk, folder = place / "disk.img", place / "mounted"
        folder.mkdir()
        shutil.copyfile(self.disk, disk)
        _mount("-o", _OPTIONS, str(disk), str(folder))
        try:
            yield folder
        finally:
            _unmount(folder)
            disk.unlink()


@contextmanager
def ext4_image(place: Path, size_mib: int = 96) -> Iterator[Ext4Image]:
    """An empty ext4 file system of its own below `place`."""
    disk, folder = place / "disk.img", place / "mounted"
    folder.mkdir()
    with disk.open("wb") as file:
        file.truncate(size_mib << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mkfs.ext4 here")
    _mount("-o", _OPTIONS, str(disk), str(folder))
    try:
        yield Ext4Image(disk, folder)
    finally:
        _unmount(folder)
        disk.unlink()


@contextmanager
def memory_of(folder: Path, size_kib: int) -> Iterator[Path]:
    """A file system of so many KiB, mounted on `folder`."""
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)
