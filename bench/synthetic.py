"""Explicit little endian data sets written by hand, of any size."""

from __future__ import annotations

import struct

from bench.raw_scu import CT


def text(tag: int, vr: str, content: str) -> bytes:
    data = content.encode() + (b"\0" if vr == "UI" else b" ") * (len(content) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(data)) + data


def head(sop_instance: str, study: str, series: str, number: int, sop_class: str = CT) -> bytes:
    """What stands before the pixel data of an axial CT slice."""
    return b"".join(
        (
            text(0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
            text(0x00080016, "UI", sop_class),
            text(0x00080018, "UI", sop_instance),
            text(0x00080060, "CS", "CT"),
            text(0x00100010, "PN", "Bench^Nobody"),
            text(0x00100020, "LO", "BENCH"),
            text(0x0020000D, "UI", study),
            text(0x0020000E, "UI", series),
            text(0x00200013, "IS", str(number)),
            text(0x00200032, "DS", f"-100\\-100\\{number}"),
            text(0x00200037, "DS", "1\\0\\0\\0\\1\\0"),
        )
    )


def pixel_header(size_bytes: int) -> bytes:
    return struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", size_bytes)


def ct_slice(
    sop_instance: str, study: str, series: str, number: int, pixels: bytes, sop_class: str = CT,
    frames: int = 0,
) -> bytes:
    """A whole data set around these pixel bytes (an even number of them)."""
    before = head(sop_instance, study, series, number, sop_class)
    if frames:
        before += text(0x00280008, "IS", str(frames))
    return before + pixel_header(len(pixels)) + pixels
