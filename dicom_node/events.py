"""One typed method per thing that happens in the node: log, metric and audit in one place.

Nothing here takes a patient's name, ID or date. UIDs name a patient's examination, so they are
logged as a short hash (`hash_uid`), the same for the same UID, that ``dicom-node show`` accepts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from datetime import UTC, datetime

_log = logging.getLogger("dicom_node")


def hash_uid(uid: str) -> str:
    """The name by which a UID appears in logs and metrics: 12 hexadecimal digits."""
    return hashlib.sha256(uid.encode("ascii", "replace")).hexdigest()[:12]


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        text = " ".join(f"{name}={value}" for name, value in fields.items())
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        line = f"{at} {record.levelname.lower():7} {record.getMessage()} {text}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(level: str, form: str) -> None:
    """Send the node's events to stderr as ``console`` lines or ``json`` documents.

    Libraries speak only from WARNING up, and pynetdicom and pydicom, whose warnings quote
    element values, only from ERROR up.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for quoting in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(quoting).setLevel(logging.ERROR)
    _log.setLevel(level.upper())


class Events:
    """What the rooms of the node call when something has happened."""

    def _emit(self, level: int, event: str, **fields: object) -> None:
        _log.log(level, event, extra={"fields": fields})

    def association_accepted(self, association_id: str, calling_ae_title: str) -> None:
        self._emit(logging.DEBUG, "association accepted", association=association_id,
                   calling_ae_title=calling_ae_title)

    def association_refused(self, calling_ae_title: str, reason: str) -> None:
        self._emit(logging.WARNING, "association refused", calling_ae_title=calling_ae_title,
                   reason=reason)

    def association_ended(self, association_id: str, how: str, stored: int) -> None:
        self._emit(logging.INFO if how == "released" else logging.WARNING, "association ended",
                   association=association_id, how=how, stored=stored)

    def instance_stored(self, sop_instance_uid: str, size_bytes: int, outcome: str) -> None:
        self._emit(logging.DEBUG, "instance stored", instance=hash_uid(sop_instance_uid),
                   size_bytes=size_bytes, outcome=outcome)

    def instance_refused(self, status: int, reason: str, quarantined: bool) -> None:
        self._emit(logging.WARNING, "instance refused", status=f"0x{status:04X}", reason=reason,
                   quarantined=quarantined)

    def series_changed(self, series_instance_uid: str, state: str, reason: str) -> None:
        self._emit(logging.INFO, "series", series=hash_uid(series_instance_uid), state=state,
                   reason=reason)

    def job_changed(self, job_id: str, state: str, reason: str, attempt: int) -> None:
        failed = state in ("failed", "dead")
        self._emit(logging.WARNING if failed else logging.INFO, "job", job=job_id, state=state,
                   reason=reason, attempt=attempt)

    def delivery_changed(self, delivery_id: str, destination: str, state: str,
                         reason: str) -> None:
        failed = state in ("failed", "dead")
        self._emit(logging.WARNING if failed else logging.INFO, "delivery",
                   delivery=delivery_id, destination=destination, state=state, reason=reason)

    def worker_changed(self, device: str, what: str, reason: str = "") -> None:
        self._emit(logging.INFO, "inference worker", device=device, what=what, reason=reason)

    def node_changed(self, what: str, **fields: object) -> None:
        self._emit(logging.INFO, f"node {what}", **fields)

    def unexpected(self, where: str) -> None:
        """An error that no type foresaw, at a thread or process boundary, with its traceback."""
        _log.error("unexpected error", extra={"fields": {"where": where}}, exc_info=True)
