"""The durable engine that drives jobs and deliveries, behind a thin port.

The ledger knows, the engine drives: a handler gets a key and an attempt and reads the ledger
again, so running it twice is safe, and losing the whole engine loses nothing because the
reconciler submits every open ledger row under its deterministic id.

`DbosEngine` is DBOS Transact on the ledger's own database, with these corrections:

1.  SQLite through our own engine (``BEGIN IMMEDIATE``, write-ahead log, ``synchronous=FULL``),
    because "count running, then claim" otherwise races; migrated before it is handed over.
2.  `DbosEngine.sweep` resumes what stayed pending in a living process after a failed last write.
3.  Dead executors: where several hosts share a database every process has an executor id and
    queues of its own, and the engine's recovery by the same id, which any process may take up, has
    nothing to do. Who lives is said by `dicom_node.ledger.host_session`; the ledger gives what a
    dead one had a new attempt, and `DbosEngine.forget` ends what is left of it here.
4.  No in-process retries: a retry is a new attempt submitted with a delay.
5.  A fixed application version and executor id, so that an upgrade resumes what it finds.
6.  JSON instead of pickle, and nothing but keys in it.
7.  `DbosEngine.prune` deletes old history; the thread pool is bounded.
8.  A queue of this process looks into itself at once when this process has put something in
    (`dicom_node.ledger.bell`), instead of at its next look.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol

from dbos import DBOS, Serializer, SetWorkflowID, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.ledger import clock
from dicom_node.ledger.bell import Bell
from dicom_node.ledger.database import create_engine, unavailable

APPLICATION_VERSION = "1"
_POLL_S = 0.1
_SWEEP_AFTER_S = 60.0
_PRUNE_AT_ONCE = 1000
# In the queue of a host that never came back.
_FORGOTTEN_AFTER = timedelta(days=1)
_FINISHED = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})

Handler = Callable[[str, int], None]


@dataclass(frozen=True)
class QueueLimits:
    """How many jobs of a queue run at once: on this host, and per lane (destination)."""

    per_host: int
    per_lane: int | None = None


class Standing(Enum):
    """What an engine knows of one attempt; it never runs a finished one again."""

    UNKNOWN = "unknown"
    OPEN = "open"
    ELSEWHERE = "elsewhere"
    """Open, and in the hands or the queue of another process."""
    FINISHED = "finished"


class JobEngine(Protocol):
    """What the node asks of an engine."""

    def start(self, handlers: Mapping[str, Handler], queues: Mapping[str, QueueLimits]) -> None:
        """Begin to run jobs; each kind of job is also the name of its queue."""

    def submit(
        self,
        kind: str,
        key: str,
        attempt: int,
        *,
        lane: str | None = None,
        priority: int = 10,
        not_before: datetime | None = None,
    ) -> None:
        """Ask once for one attempt of one job; the same again changes nothing."""

    def start_here(self, kind: str, key: str, attempt: int) -> None:
        """Begin one attempt at once in this process, whatever its queue has to do."""

    def standing(self, kind: str, key: str, attempt: int) -> Standing:
        """Whether the engine knows this attempt, and is finished with it."""

    def sweep(self) -> int:
        """Mend what the engine itself left behind; returns how many jobs that were."""

    def prune(self, older_than: timedelta) -> int:
        """Forget finished work; returns how many jobs that were."""

    def forget(self, living: Collection[str]) -> int:
        """End what is open in other processes than these executors; returns how much that was."""

    def stop(self) -> None:
        """Take no new job and wait for those that run."""


class _JsonSerializer(Serializer):
    """Keys and attempts as JSON; anything else becomes the name of its type.

    The text of an exception may quote what a patient's file says: it is not kept.
    """

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=lambda other: type(other).__name__)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "dicom_node_json"


def engine_id(kind: str, key: str, attempt: int) -> str:
    """The engine's id of one attempt."""
    return f"{kind}:{key}:{attempt}"


