"""Elements whose value is given as it is written, of which a report on a long series has many.

Making an object of each, and finding out of each how it is written, took most of the time that the
Image Library and the evidence of such a report took. They become objects when they are read.
"""

from __future__ import annotations

import struct

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

_ITEM = b"\xfe\xff\x00\xe0"
_SHORT, _LONG, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HH2sHI"), struct.Struct("<I")


class EncodedElement(RawDataElement):
    """An element in explicit VR little endian, ASCII where it is text (PS3.5 7.1.2)."""

    __slots__ = ()

    @property
    def encoded(self) -> bytes:
        """The element with its head."""
        group, element, vr = self.tag >> 16, self.tag & 0xFFFF, str(self.VR).encode()
        value = self.value or b""
        if vr == b"SQ":
            return _LONG.pack(group, element, vr, 0, len(value)) + value
        return _SHORT.pack(group, element, vr, len(value)) + value


def text_element(tag: int, vr: str, text: str) -> EncodedElement:
    """An element of ASCII text whose length is written in 16 bits.

    Raises
    ------
    UnicodeEncodeError
        The text is not ASCII.
    """
    value = text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return _element(tag, vr, value)


def sequence_element(tag: int, *items: bytes) -> EncodedElement:
    """A sequence; each item is its elements one after the other, in ascending order."""
    value = b"".join([_ITEM + _LENGTH.pack(len(item)) + item for item in items])
    return _element(tag, "SQ", value)


def item_of(*elements: EncodedElement) -> Dataset:
    """An item for a sequence of objects."""
    return Dataset({element.tag: element for element in elements})


def _element(tag: int, vr: str, value: bytes) -> EncodedElement:
    return EncodedElement(BaseTag(tag), vr, len(value), value, 0, False, True)
