"""Long sequences of a report as bytes, at a fraction of the time that pydicom takes for them.

pydicom opens a buffer for each element and finds out anew how to write it. A report on a long
series has thousands of them, of few kinds: tags, UIDs, codes, short texts. These are encoded here
in explicit VR little endian (PS3.5 7.1.2, items of defined length as in 7.5.2); every other element
goes through pydicom, so that the bytes are those that it would write.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from sr_templates.encoded import EncodedElement

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

_ITEM = b"\xfe\xff\x00\xe0"
_SHORT, _LONG = struct.Struct("<HH2sH"), struct.Struct("<HH2sHI")
_LENGTH = struct.Struct("<I")
# Text whose length is written in 16 bits, and what fills it up to an even one.
_PADDING = {
    "UI": b"\0", **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM"), b" ")
}
_NUMBERS = {"US": struct.Struct("<H"), "UL": struct.Struct("<I")}
_CHARACTER_SET = 0x00080005
_LONGEST = 0xFFFE
_UNDEFINED = 0xFFFFFFFF


class _Unusual(Exception):
    """Something that pydicom is to write."""


def sequences_encoded(result: Dataset) -> Dataset:
    """A data set that is written as ``result`` is, whose long sequences are bytes already.

    The character set of ``result`` is Unicode, as that of every result is. What cannot be encoded
    here stays as it is.
    """
    from pydicom.charset import convert_encodings
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset

    if result.get("SpecificCharacterSet") != "ISO_IR 192":
        return result
    encoded = Dataset()
    encoded.update(result)
    encoded.file_meta = result.file_meta
    for tag in list(result.keys()):
        # As it is: what was read and not looked at is bytes already.
        element: Any = result.get_item(tag)
        if element is None or element.is_raw:
            continue
        if len(str(element.VR)) != 2:
            # Which of two VRs it has depends on what stands around it.
            return result
        if element.VR != "SQ":
            continue
        try:
            if element.is_undefined_length:
                raise _Unusual
            content = b"".join([_item(item) for item in element.value])
        except _Unusual:
            return result
        encoded[tag] = RawDataElement(tag, "SQ", len(content), content, 0, False, True)
    encoded.set_original_encoding(False, True, convert_encodings("ISO_IR 192"))
    return encoded


def _item(item: Dataset) -> bytes:
    if item.is_undefined_length_sequence_item:
        raise _Unusual
    content = b"".join([_element(item.get_item(tag)) for tag in sorted(item.keys())])
    return _ITEM + _LENGTH.pack(len(content)) + content


def _element(element: Any) -> bytes:
    if isinstance(element, EncodedElement):
        return element.encoded
    if element is None or element.is_raw or element.tag == _CHARACTER_SET:
        raise _Unusual
    vr, value, tag = str(element.VR), element.value, element.tag
    if vr == "SQ":
        if element.is_undefined_length:
            raise _Unusual
        content = b"".join([_item(item) for item in value])
        return _LONG.pack(tag >> 16, tag & 0xFFFF, b"SQ", 0, len(content)) + content
    padding = _PADDING.get(vr)
    if padding is not None and isinstance(value, str) and value.isascii():
        content = value.encode("ascii")
        if len(content) % 2:
            content += padding
    elif vr in _NUMBERS and type(value) is int:
        content = _NUMBERS[vr].pack(value)
    else:
        return _by_pydicom(element)
    if len(content) > _LONGEST:
        return _by_pydicom(element)
    return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), len(content)) + content


def _by_pydicom(element: DataElement) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    if len(str(element.VR)) != 2 or element.tag & 0xFFFF == 0:
        # A choice of two, or a group length: what stands around it decides.
        raise _Unusual
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, ["utf8"])
    return buffer.getvalue()
