"""Who was turned away lately, as the audit trail has it: for those who look at how the node is."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

from dicom_node.operations.audit_trail import AuditTrail

LATELY = timedelta(days=1)
# The trail of a busy day is larger; whoever looks must not wait for all of it.
_MOST_BYTES = 4 << 20
_BEGINNING = "association refused: "
# Of a length that base64 encodes by itself, whatever follows it.
_ENCODED = base64.b64encode(_BEGINNING.encode())
_SAID = re.compile(r"association refused: (\S+?)(?:, (\d{1,9}) more like this)?")


@dataclass(frozen=True)
class RefusedCallers:
    """Associations that were refused.

    ``last`` names the last caller: its AE title and address as it gave them, in printable ASCII.
    With ``is_all`` false there may have been more.
    """

    by_reason: Mapping[str, int]
    last: str
    last_at: datetime
    is_all: bool = True

    def in_words(self) -> str:
        """As `2 access.calling_ae_title, last NOBODY 127.0.0.1`."""
        counted = sorted(self.by_reason.items(), key=lambda one: (-one[1], one[0]))
        listed = ", ".join(f"{number} {reason}" for reason, number in counted)
        return f"{'' if self.is_all else 'at least '}{listed}, last {self.last}"


def refused_lately(folder: Path, now: datetime | None = None) -> RefusedCallers | None:
    """Whom the node refused within `LATELY`; ``None`` for nobody, or where that cannot be read.

    What is read tells of no patient, and is not told as a use of the trail.
    """
    since = (now or datetime.now(UTC)) - LATELY
    found: Counter[str] = Counter()
    last, last_at, is_all = "", since, True
    try:
        for path in AuditTrail(folder).files()[-2:]:
            is_all = is_all and path.stat().st_size <= _MOST_BYTES
            for at, reason, number, who in _refusals(path):
                if at >= since:
                    found[reason] += number
                    last, last_at = who, at
    except OSError:
        return None
    return RefusedCallers(dict(found), last, last_at, is_all) if found else None


def _refusals(path: Path) -> Iterator[tuple[datetime, str, int, str]]:
    """Of each refusal in the end of a file: when, why, how many, and whose."""
    with path.open("rb") as opened:
        start = max(0, path.stat().st_size - _MOST_BYTES)
        opened.seek(start)
        if start:
            opened.readline()
        for line in opened:
            # Few lines are of refusals: the others are not taken apart.
            if _ENCODED in line:
                try:
                    yield from _of_line(line)
                except (ValueError, KeyError, TypeError, ElementTree.ParseError):
                    # Torn by a crash, or not written by the node: `audit --verify` tells of it.
                    continue


def _of_line(line: bytes) -> Iterator[tuple[datetime, str, int, str]]:
    entry = json.loads(line)
    # Of lines that the node wrote; expat limits what entities may become.
    root = ElementTree.fromstring(entry["message"])  # noqa: S314
    said = next(
        (match for one in root.iter("ParticipantObjectDetail")
         if (match := _SAID.fullmatch(_decoded(one.get("value", ""))))), None,
    )
    caller = next(
        (one for one in root.iter("ActiveParticipant") if one.get("UserName") != "dicom-node"), None
    )
    if said is None or caller is None:
        return
    title = caller.get("AlternativeUserID", "").removeprefix("AETITLES=")
    who = f"{title or 'without AE title'} {caller.get('NetworkAccessPointID', '')}"
    yield (datetime.fromisoformat(entry["at"]), _plain(said[1], 64), int(said[2] or 1),
           _plain(who, 64).strip())


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _plain(text: str, most: int) -> str:
    """What a stranger sent may be anything: printable ASCII, and not for ever."""
    return "".join(one if " " <= one <= "~" else "?" for one in text[:most])
