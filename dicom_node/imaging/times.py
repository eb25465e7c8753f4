"""Dates and times of DICOM (PS3.5 6.2: DA, TM, DT) as moments."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)$")
_MOMENT = re.compile(r"(\d{12}|\d{14})(?:\.(\d{1,6}))?(?:[+-]\d{4})?")


def moment(value: str) -> datetime | None:
    """A DT, or a DA and a TM together, down to minutes at least; ``None`` where it is none.

    In the clock that wrote it: an offset from UTC is not applied (`zone` reads it).
    """
    found = _MOMENT.fullmatch(value)
    if found is None:
        return None
    try:
        at = datetime.strptime(found[1].ljust(14, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError:
        return None
    return at + timedelta(microseconds=int((found[2] or "").ljust(6, "0")))


def zone(value: str) -> timedelta | None:
    """The offset from UTC at the end of a DT, or by itself; ``None``: it has none."""
    found = _OFFSET.search(value)
    if found is None:
        return None
    away = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return -away if found[1] == "-" else away
