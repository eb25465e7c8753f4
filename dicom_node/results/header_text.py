"""Text of headers as Unicode, whatever character set the source declares (PS3.5 6.1, PS3.3 C.12).

The declared set is believed when it is a defined term, corrected when it is a known misspelling,
and tested against the bytes: bytes that cannot be of the declared set are read as UTF-8 where
they are valid UTF-8 and as Latin-1 otherwise.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from pydicom.charset import decode_bytes, python_encoding
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})

_TERM = re.compile(r"^ISO[ _-]?(2022[ _-]?)?IR[ _-]?(\d+)$")
_ALIASES = {
    "UTF-8": "ISO_IR 192",
    "UTF8": "ISO_IR 192",
    "LATIN1": "ISO_IR 100",
    "LATIN-1": "ISO_IR 100",
    "ISO-8859-1": "ISO_IR 100",
    "ISO8859-1": "ISO_IR 100",
    "ISO 8859-1": "ISO_IR 100",
    "ASCII": "",
    "US-ASCII": "",
    "GB2312": "GBK",
}
_ESCAPE = b"\x1b"


def defined_terms(declared: Sequence[str]) -> tuple[list[str], bool]:
    """Defined terms meant by the values of Specific Character Set.

    Returns
    -------
    tuple
        The terms (an unknown one becomes the default repertoire), and whether any was changed.
    """
    terms, changed = [], False
    for value in declared:
        term = _defined_term(value)
        changed = changed or term != value.strip()
        terms.append(term)
    return terms or [""], changed


def _defined_term(value: str) -> str:
    text = value.strip()
    if text in python_encoding:
        return text
    upper = text.upper()
    match = _TERM.match(upper)
    if match:
        upper = f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"
    upper = _ALIASES.get(upper, upper)
    return upper if upper in python_encoding else ""


def decoded(raw: bytes, vr: str, terms: Sequence[str]) -> tuple[str, bool]:
    """``raw`` as text and whether it was of the declared character set.

    ``terms`` are defined terms; code extensions (escape sequences) are followed.
    """
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode("ascii").rstrip(" \0"), True
    encodings = [python_encoding[term] for term in terms]
    if _ESCAPE in raw:
        delimiters = TEXT_VR_DELIMS | PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = decode_bytes(raw, encodings, delimiters)
        return text.rstrip(" \0"), _ESCAPE.decode() not in text
    declared = encodings[0] if terms[0] else "ascii"
    for encoding, of_declared_set in ((declared, True), ("utf-8", False), ("latin-1", False)):
        try:
            return raw.decode(encoding).rstrip(" \0"), of_declared_set
        except UnicodeDecodeError:
            continue
    raise AssertionError("Latin-1 decodes every byte")
