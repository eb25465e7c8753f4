"""Whether the node lives: what is asked of its rooms, and how systemd is told.

A part of liveness is one that a restart mends. A database server that is away is none: the
listeners go on keeping images without it, and a restart would only end what they receive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dicom_node.operations.health import Health, Probe
from dicom_node.operations.liveness import Address, DoorWatch, LedgerWatch
from dicom_node.operations.systemd import ServiceManager, SystemdCare
from dicom_node.records import Association, Instance

if TYPE_CHECKING:
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.node_operations import Premises

# A main loop that has not turned for so long will not: it waits for nothing longer than the ledger.
_LONGEST_ROUND_S = 120.0
# A worker past its deadline is killed within a second.
_LONGEST_OVERDUE_S = 120.0
_WAITING_JOBS, _WAITING_DELIVERIES = ("queued", "failed", "running"), ("pending", "failed")


class NodeHealth:
    """The probes of one node, and what keeps them up to date.

    Attributes
    ----------
    health
        What the parts say.
    ledger, doors
        Cares that ask; see `dicom_node.operations.liveness`.

    Parameters
    ----------
    notices
        What else a person should know; neither a restart nor waiting mends it.
    """

    def __init__(self, premises: Premises, notices: Mapping[str, Probe]) -> None:
        self._premises = premises
        self._turned_s = time.monotonic()
        self.ledger = LedgerWatch(premises.ledger.check_answers)
        self.doors = DoorWatch(self._doors)
        liveness = {
            "main loop": self._main_loop_problem,
            "listeners": self._listeners_problem,
            "workers": self._workers_problem,
        }
        readiness = {"free space": self._space_problem}
        is_file = premises.ledger.url.startswith("sqlite")
        (liveness if is_file else readiness)["ledger"] = self.ledger.problem
        self.health = Health(liveness, readiness, notices)

    def turned(self) -> None:
        """The main loop has turned, or got on with something long."""
        self._turned_s = time.monotonic()

    def systemd(self, manager: ServiceManager) -> SystemdCare:
        """What tells systemd; the last to be started of all cares, and so the first to be ended."""
        return SystemdCare(manager, self.health.report, self.doors.are_open, self.in_a_line)

    def in_a_line(self) -> str:
        """What there is to do, in numbers."""
        ledger, listeners = self._premises.ledger, self._premises.listeners()
        jobs, deliveries = ledger.jobs.count_by_state(), ledger.deliveries.count_by_state()
        waiting = sum(jobs.get(state, 0) for state in _WAITING_JOBS)
        unsent = sum(deliveries.get(state, 0) for state in _WAITING_DELIVERIES)
        where = "not receiving here" if listeners is None else f"receiving on port {listeners.port}"
        return f"{where}; {waiting} jobs and {unsent} deliveries to be done"

    def _doors(self) -> Sequence[Address]:
        listeners = self._premises.listeners()
        if listeners is None:
            return ()
        config = self._premises.config
        tls = config.security.tls
        ports = [listeners.port, *([tls.port] if tls is not None and tls.port else [])]
        return [(config.node.host, port) for port in ports]

    def _main_loop_problem(self) -> str:
        silent_s = time.monotonic() - self._turned_s
        return f"has not turned for {silent_s:.0f} s" if silent_s > _LONGEST_ROUND_S else ""

    def _listeners_problem(self) -> str:
        listeners = self._premises.listeners()
        if listeners is None:
            return ""
        if not listeners.alive():
            return "a listener process is not running"
        if not listeners.listening():
            return "a listener process does not listen yet"
        return self.doors.problem()

    def _workers_problem(self) -> str:
        pool = self._premises.pool()
        overdue_s = 0.0 if pool is None else pool.overdue_s()
        if overdue_s > _LONGEST_OVERDUE_S:
            return f"a job is {overdue_s:.0f} s past its deadline and was not ended"
        return ""

    def _space_problem(self) -> str:
        listeners = self._premises.listeners()
        if listeners is not None and listeners.refuses_for_space():
            return "the disk has no room for another study"
        return ""


class WatchedIndex:
    """The ledger's index of files, telling at every step that the long comparison gets on.

    A `dicom_node.intake.inventory.FileIndex`.
    """

    def __init__(self, ledger: Ledger, progress: Callable[[], None]) -> None:
        self._ledger = ledger
        self._progress = progress

    def index(
        self, instances: Sequence[Instance], associations: Sequence[Association] = (), *,
        is_there: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """See `Ledger.index`."""
        self._progress()
        self._ledger.index(instances, associations, is_there=is_there)

    def files_after(self, path: str, limit: int) -> list[tuple[str, str]]:
        """See `Ledger.files_after`."""
        self._progress()
        return self._ledger.files_after(path, limit)

    def forget_files(self, paths: Sequence[str]) -> int:
        """See `Ledger.forget_files`."""
        self._progress()
        return self._ledger.forget_files(paths)
