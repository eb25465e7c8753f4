"""What `Spool` asks of the form in which files are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from dicom_node.part import Part


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A kept instance; ``path`` is relative to the spool, ``outcome`` new|identical|replaced.

    ``fingerprint`` is another one when other bytes are kept under this path. ``modified_at`` is
    when they came (seconds since the epoch).
    """

    path: str
    size_bytes: int
    fingerprint: str
    outcome: str
    modified_at: float = 0.0


@dataclass(frozen=True)
class SetAside:
    """What was set aside: fingerprint by the relative path that each image had, and all bytes.

    ``last_came_at`` is when an image last came, also one that was here before (seconds since the
    epoch; 0 without images).
    """

    fingerprints: dict[str, str]
    size_bytes: int
    last_came_at: float


class Refused(Protocol):
    """What was refused, for a person to look at."""

    def add(self, path: str, reason: str, detail: str, sender: Mapping[str, str] = ...) -> str:
        """Keep a copy of the file and say why; its path relative to the spool.

        Raises
        ------
        OutOfSpace
            There is no room for it.
        StorageFailed, OSError
        """
        ...

    def remove_older(self, than_s: float, most: int) -> int:
        """Delete what has been here for longer, at most so many; how many files of images."""
        ...


class OnTheirWayOut(Protocol):
    """Studies that are being removed: set aside as a whole, then put back or deleted."""

    def tokens(self) -> list[str]:
        """What is set aside, whether or not it is removed already."""
        ...

    def fingerprints(self, study: str) -> dict[str, str]:
        """Those of the images of a study (a folder below ``instances``), by path."""
        ...

    def set_aside(self, token: str, study: str, jobs: Iterable[str]) -> SetAside:
        """Take a study and the results of its jobs out of what is kept."""
        ...

    def put_back(self, token: str) -> None:
        """Undo `set_aside`; may be done again."""
        ...

    def discard(self, token: str, most: int | None = None) -> bool:
        """Delete what is set aside, or ``most`` files of it; whether all of it is gone.

        Without ``most`` it waits until that may begin.
        """
        ...

    def may_begin(self, token: str) -> bool:
        """Whether `discard` has something to do now."""
        ...


class Kept(Protocol):
    """Files that are kept for good; every method may raise `StorageFailed` and `OutOfSpace`."""

    @property
    def quarantined(self) -> Refused:
        """What was refused."""
        ...

    @property
    def leaving(self) -> OnTheirWayOut:
        """What is being removed."""
        ...

    def keep(self, part: Part, relative: str) -> StoredFile:
        """Make a received file a kept one; durable on return. The part stays its owner's."""
        ...

    def keep_result(self, relative: str, write: Callable[[BinaryIO], object]) -> None:
        """Keep what ``write`` writes, unless something is there; durable on return."""
        ...

    def local(self, relatives: Sequence[str]) -> list[Path]:
        """Files with these bytes on this host, in the same order; absent where there are none."""
        ...

    def prefetch(self, relatives: Sequence[str]) -> None:
        """Begin to bring files to this host that `local` will be asked for; never raises."""
        ...

    def look(self, relative: str) -> StoredFile | None:
        """What is kept under this path now."""
        ...

    def in_order(self) -> Iterator[tuple[str, str]]:
        """Path and fingerprint of every kept instance, in byte order of the paths."""
        ...

    def results(self) -> Iterator[tuple[str, float]]:
        """Path and time of writing (seconds since the epoch) of every result."""
        ...

    def remove(self, relative: str) -> None:
        """Remove a kept file; absent is fine."""
        ...

    def has_any(self) -> bool:
        """Whether an image was ever kept here, as far as can be seen."""
        ...

    def clean(self) -> int:
        """Remove half-written results; how many."""
        ...

    def free_bytes(self) -> int:
        """Room for kept files."""
        ...

    def make_room(self) -> None:
        """Let go of what is only a copy of what is kept elsewhere."""
        ...

    def check_usable(self) -> None:
        """Find out whether it keeps what it must; raises `ConfigurationError` where not."""
        ...

    def keeps_what_is_deleted(self) -> bool:
        """Whether versions of it stay behind, as far as that is known."""
        ...

    def marker(self) -> str:
        """What tells this place from others; empty: nobody has marked it."""
        ...

    def mark(self, identity: str) -> str:
        """Mark this place unless it is marked; its marker."""
        ...
