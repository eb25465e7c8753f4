"""Good associations, and what becomes of them when an attacker has had his hands on them."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

from bench.raw_scu import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    associate_request,
    command_set,
    echo_command,
    element,
    pdu,
    store_message,
    uid,
    value,
)
from bench.synthetic import ct_slice, head, text
from dicom_node.references import PUSH_MODEL, PUSH_MODEL_INSTANCE

DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
CONTEXTS = (
    (1, CT, [EXPLICIT]),
    (3, VERIFICATION, [EXPLICIT]),
    (5, CT, [IMPLICIT]),
    (7, CT, [DEFLATED]),
    (9, CT, [BIG_ENDIAN]),
    (11, CT, [JPEG_LOSSLESS]),
    (13, PUSH_MODEL, [IMPLICIT]),
)
# Numbers at which something else begins: of two and four bytes, in both orders.
_EDGES = (0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF,
          0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip
_TOKENS = (
    b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0", b"\xe0\x7f\x10\x00",
    b"SQ\0\0\xff\xff\xff\xff", b"UN\0\0\xff\xff\xff\xff", b"\xff\xff\xff\xff", b"\0" * 8,
    b"../../etc/passwd", b"DICM", b"\x01\x00\x00\x00", b"\x04\x00\x00\x00", b"1.2.840.10008",
)


def sequence(items: list[bytes], *, defined: bool, implicit: bool = False) -> bytes:
    """(0008,1140) with these items, of known or of undefined length throughout."""
    if defined:
        body = b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(one)) + one for one in items)
        end = b""
    else:
        body = b"".join(
            b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + one + b"\xfe\xff\x0d\xe0\0\0\0\0" for one in items
        )
        end = b"\xfe\xff\xdd\xe0\0\0\0\0"
    length = len(body) if defined else 0xFFFFFFFF
    header = struct.pack("<HHL", 8, 0x1140, length) if implicit else (
        struct.pack("<HH2sxxL", 8, 0x1140, b"SQ", length)
    )
    return header + body + end


def nested(depth: int, *, defined: bool, implicit: bool = False) -> bytes:
    """So many sequences within one another."""
    inner = b"" if implicit else text(0x00080060, "CS", "CT")
    for _ in range(depth):
        inner = sequence([inner], defined=defined, implicit=implicit)
    return inner


def implicit_slice(number: int) -> bytes:
    """A small CT slice in implicit VR."""
    elements = (
        (0x00080016, uid(CT)), (0x00080018, uid(f"1.2.3.9.{number}")), (0x00080060, b"CT"),
        (0x00100020, b"PLANTED-ID"), (0x0020000D, uid("1.2.3.1")), (0x0020000E, uid("1.2.3.2")),
        (0x00280010, b"\x10\0"), (0x00280011, b"\x10\0"), (0x7FE00010, bytes(512)),
    )  # fmt: skip
    return b"".join(
        struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(data)) + data for tag, data in elements
    )


def data_sets(number: int) -> list[tuple[int, bytes]]:
    """Good data sets, each with the presentation context that it is encoded for."""
    sop_instance = f"1.2.3.9.{number}"
    plain = ct_slice(sop_instance, "1.2.3.1", "1.2.3.2", number, bytes(512))
    deep = nested(3, defined=False) + nested(3, defined=True)
    start = head(sop_instance, "1.2.3.1", "1.2.3.2", number)
    with_sequences = plain[: plain.index(text(0x00080060, "CS", "CT"))] + deep + (
        plain[plain.index(text(0x00080060, "CS", "CT")) :]
    )
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    frames = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + b"".join(
        struct.pack("<HHL", 0xFFFE, 0xE000, len(one)) + one for one in (b"", bytes(64), bytes(32))
    ) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return [
        (1, plain),
        (1, with_sequences),
        (5, implicit_slice(number)),
        (7, deflate.compress(with_sequences) + deflate.flush()),
        (9, _swapped(start)),
        (11, start + frames),
    ]


def _swapped(explicit: bytes) -> bytes:
    """Short elements of explicit little endian in big endian; their texts stay."""
    out, offset = b"", 0
    while offset < len(explicit):
        group, number, vr, length = struct.unpack_from("<HH2sH", explicit, offset)
        out += struct.pack(">HH2sH", group, number, vr, length)
        out += explicit[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return out


def conversation(number: int) -> list[bytes]:
    """The PDUs of a good association."""
    commitment = command_set(
        element(0x0003, uid(PUSH_MODEL)) + element(0x0100, b"\x30\x01")
        + element(0x0110, b"\x02\0") + element(0x0800, b"\0\0")
        + element(0x1001, uid(PUSH_MODEL_INSTANCE)) + element(0x1008, b"\x01\0")
    )  # fmt: skip
    asked = struct.pack("<HHL", 8, 0x1195, 8) + uid("1.2.3.45")
    context, data = data_sets(number)[number % 6]
    return [
        associate_request("FUZZ", "DICOMNODE", CONTEXTS),
        store_message(context, CT, f"1.2.3.9.{number}", data, 300),
        pdu(4, value(3, 3, echo_command())),
        pdu(4, value(13, 3, commitment)) + pdu(4, value(13, 2, asked)),
        pdu(5, bytes(4)),
    ]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The same bytes after one to five blows."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        if not found:
            break
        chance.choice(_BLOWS)(found, chance)
    return bytes(found)


def _flip(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _edge(data: bytearray, chance: random.Random) -> None:
    number = chance.choice(_EDGES)
    form = chance.choice(["<H", ">H", "<L", ">L", "B"])
    packed = struct.pack(form, number & (256 ** struct.calcsize(form) - 1))
    at = chance.randrange(len(data))
    data[at : at + len(packed)] = packed


def _token(data: bytearray, chance: random.Random) -> None:
    token, at = chance.choice(_TOKENS), chance.randrange(len(data))
    data[at : at + (len(token) if chance.random() < 0.5 else 0)] = token


def _cut(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.randint(1, 32)]


def _double(data: bytearray, chance: random.Random) -> None:
    at, length = chance.randrange(len(data)), chance.randint(1, 200)
    data[at:at] = data[at : at + length]


def _noise(data: bytearray, chance: random.Random) -> None:
    at, length = chance.randrange(len(data)), chance.randint(1, 64)
    data[at : at + length] = chance.randbytes(length)


def _end(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _deepen(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    depth = chance.choice((2, 40, 300))
    data[at:at] = nested(
        depth, defined=chance.random() < 0.5, implicit=chance.random() < 0.5
    )[:4000]


_BLOWS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _edge, _edge, _edge, _token, _cut, _double, _noise, _end, _deepen,
)  # fmt: skip
