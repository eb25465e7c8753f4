"""From the hashes that stand in addresses and logs back to studies and series."""

from __future__ import annotations

import re
import threading
from datetime import datetime, timedelta

from dicom_node.events import hash_uid
from dicom_node.ledger.ledger import Ledger

HASH = re.compile(r"[0-9a-f]{12}")
_OVERLAP = timedelta(seconds=5)


class Names:
    """Which study a hash means; looked up in memory, and read on from the ledger when it is new."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._study_of: dict[str, str] = {}
        self._read_until: datetime | None = None

    def study(self, name: str) -> str | None:
        """Study Instance UID of a hash of a study or of one of its series, or of a job's id."""
        if HASH.fullmatch(name):
            found = self._find(name)
            if found is not None:
                return found
        job = self._ledger.jobs.find(name) if re.fullmatch("[0-9a-f]{16}", name) else None
        return job.study_instance_uid if job is not None else None

    def _find(self, name: str) -> str | None:
        with self._lock:
            if name not in self._study_of:
                self._read_on()
            return self._study_of.get(name)

    def _read_on(self) -> None:
        """What arrived since; some seconds are read twice, for not all is written in order."""
        since = self._read_until - _OVERLAP if self._read_until is not None else None
        for study, series, received_at in self._ledger.overview.names(since):
            self._study_of[hash_uid(study)] = study
            self._study_of.setdefault(hash_uid(series), study)
            self._read_until = received_at
