"""The image size that a compressed frame claims for itself, before a decoder believes it."""

from __future__ import annotations

import struct

_START_OF_SCAN, _SIZ, _FILL = 0xDA, 0x51, 0xFF
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def claimed_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG, JPEG-LS (T.81 B.2.2) or JPEG 2000 (T.800 A.5.1) codestream.

    ``None`` where no size is found: RLE, for one, claims none.
    """
    position = 2
    try:
        while frame[position] == _FILL:
            marker = frame[position + 1]
            if marker == _FILL:
                position += 1
                continue
            if marker in _START_OF_FRAME:
                rows, columns = struct.unpack_from(">HH", frame, position + 5)
                return (rows, columns) if rows and columns else None
            if marker == _SIZ:
                right, bottom, left, top = struct.unpack_from(">4L", frame, position + 6)
                return bottom - top, right - left
            if marker == _START_OF_SCAN:
                return None
            position += 2 + max(2, int(struct.unpack_from(">H", frame, position + 2)[0]))
    except (IndexError, struct.error):
        return None
    return None
