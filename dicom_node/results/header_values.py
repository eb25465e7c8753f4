"""Repairs of single header values, each returning the value a DICOM writer may carry."""

from __future__ import annotations

import re
from datetime import date

_TIME = re.compile(r"^(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?$")
_LOOSE_TIME = re.compile(r"^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?$")
_LOOSE_DATE = re.compile(r"^(\d{4})[.\-/](\d{1,2})[.\-/](\d{1,2})$")
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_WRITABLE_UID = re.compile(r"[0-9.]{1,64}")
_SEXES = {"M": "M", "F": "F", "O": "O", "MALE": "M", "FEMALE": "F", "OTHER": "O"}


def is_valid_uid(value: str) -> bool:
    """PS3.5 9.1: at most 64 digits and dots, no component with a leading zero."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def is_writable_uid(value: str) -> bool:
    """At most 64 digits and dots: also what breaks the rule on leading zeros, as devices do that
    make UIDs of dates, and archives keep studies under such UIDs."""
    return _WRITABLE_UID.fullmatch(value) is not None


def repaired_date(value: str) -> str:
    """A DA value (PS3.5 6.2): ``value`` itself, its digits, or empty when it is no calendar day."""
    text = value.strip()
    loose = _LOOSE_DATE.match(text)
    if loose:
        text = f"{loose[1]}{int(loose[2]):02d}{int(loose[3]):02d}"
    if not re.fullmatch(r"\d{8}", text):
        return ""
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return ""
    return text


def repaired_time(value: str) -> str:
    """A TM value (PS3.5 6.2): ``value`` itself, its digits, or empty when it is no time of day."""
    text = value.strip()
    loose = _LOOSE_TIME.match(text)
    if loose:
        fraction = f".{loose[4]}" if loose[4] else ""
        text = f"{int(loose[1]):02d}{loose[2]}{loose[3] or ''}{fraction}"
    match = _TIME.match(text)
    if not match:
        return ""
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    return text if hours <= 23 and minutes <= 59 and seconds <= 60 else ""


def repaired_sex(value: str) -> str:
    """Patient's Sex (PS3.3 C.7.1.1): M, F, O, or empty for what is none of them."""
    return _SEXES.get(value.strip().upper(), "")
