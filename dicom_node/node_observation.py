"""How the node is watched: what its metrics and its audit trail are told, and what they ask."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dicom_node.errors import LedgerUnavailable
from dicom_node.operations.audit import Auditor
from dicom_node.operations.audit_subjects import Subjects
from dicom_node.operations.certificates import ends_at
from dicom_node.operations.doctor_host import folder_of_images
from dicom_node.operations.metrics import Metrics
from dicom_node.operations.metrics_gauges import Surroundings
from dicom_node.operations.tracing import Tracing

if TYPE_CHECKING:
    from dicom_node.node_operations import Premises

# Scrapes read the history too; this keeps a node that nobody scrapes from a long first one.
_LOOK_EVERY_S = 60.0
_TRACE_EVERY_S = 5.0


class Observation:
    """The `Care` that counts, and keeps the audit trail.

    Attributes
    ----------
    metrics
        What `/metrics` shows.
    auditor
        ``None`` where the settings want no audit trail.
    """

    def __init__(self, premises: Premises, is_ready: Callable[[], bool]) -> None:
        self._premises = premises
        config = premises.config
        self.auditor: Auditor | None = None
        if config.security.audit.enabled:
            subjects = Subjects(premises.ledger, premises.spool)
            self.auditor = Auditor(config, subjects, premises.events)
            premises.events.add_sink(self.auditor.sink)
        self.metrics = Metrics(
            premises.ledger,
            Surroundings(
                folder_of_images(config), config.storage.refuse_below_free_bytes,
                self._open_associations, is_ready, self._device_mib, self._processes,
                certificates=self._certificates,
                audit=lambda: self.auditor.standing() if self.auditor is not None else None,
                peers=tuple(config.peers),
            ),
        )
        self._tracing: Tracing | None = None
        # Of the processes of a node, one tells: the history is that of all of them.
        if config.tracing.otlp_endpoint is not None and "work" in premises.roles:
            self._tracing = Tracing(
                config.tracing.otlp_endpoint, config.node.ae_title, premises.ledger
            )
        self._next_look_s = self._next_trace_s = 0.0
        premises.events.add_sink(self.metrics.sink)

    def start(self) -> None:
        """Begin the audit trail; what happens is counted from the beginning."""
        if self.auditor is not None:
            self.auditor.start()

    def tick(self) -> None:
        """Look at the history now and then."""
        now = time.monotonic()
        if now >= self._next_look_s:
            self._next_look_s = now + _LOOK_EVERY_S
            self.metrics.tick()
        if self._tracing is not None and now >= self._next_trace_s:
            self._next_trace_s = now + _TRACE_EVERY_S
            self._tracing.tick()

    def stop(self) -> None:
        """Send the last spans; the audit trail ends with the node's last event (`Auditor.sink`)."""
        if self._tracing is not None:
            # What is not told now is told nowhere: the next start begins with what comes then.
            with contextlib.suppress(LedgerUnavailable):
                self._tracing.tick()
            self._tracing.close()

    def _open_associations(self) -> int:
        listeners = self._premises.listeners()
        return listeners.open_associations if listeners is not None else 0

    def _certificates(self) -> Mapping[str, float]:
        config = self._premises.config
        tls, syslog = config.security.tls, config.security.audit.syslog
        files = {
            "dicom": tls.certificate_file if tls is not None else None,
            "web": config.web.certificate_file,
            "audit": syslog.certificate_file if syslog is not None else None,
        }
        found = {}
        for use, file in files.items():
            # One that cannot be read is told by who needs it.
            with contextlib.suppress(OSError, ValueError):
                if file is not None:
                    found[use] = ends_at(file)
        return found

    def _device_mib(self) -> Mapping[str, float]:
        pool = self._premises.pool()
        return pool.held_mib() if pool is not None else {}

    def _processes(self) -> Mapping[str, Sequence[int]]:
        listeners, pool = self._premises.listeners(), self._premises.pool()
        return {
            "listener": listeners.pids if listeners is not None else [],
            "worker": pool.pids if pool is not None else [],
        }
