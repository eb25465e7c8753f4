"""Images that were read and decoded before anyone asked for them, as long as there is room.

    Decoded.read  (ahead, one image after another)  ->  kept  ->  Decoded.take  (once, by a job)

What is taken is what `dicom_node.imaging.reading.read_header` and
`dicom_node.imaging.decode.read_frames` give, or nothing: a file that has changed since, cannot be
read or has more than one frame is read by whoever needs it. So a job comes to the same values,
digests and refusals with and without it. What a volume needs to know of an image, and the digest of
its content, are found out ahead as well: of bytes that have not changed they are the same.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dicom_node.imaging.decode import pixel_format, read_frames
from dicom_node.imaging.digest import understand
from dicom_node.imaging.reading import Header, read_header

# What Python needs for an element of a header beside its bytes; measured on CT headers.
_ELEMENT_BYTES = 512
Identity = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class _Kept:
    """An image and the file that it was read from, as that was then."""

    identity: Identity
    header: Header
    size_bytes: int


@dataclass
class _Series:
    """The images of one series, and when one was last put in or taken out."""

    images: dict[Path, _Kept] = field(default_factory=dict)
    used_at: float = 0.0


class Decoded:
    """Thread-safe.

    Parameters
    ----------
    budget_bytes
        What all images may take together. Where one more does not fit, the series that was not
        used for the longest time goes.
    keep_s
        For so long after its last use a series stays: of several that arrive at once none may
        drive out another, so what does not fit beside them is not kept.
    """

    def __init__(self, budget_bytes: int, keep_s: float = 60.0) -> None:
        self._budget_bytes = budget_bytes
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._series: OrderedDict[str, _Series] = OrderedDict()
        self._series_of: dict[Path, str] = {}
        self._held_bytes = 0
        self._hits = 0

    @property
    def held_bytes(self) -> int:
        """What the images that are kept take, about."""
        return self._held_bytes

    @property
    def images(self) -> int:
        """How many images are kept."""
        return len(self._series_of)

    @property
    def hits(self) -> int:
        """How many images were taken since the start."""
        return self._hits

    @property
    def series(self) -> list[str]:
        """The series of which images are kept, the least recently used first."""
        with self._lock:
            return list(self._series)

    def read(self, series: str, path: Path) -> bool:
        """Read and decode an image of ``series`` and keep it; whether it is kept.

        Raises
        ------
        NotUnderstood, UnsuitableInput
            As `read_header`, `pixel_format` and `read_frames`.
        StorageFailed, WorkerLost
            As `read_frames`.
        """
        before = file_identity(path)
        if self._has(path, before):
            return True
        header = read_header(path)
        form = pixel_format(header)
        if form.frames != 1 or before is None:
            return False
        frame_bytes = form.rows * form.columns * form.dtype.itemsize
        # Of encoded pixels the header's own length is not known; the whole file is more than that.
        header_bytes = before[2] if header.native_offset is None else header.native_offset
        size_bytes = frame_bytes + header_bytes + _ELEMENT_BYTES * len(header.dataset)
        with self._lock:
            # Asked before the work is done, and again after it.
            if not self._make_room(series, size_bytes):
                return False
        frame = np.empty((1, form.rows, form.columns), form.dtype)
        read_frames(header, form, frame)
        if file_identity(path) != before:
            return False
        understood = understand(header.dataset, form, frame[0])
        header = replace(header, frame=frame, understood=understood)
        return self._keep(series, path, _Kept(before, header, size_bytes))

    def take(self, path: Path) -> Header | None:
        """The header of an image with its frame, which is not kept any longer; ``None``: not here.

        Never raises: what is wrong with the file is found by whoever reads it.
        """
        with self._lock:
            if path not in self._series_of:
                return None
            kept = self._remove(path)
        if file_identity(path) != kept.identity:
            return None
        with self._lock:
            self._hits += 1
        return kept.header

    def lacking(self, paths: Iterable[Path]) -> list[Path]:
        """Those of these images that are not kept."""
        with self._lock:
            return [path for path in paths if path not in self._series_of]

    def could_hold(self, size_bytes: int) -> bool:
        """Whether so much more fits beside what is kept and was used lately; nothing goes."""
        unused_since = time.monotonic() - self._keep_s
        with self._lock:
            unused_bytes = sum(
                kept.size_bytes
                for home in self._series.values() if home.used_at <= unused_since
                for kept in home.images.values()
            )
            return self._held_bytes - unused_bytes + size_bytes <= self._budget_bytes

    def set_aside(self, size_bytes: int) -> bool:
        """Count what was made of images as if it were kept here, where there is room for it."""
        with self._lock:
            has_room = self._make_room("", size_bytes)
            if has_room:
                self._held_bytes += size_bytes
            return has_room

    def give_up(self, size_bytes: int) -> None:
        """End what `set_aside` said yes to."""
        with self._lock:
            self._held_bytes -= size_bytes

    def drop(self, series: Iterable[str]) -> None:
        """Keep nothing of these series any longer."""
        with self._lock:
            for one in series:
                self._drop(one)

    def _has(self, path: Path, identity: Identity | None) -> bool:
        """Whether an image is kept as the file is now; what was kept of an earlier file goes."""
        with self._lock:
            if path not in self._series_of:
                return False
            series = self._series_of[path]
            if self._series[series].images[path].identity == identity:
                self._use(series)
                return True
            self._remove(path)
            return False

    def _keep(self, series: str, path: Path, kept: _Kept) -> bool:
        with self._lock:
            if path in self._series_of:
                self._remove(path)
            if not self._make_room(series, kept.size_bytes):
                return False
            home = self._series.setdefault(series, _Series())
            home.images[path] = kept
            self._series_of[path] = series
            self._held_bytes += kept.size_bytes
            self._use(series)
        return True

    def _make_room(self, series: str, size_bytes: int) -> bool:
        """Let go of what was not used for long until so much fits; whether it does."""
        if size_bytes > self._budget_bytes:
            return False
        unused_since = time.monotonic() - self._keep_s
        while self._held_bytes + size_bytes > self._budget_bytes:
            if not self._series:
                return False
            oldest, home = next(iter(self._series.items()))
            if oldest == series or home.used_at > unused_since:
                return False
            self._drop(oldest)
        return True

    def _use(self, series: str) -> None:
        self._series[series].used_at = time.monotonic()
        self._series.move_to_end(series)

    def _remove(self, path: Path) -> _Kept:
        series = self._series_of.pop(path)
        kept = self._series[series].images.pop(path)
        self._held_bytes -= kept.size_bytes
        if self._series[series].images:
            self._use(series)
        else:
            del self._series[series]
        return kept

    def _drop(self, series: str) -> None:
        for path in list(self._series[series].images) if series in self._series else ():
            self._remove(path)


def file_identity(path: Path) -> Identity | None:
    """Which file this is and which bytes it has; ``None``: it cannot be told."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
