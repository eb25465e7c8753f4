"""From the hashes that stand in addresses and logs back to studies and series."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

from dicom_node.events import hash_uid
from dicom_node.ledger.ledger import Ledger

HASH = re.compile(r"[0-9a-f]{12}")
_MOST = 20_000


class Names:
    """Which study a hash means: those that were shown lately are known, others are looked for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        # One search at a time: it reads the names of everything that was ever received.
        self._searching = threading.Lock()
        self._study_of: OrderedDict[str, str] = OrderedDict()

    def remember(self, study_instance_uid: str) -> str:
        """The hash of a study that is about to be shown."""
        name = hash_uid(study_instance_uid)
        self._keep(name, study_instance_uid)
        return name

    def study(self, name: str) -> str | None:
        """Study Instance UID of a hash of a study or of one of its series, or of a job's id."""
        if HASH.fullmatch(name):
            return self._known(name) or self._search(name)
        job = self._ledger.jobs.find(name) if re.fullmatch("[0-9a-f]{16}", name) else None
        return job.study_instance_uid if job is not None else None

    def _known(self, name: str) -> str | None:
        with self._lock:
            found = self._study_of.get(name)
            if found is not None:
                self._study_of.move_to_end(name)
            return found

    def _search(self, name: str) -> str | None:
        with self._searching:
            found = self._known(name)
            if found is not None:
                return found
            for study, series in self._ledger.overview.names():
                if name in (hash_uid(study), hash_uid(series)):
                    self._keep(name, study)
                    return study
        return None

    def _keep(self, name: str, study: str) -> None:
        with self._lock:
            self._study_of[name] = study
            self._study_of.move_to_end(name)
            while len(self._study_of) > _MOST:
                self._study_of.popitem(last=False)