class HandlerFailed(Exception):
    """A handler raised; only the type of what it raised is told, for the engine writes it down."""


class DbosEngine:
    """DBOS Transact as a `JobEngine`; one per process.

    Parameters
    ----------
    url
        The ledger's database.
    executor_id
        The same after a restart, another for every other process; with ``queues_of`` another at
        every start.
    queues_of
        Whose queues these are, where several hosts share the database; "": the only ones.
    max_threads
        How many handlers run at once at most, where the queues do not ask for more.
    patience_s
        How long `stop` waits for what runs.
    """

    def __init__(
        self, url: str, *, executor_id: str, queues_of: str = "", max_threads: int = 32,
        patience_s: int = 10,
    ) -> None:
        self._patience_s = patience_s
        self._url = url
        self._executor_id = executor_id
        self._suffix = f"@{queues_of}" if queues_of else ""
        self._max_threads = max_threads
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._lanes: set[str] = set()
        self._workflows: dict[str, Callable[[str, int], None]] = {}
        self._bell = Bell(up_to_s=2 * _POLL_S)

    def start(self, handlers: Mapping[str, Handler], queues: Mapping[str, QueueLimits]) -> None:
        """See `JobEngine.start`.

        Raises
        ------
        LedgerUnavailable
            When the database cannot be reached or migrated.
        """
        with unavailable("the engine's database did not answer"):
            DBOS.migrate(self._url)
            library = DBOS(
                config={
                    "name": "dicom-node",
                    "system_database_engine": create_engine(self._url),
                    "run_migrations": False,
                    "application_version": APPLICATION_VERSION,
                    "executor_id": self._executor_id,
                    "serializer": _JsonSerializer(),
                    "enable_otlp": False,
                    "log_level": "ERROR",
                    "max_executor_threads": max(
                        self._max_threads, sum(limits.per_host for limits in queues.values()) + 8
                    ),
                }
            )
            _log_as_everything_else_does()
            for kind, handler in handlers.items():
                self._register(kind, handler)
            # Another process of this node may do the other kinds of work.
            DBOS.listen_queues([name + self._suffix for name in queues])
            DBOS.launch()
            # What its queues wait for between two looks; without it nothing is lost but time.
            for event in getattr(library, "background_thread_stop_events", ()):
                self._bell.hang_on(event)
            for name, limits in queues.items():
                self._register_queue(name, limits)

    def _register(self, kind: str, handler: Handler) -> None:
        def run(key: str, attempt: int) -> None:
            name = engine_id(kind, key, attempt)
            with self._lock:
                self._running.add(name)
            try:
                handler(key, attempt)
            # A boundary: the engine logs and keeps what it gets, so it gets no foreign text.
            except Exception as error:  # noqa: BLE001
                raise HandlerFailed(type(error).__name__) from None
            finally:
                with self._lock:
                    self._running.discard(name)

        run.__name__ = run.__qualname__ = kind
        self._workflows[kind] = DBOS.workflow(name=kind)(run)

    def _register_queue(self, name: str, limits: QueueLimits) -> None:
        if limits.per_lane is not None:
            self._lanes.add(name)
        DBOS.register_queue(
            name + self._suffix,
            worker_concurrency=limits.per_host,
            partition_concurrency=limits.per_lane,
            polling_interval_sec=_POLL_S,
            on_conflict="always_update",
        )

    def submit(
        self,
        kind: str,
        key: str,
        attempt: int,
        *,
        lane: str | None = None,
        priority: int = 10,
        not_before: datetime | None = None,
    ) -> None:
        """See `JobEngine.submit`."""
        options: dict[str, Any] = {
            "workflow_name": kind,
            "queue_name": kind + self._suffix,
            "workflow_id": engine_id(kind, key, attempt),
            "priority": priority,
        }
        if kind in self._lanes:
            options["queue_partition_key"] = lane or "-"
        delay_s = (not_before - clock.now()).total_seconds() if not_before else 0.0
        if delay_s > _POLL_S:
            options["delay_seconds"] = delay_s
        with unavailable("the engine took no job"):
            DBOS.enqueue_workflow_with_options(options, key, attempt)  # type: ignore[arg-type]
        self._bell.ring()

    def start_here(self, kind: str, key: str, attempt: int) -> None:
        """See `JobEngine.start_here`.

        What a process that died had begun is begun again by who resumes its work.
        """
        def start() -> None:
            with SetWorkflowID(engine_id(kind, key, attempt)):
                DBOS.start_workflow(self._workflows[kind], key, attempt)

        with unavailable("the engine began nothing"):
            # In a context of its own: what a handler starts is no part of its own work.
            contextvars.Context().run(start)

    def standing(self, kind: str, key: str, attempt: int) -> Standing:
        """See `JobEngine.standing`."""
        with unavailable("the engine could not be asked"):
            status = DBOS.get_workflow_status(engine_id(kind, key, attempt))
        if status is None:
            return Standing.UNKNOWN
        if status.status in _FINISHED:
            return Standing.FINISHED
        return Standing.OPEN if self._is_here(kind, status) else Standing.ELSEWHERE

    def _is_here(self, kind: str, status: WorkflowStatus) -> bool:
        if not self._suffix:
            # What another process of this host had is taken up by the engine itself.
            return True
        if status.status == "PENDING":
            return status.executor_id == self._executor_id
        return status.queue_name == kind + self._suffix

    def sweep(self) -> int:
        """See `JobEngine.sweep`: resume pending work of ours that no thread here is doing."""
        with unavailable("the engine could not be asked"):
            pending = DBOS.list_workflows(
                status="PENDING", executor_id=self._executor_id,
                load_input=False, load_output=False,
            )
        with self._lock:
            running = set(self._running)
        limit_ms = (time.time() - _SWEEP_AFTER_S) * 1000
        stale = [
            (w.workflow_id, w.queue_name)
            for w in pending
            if w.workflow_id not in running and (w.updated_at or 0) < limit_ms
        ]
        with unavailable("the engine resumed nothing"):
            for workflow_id, queue_name in stale:
                DBOS.resume_workflows([workflow_id], queue_name=queue_name)
        return len(stale)

    def prune(self, older_than: timedelta) -> int:
        """See `JobEngine.prune`."""
        before = (clock.now() - older_than).isoformat()
        with unavailable("the engine forgot nothing"):
            old = DBOS.list_workflows(
                completed_before=before, limit=_PRUNE_AT_ONCE, load_input=False, load_output=False
            )
            if old:
                DBOS.delete_workflows([w.workflow_id for w in old])
        return len(old)

    def forget(self, living: Collection[str]) -> int:
        """See `JobEngine.forget`; what waits in a queue counts once it has done so for long."""
        with unavailable("the engine could not be asked"):
            pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
            before = (clock.now() - _FORGOTTEN_AFTER).isoformat()
            waiting = DBOS.list_workflows(
                status=["ENQUEUED", "DELAYED"], end_time=before, limit=_PRUNE_AT_ONCE,
                load_input=False, load_output=False,
            )
            left = [w.workflow_id for w in pending if w.executor_id not in living]
            left += [w.workflow_id for w in waiting if not self._is_own_queue(w.queue_name)]
            if left:
                DBOS.cancel_workflows(left)
        return len(left)

    def _is_own_queue(self, name: str | None) -> bool:
        return name is not None and name.endswith(self._suffix)

    def stop(self) -> None:
        """See `JobEngine.stop`."""
        with contextlib.suppress(SQLAlchemyError):
            DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=self._patience_s)


def _log_as_everything_else_does() -> None:
    """The library writes to stderr by a handler of its own, past the node's format and rules."""
    log = logging.getLogger("dbos")
    log.setLevel(logging.ERROR)
    log.handlers.clear()
    log.propagate = True
