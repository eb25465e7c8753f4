"""What lies beside a card, copied for a version that is made from it; nothing from elsewhere."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from ai_models.card import Card
from ai_models.types import ModelError


def copy_beside(folder: Path, target: Path, left_out: Sequence[str], reason: str) -> None:
    """Copy the folder of a model to ``target``, which must not exist.

    Parameters
    ----------
    left_out
        Patterns of names, as of a shell, that are not copied, of files and of folders.
    reason
        Of the error.

    Raises
    ------
    ModelError
        ``reason``: as `check_beside`.
    OSError
        Something cannot be read or written.
    """
    target.mkdir(parents=True)
    shutil.copymode(folder, target)
    for path, is_folder in _found(folder, left_out, reason):
        place = target / path.relative_to(folder)
        if is_folder:
            place.mkdir()
        else:
            _copy_file(path, place, reason)


def copy_cropping(card: Card, target: Path, reason: str) -> None:
    """Copy the model that outlines what ``card`` looks at, whole, into the copy ``target`` of its
    folder: patterns of what is left out are of the card's own files. Raises as `copy_beside`.
    """
    if card.input.crop is None:
        return
    place = target / card.input.crop.model
    shutil.rmtree(place, ignore_errors=True)
    copy_beside(card.folder / card.input.crop.model, place, (), reason)


def check_beside(folder: Path, left_out: Sequence[str], reason: str) -> None:
    """Say before the work what `copy_beside` would refuse after it.

    Raises
    ------
    ModelError
        ``reason``: there is a link in it. A link could bring a file from outside of the folder,
        or never end; whoever means the file puts it there.
    """
    for _ in _found(folder, left_out, reason):
        pass


def _found(
    folder: Path, left_out: Sequence[str], reason: str
) -> Iterator[tuple[Path, bool]]:
    """What is to be copied, a folder before what lies in it; and whether it is one."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda one: one.name)
    for entry in entries:
        if any(fnmatch(entry.name, pattern) for pattern in left_out):
            continue
        path = Path(entry.path)
        if entry.is_symlink():
            raise ModelError(
                f"{path} is a link, which is not followed: put what it leads to in its place",
                reason=reason,
            )
        is_folder = entry.is_dir(follow_symlinks=False)
        yield path, is_folder
        if is_folder:
            yield from _found(path, left_out, reason)


def _copy_file(path: Path, target: Path, reason: str) -> None:
    """One file as it is now: what became a link, or a pipe, since it was listed is refused."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(opened, "rb") as source:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ModelError(f"{path} is neither a file nor a folder", reason=reason)
        with target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    shutil.copymode(path, target, follow_symlinks=False)
