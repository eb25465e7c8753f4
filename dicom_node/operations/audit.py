"""The audit trail of the node: who connected, what came, what was sent, what was changed.

    Auditor.sink      takes an event, and returns at once
    its thread        makes messages of events (`audit_records`), appends them to the local trail
                      (`audit_trail`); `audit_shipping` sends that to the collector, where there is
                      one

Nothing here stops the node: while the trail cannot be written, events wait in memory (the latest
`_MOST_WAITING`), it is told, and the trail says later how many were not recorded. Every batch is
synced before the next: a kill loses what happened in the last moment, a power cut nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.config import Config
from dicom_node.durable import write_durably
from dicom_node.errors import TransientError
from dicom_node.events import Events
from dicom_node.operations.audit_records import (
    NOT_RECORDED,
    SETTINGS,
    STARTED,
    AuditRecords,
    Happened,
)
from dicom_node.operations.audit_shipping import AuditShipping
from dicom_node.operations.audit_subjects import Subjects
from dicom_node.operations.audit_trail import AuditStanding, AuditTrail
from dicom_node.operations.syslog import Collector

_MOST_WAITING = 10_000
_MOST_AT_ONCE = 500
_BATCH_S = 0.2
_TRY_AGAIN_S = 2.0
_END_PATIENCE_S = 5.0
# The same caller refused for the same reason is told once, and then how often, a minute at a time.
_REPEATS_S = 60.0
_MOST_REPEATS = 1000
_SETTINGS = "settings.json"
# A short password could be found by its hash.
_PASSWORD = re.compile(r"://[^/@\s\"]*@")


class Auditor:
    """The audit trail of one process of the node.

    Parameters
    ----------
    config
        The settings; whether they are those of the last start is written down too.
    subjects
        Where studies and patients are looked up.
    events
        Told when the trail cannot be written or the collector is away.
    """

    def __init__(self, config: Config, subjects: Subjects, events: Events) -> None:
        self._config = config
        self._events = events
        self._folder = audit_folder(config)
        self._trail = AuditTrail(self._folder)
        self._records = AuditRecords(config, socket.gethostname() or "localhost", subjects)
        self._waiting: deque[Happened] = deque()
        self._lost = 0
        self._repeats: dict[tuple[str, ...], tuple[float, Happened, int]] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._ended = threading.Event()
        self._is_written = True
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._shipping = self._make_shipping()
        self._take(STARTED, {})

    def _make_shipping(self) -> AuditShipping | None:
        syslog = self._config.security.audit.syslog
        if syslog is None:
            return None
        collector = Collector(
            syslog.host, syslog.port, syslog.transport, syslog.ca_file, syslog.certificate_file,
            syslog.key_file,
        )
        return AuditShipping(self._folder, collector, self._tell_collector)

    def sink(self, event: str, arguments: Mapping[str, object]) -> None:
        """Take one event (`dicom_node.events.Sink`); the last one of a node is waited for."""
        if self._records.concerns(event, arguments):
            self._take(event, dict(arguments))
        if event == "node_changed" and arguments.get("what") == "stopped":
            self.close()

    def start(self) -> None:
        """Begin to write, with the start of the node as the first message."""
        self._note_settings()
        self._thread.start()
        if self._shipping is not None:
            self._shipping.start()

    def close(self) -> None:
        """Write what waits; the collector gets what it takes at once."""
        if self._thread.ident is None:
            return
        self._ended.set()
        self._news.set()
        self._thread.join(_END_PATIENCE_S)
        if self._shipping is not None:
            self._shipping.close()

    def standing(self) -> AuditStanding:
        """How the trail is, for metrics and health."""
        if self._shipping is None:
            return AuditStanding(0, self._is_written, None)
        return AuditStanding(
            self._shipping.backlog_bytes(), self._is_written, self._shipping.is_up is not False
        )

    def _take(self, name: str, told: Mapping[str, object]) -> None:
        happened = Happened(datetime.now(UTC), name, told)
        with self._lock:
            if self._is_repeated(happened):
                return
            if len(self._waiting) >= _MOST_WAITING:
                self._waiting.popleft()
                self._lost += 1
            self._waiting.append(happened)
        self._news.set()

    def _is_repeated(self, happened: Happened) -> bool:
        key = _repeats_as(happened)
        if key is None:
            return False
        since, first, times = self._repeats.get(key, (0.0, happened, 0))
        if since:
            self._repeats[key] = (since, first, times + 1)
            return True
        if len(self._repeats) < _MOST_REPEATS:
            self._repeats[key] = (time.monotonic(), happened, 0)
        return False

    def _told_together(self, *, all_of_them: bool) -> list[Happened]:
        """What was repeated in the minute that has passed since it happened first."""
        due = []
        now = time.monotonic()
        for key, (since, first, times) in list(self._repeats.items()):
            if all_of_them or now > since + _REPEATS_S:
                del self._repeats[key]
                if times:
                    told = {**first.told, "times": times}
                    due.append(Happened(datetime.now(UTC), first.name, told))
        return due

    def _run(self) -> None:
        pending: list[Happened] = []
        while True:
            is_last = self._ended.is_set()
            with self._lock:
                pending += self._told_together(all_of_them=is_last)
                while self._waiting and len(pending) < _MOST_AT_ONCE:
                    pending.append(self._waiting.popleft())
                is_more = bool(self._waiting)
            if pending and self._write(pending):
                pending = []
                if is_more:
                    continue
            if is_last:
                return
            self._news.wait(_REPEATS_S / 4 if not pending else _TRY_AGAIN_S)
            self._news.clear()
            # What happens together is synced together.
            self._ended.wait(_BATCH_S if not pending else _TRY_AGAIN_S)

    def _write(self, pending: list[Happened]) -> bool:
        messages: list[str] = []
        for happened in pending:
            try:
                messages += self._records.messages(happened)
            # A boundary: an event that makes no message must not stop those that do.
            except Exception:  # noqa: BLE001
                self._events.unexpected(f"audit of {happened.name}")
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost:
            told = {"count": lost, "reason": "too many waited to be written"}
            messages += self._records.messages(Happened(datetime.now(UTC), NOT_RECORDED, told))
        try:
            self._trail.append(messages)
        except TransientError as error:
            return self._keep(lost, error.reason)
        # A thread boundary: whatever else is wrong with the files, the node tells it and goes on.
        except Exception:  # noqa: BLE001
            if self._is_written:
                self._events.unexpected("audit trail")
            return self._keep(lost, "unexpected")
        self._tell_written("")
        if self._shipping is not None:
            self._shipping.notice()
        return True

    def _keep(self, lost: int, problem: str) -> bool:
        """Nothing was written: it is tried again, and what was lost before is told then."""
        with self._lock:
            self._lost += lost
        self._tell_written(problem)
        return False

    def _tell_written(self, problem: str) -> None:
        is_written = not problem
        if is_written is not self._is_written:
            self._is_written = is_written
            self._events.audit_changed("written" if is_written else "not written", problem)

    def _tell_collector(self, problem: str) -> None:
        self._events.audit_changed("away" if problem else "back", problem)

    def _note_settings(self) -> None:
        """Compare the settings with those of the last start, section by section, by their hash."""
        now = {
            name: hashlib.sha256(_PASSWORD.sub("://@", json.dumps(section)).encode()).hexdigest()
            for name, section in self._config.model_dump(mode="json").items()
        }
        path = self._folder / _SETTINGS
        try:
            before = json.loads(path.read_bytes())
        except (OSError, ValueError):
            # The first start, or a damaged file: there is nothing to compare with.
            before = {}
        changed = sorted(
            name for name in now.keys() | before.keys() if now.get(name) != before.get(name)
        )
        if not changed:
            return
        if before:
            self._take(SETTINGS, {"sections": changed})
        content = json.dumps(now).encode()
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            write_durably(str(path), lambda file: file.write(content))
        except OSError as error:
            self._tell_written(f"settings: {error.strerror}")


def audit_folder(config: Config) -> Path:
    """Where the trail of a node is."""
    return config.node.data_dir / "audit"


def _repeats_as(happened: Happened) -> tuple[str, ...] | None:
    """What makes two events one that is repeated; ``None`` where each counts."""
    told = happened.told
    if happened.name == "association_refused":
        return (happened.name, str(told["address"]), str(told["reason"]))
    if happened.name == "instance_refused":
        return (happened.name, str(told.get("calling_ae_title")), str(told.get("address")),
                str(told["reason"]))
    if happened.name == "web_sign_in" and not told["succeeded"]:
        return (happened.name, str(told["address"]))
    return None
