"""One file while it is received, and how it compares with one that is already kept."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence

from dicom_node import IMPLEMENTATION_CLASS_UID
from dicom_node.durable import storage_error
from dicom_node.errors import NodeError, PermanentError

_FILE_META_LIMIT_BYTES = 1 << 16
_DRAWN_BYTES = 16
_CREATOR = IMPLEMENTATION_CLASS_UID.encode("ascii")


class Part:
    """One file being received; `fd` is open for writing and reading.

    ``data_offset`` is where the data set begins, after the file meta (bytes). With ``is_unique`` no
    other file has the same bytes: a number that is drawn stands in its file meta.
    """

    __slots__ = (
        "_is_unique", "_meta", "data_offset", "fd", "path", "size_bytes", "transfer_syntax_uid"
    )

    def __init__(self, fd: int, path: str, *, is_unique: bool = False) -> None:
        self._is_unique = is_unique
        self.fd = fd
        self.path = path
        self.size_bytes = 0
        self.data_offset = 0
        self.transfer_syntax_uid = ""
        self._meta = b""

    def write_meta(self, file_meta: bytes, transfer_syntax_uid: str) -> None:
        """Begin the file: preamble, prefix and group 0002, written with what comes next."""
        self._meta = _drawn(file_meta) if self._is_unique else file_meta
        self.data_offset = self.size_bytes = len(self._meta)
        self.transfer_syntax_uid = transfer_syntax_uid

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append `pieces` in order.

        Raises
        ------
        OutOfSpace, StorageFailed
            What was written so far is worthless; discard the part.
        """
        self.size_bytes += sum(map(len, pieces))
        if self._meta:
            pieces = [self._meta, *pieces]
            self._meta = b""
        wanted = sum(map(len, pieces))
        try:
            written = os.writev(self.fd, pieces) if len(pieces) <= 1000 else 0
            if written < wanted:
                rest = memoryview(b"".join(pieces))[written:]
                while rest:
                    rest = rest[os.write(self.fd, rest) :]
        except OSError as failure:
            raise storage_error(failure) from failure

    def flush(self) -> None:
        """Everything can be read under `path` when this returns (raises as `write`)."""
        if self._meta:
            self.write([])

    def finish(self) -> None:
        """Everything is on disk when this returns (raises as `write`, and OSError)."""
        self.flush()
        os.fdatasync(self.fd)

    def make_common(self) -> None:
        """Let the same bytes that come again be the same file (raises OSError)."""
        if self._is_unique and self.data_offset:
            os.pwrite(self.fd, bytes(_DRAWN_BYTES), self.data_offset - _DRAWN_BYTES)

    def discard(self) -> None:
        """Close and remove; harmless when already done."""
        self.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return

    def close(self) -> None:
        """Close the file; harmless when already done."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _drawn(file_meta: bytes) -> bytes:
    """With Private Information (0002,0102) of ours at the end (PS3.10 section 7.1)."""
    creator = _CREATOR + b"\0" * (len(_CREATOR) % 2)
    private = b"".join((
        b"\x02\x00\x00\x01UI", struct.pack("<H", len(creator)), creator,
        b"\x02\x00\x02\x01OB\0\0", struct.pack("<L", _DRAWN_BYTES), os.urandom(_DRAWN_BYTES),
    ))
    (length,) = struct.unpack_from("<L", file_meta, 140)
    return file_meta[:140] + struct.pack("<L", length + len(private)) + file_meta[144:] + private


def same_data_set(part: Part, target: str) -> bool:
    """Whether both hold the same data set bytes in the same transfer syntax."""
    kept = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            offset, transfer_syntax_uid = _read_file_meta(kept)
        except NodeError:
            return False
        rest = part.size_bytes - part.data_offset
        if rest != os.fstat(kept).st_size - offset:
            return False
        if transfer_syntax_uid != part.transfer_syntax_uid:
            return False
        for done in range(0, rest, 1 << 20):
            received = os.pread(part.fd, 1 << 20, part.data_offset + done)
            if received != os.pread(kept, 1 << 20, offset + done):
                return False
        return True
    finally:
        os.close(kept)


def _read_file_meta(fd: int) -> tuple[int, str]:
    """Offset of the data set and the transfer syntax of a file that `Part.write_meta` began."""
    head = os.pread(fd, _FILE_META_LIMIT_BYTES, 0)
    found = re.search(rb"\x02\x00\x10\x00UI(..)", head, re.DOTALL)
    if len(head) < 144 or head[132:140] != b"\x02\x00\x00\x00UL\x04\x00" or not found:
        raise PermanentError("a kept file does not begin with our file meta")
    start = found.end()
    length = int.from_bytes(found[1], "little")
    text = head[start : start + length].rstrip(b"\0 ").decode("ascii", "replace")
    return 144 + int(struct.unpack_from("<L", head, 140)[0]), text
