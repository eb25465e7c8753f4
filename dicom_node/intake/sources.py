"""Random and sequential access to the encoded bytes of a data set, a window at a time.

Nothing here trusts a length: a request beyond the end gives what there is.
"""

from __future__ import annotations

import os
import zlib
from typing import Protocol

from dicom_node.errors import NotUnderstood

WINDOW_BYTES = 1 << 14
_INFLATE_STEP_BYTES = 1 << 16
_INFLATED_LIMIT_BYTES = 64 << 20


class InflatedTooMuch(NotUnderstood):
    """More of a deflated data set is wanted than is inflated of any."""


class Source(Protocol):
    """Bytes with offsets from the start of the data set; ``size_bytes`` None when unknown."""

    size_bytes: int | None

    def window(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`, at least `length` of them unless the data set ends before."""
        ...


class BytesSource:
    """A data set in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes: int | None = len(data)

    def window(self, offset: int, length: int) -> bytes:
        """See `Source.window`."""
        if offset == 0:
            return self._data
        return self._data[offset : offset + max(length, WINDOW_BYTES)]


class FileSource:
    """The part of an open file from ``start``; the descriptor stays the caller's."""

    def __init__(self, fd: int, start: int, end: int | None = None) -> None:
        self._fd = fd
        self._start = start
        self.size_bytes: int | None = max(0, (os.fstat(fd).st_size if end is None else end) - start)

    def window(self, offset: int, length: int) -> bytes:
        """See `Source.window`."""
        return os.pread(self._fd, max(length, WINDOW_BYTES), self._start + offset)


class ReceivedSource(FileSource):
    """A file whose beginning is in memory still: most headers need no look at the disk.

    ``begin`` is the whole data set, or at least as much of it as is looked at, at once.
    """

    def __init__(self, fd: int, start: int, end: int, begin: bytes) -> None:
        super().__init__(fd, start, end)
        self._begin = begin

    def window(self, offset: int, length: int) -> bytes:
        """See `Source.window`."""
        if offset + length <= len(self._begin):
            return self._begin[offset:]
        return super().window(offset, length)


class DeflatedSource:
    """Inflates forward only, never more than a step beyond what is asked for."""

    def __init__(self, deflated: Source) -> None:
        self._deflated = deflated
        self._taken = 0
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._kept = b""
        self._kept_at = 0
        self.size_bytes: int | None = None

    def window(self, offset: int, length: int) -> bytes:
        """See `Source.window`; `offset` may not go back.

        Raises
        ------
        InflatedTooMuch
            More than 64 MB of it stand before what is looked for.
        NotUnderstood
            Not a deflate stream.
        """
        if offset + length > _INFLATED_LIMIT_BYTES:
            raise InflatedTooMuch("the deflated data set names its UIDs too late")
        while self._kept_at + len(self._kept) < offset + length:
            step = self._step()
            if not step:
                break
            skipped = max(0, min(len(self._kept), offset - self._kept_at))
            self._kept = self._kept[skipped:] + step
            self._kept_at += skipped
        return self._kept[offset - self._kept_at :]

    def _step(self) -> bytes:
        while not self._inflate.eof:
            given = self._inflate.unconsumed_tail
            if not given:
                given = self._deflated.window(self._taken, WINDOW_BYTES)[:WINDOW_BYTES]
                self._taken += len(given)
            if not given:
                return b""
            try:
                step = self._inflate.decompress(given, _INFLATE_STEP_BYTES)
            except zlib.error as failure:
                raise NotUnderstood("the data set is not a deflate stream") from failure
            if step:
                return step
        return b""
