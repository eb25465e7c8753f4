"""The node: the only place where the rooms meet. Start, main loop, shutdown.

    listeners (own processes) -> ledger -> close -> route -> engine: infer -> engine: deliver

Nothing here is needed for a restart: `Node.start` does the same on an empty disk and after a
power cut, and the reconciler hands every open ledger row to the engine again. What each role does
is in `dicom_node.node_intake`, `dicom_node.node_work` and `dicom_node.node_delivery`; what several
hosts share, and who of them leads, in `dicom_node.node_hosts`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from datetime import timedelta
from functools import partial

from ai_models.catalog import Catalog
from ai_models.trust import why_refused
from dicom_node.config import Config
from dicom_node.delivery.dispatch import DeliveryDispatch
from dicom_node.errors import (
    ConfigurationError,
    HostNameTaken,
    LedgerDamaged,
    TransientError,
)
from dicom_node.events import Events
from dicom_node.imaging.decode import limit_decoded_bytes
from dicom_node.intake.acceptor import Listeners
from dicom_node.intake.inventory import FileIndex
from dicom_node.intake.priors import PriorSearch
from dicom_node.ledger.engine import DbosEngine, Handler, JobEngine, QueueLimits
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.recovery import heal
from dicom_node.node_delivery import Delivery
from dicom_node.node_headers import representative
from dicom_node.node_hosts import DELIVER, INTAKE, WORK, place_of
from dicom_node.node_intake import Intake
from dicom_node.node_locks import lock_data_dir
from dicom_node.node_models import check_model, site_of
from dicom_node.node_operations import Operations, Premises
from dicom_node.node_routing import Router
from dicom_node.node_rules import RuleModels, has_run
from dicom_node.node_spool import join_spool
from dicom_node.node_versions import ModelVersions
from dicom_node.node_work import Work
from dicom_node.operations.systemd import ServiceManager
from dicom_node.pipeline.dispatch import JobDispatch
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.shared_dispatch import SharedDispatch
from dicom_node.routing.rules import compare
from dicom_node.spool import Spool, open_spool

ROLES = frozenset({"intake", "work", "deliver", "web"})
_TICK_S = 0.1
_LEAST_S = 0.005
_SUBMIT_EVERY_S = 0.2
_RECONCILE_EVERY_S = 60.0
_SECOND_S = 1.0
_KEEP_ENGINE_HISTORY = timedelta(days=7)
Dispatch = JobDispatch | SharedDispatch | DeliveryDispatch


class Node:
    """One running node.

    Parameters
    ----------
    config
        Checked settings.
    events
        Where what happens is told.
    roles
        Which of ``intake``, ``work``, ``deliver`` and ``web`` this process does.
    manager
        Who started it and wants to hear how it is.
    """

    def __init__(
        self, config: Config, events: Events, roles: Collection[str] = ROLES,
        manager: ServiceManager | None = None,
    ) -> None:
        self.config = config
        self._events = events
        self._roles = frozenset(roles)
        limit_decoded_bytes(config.intake.max_decoded_bytes)
        self._locks = lock_data_dir(config.node.data_dir, self._roles)
        self.spool = open_spool(config)
        url = config.database.url or f"sqlite:///{config.node.data_dir / 'ledger.db'}"
        self.ledger, was_rebuilt = _sound_ledger(url, events)
        join_spool(config, self.spool, self.ledger)
        self._is_first_start = not was_rebuilt and not has_run(self.ledger, self.spool)
        site = site_of(config)
        self.catalog = Catalog(
            config.models.directories, admit=lambda card: check_model(card, site), missing_ok=True
        )
        self.place = place_of(
            config, self.ledger, self._roles, config.peers, events, self._waiting_here_s
        )
        refused, decides = partial(why_refused, site=site), self._decides
        self._versions = ModelVersions(
            self.catalog, self.ledger, events, refused, decides=decides
        )
        self._rules = RuleModels(
            config, self.catalog, self.ledger, events, refused, decides=decides
        )
        self._priors = _prior_search(config, self.ledger, self.spool, events)
        self._router = Router(
            config, self.ledger, self.spool, self.catalog, events, self._versions, self._priors
        )
        self._engine: JobEngine = self._engine_on(url)
        around = (config, self.ledger, self.spool)
        self.intake: Intake | None = None
        if INTAKE in self._roles:
            self.intake = Intake(
                *around, events, self.place, self._router, self._priors,
                self._index_of_files, self._refresh_models,
            )
        self.work: Work | None = None
        if WORK in self._roles:
            self.work = Work(
                *around, self.catalog, events, self.place, self._router, self._engine
            )
        self.delivery = Delivery(*around, events, self.place, self._engine)
        self._dispatches = self._dispatches_of_roles()
        self._operations = Operations(
            Premises(
                config, self._roles, self.ledger, self.spool, events, self.catalog, self._router,
                self.delivery.prober, self._listeners, self._pool, manager or ServiceManager(),
                self.place,
            )
        )
        self._next_submit = self._next_reconcile = self._next_second = 0.0
        self._work_ended = threading.Event()

    def _engine_on(self, url: str) -> JobEngine:
        if self.place.is_shared:
            # Nobody takes up what this process had but by the ledger: see the engine's module.
            return DbosEngine(
                url, executor_id=self.place.process_id, queues_of=self.place.host_name
            )
        return DbosEngine(url, executor_id=_executor_id(self.config, self._roles))

    def _dispatches_of_roles(self) -> list[Dispatch]:
        found: list[Dispatch] = []
        if self.work is not None:
            found.append(self.work.dispatch)
        if DELIVER in self._roles:
            found.append(self.delivery.dispatch)
        return found

    def _decides(self) -> bool:
        return INTAKE in self._roles and self.place.leads(INTAKE)

    def _waiting_here_s(self) -> float:
        return self.intake.waiting_here_s() if self.intake is not None else 0.0

    def _listeners(self) -> Listeners | None:
        return self.intake.listeners if self.intake is not None else None

    def _pool(self) -> InferencePool | None:
        return self.work.pool if self.work is not None else None

    @property
    def port(self) -> int:
        """The port on which the node listens; useful when the settings say 0."""
        listeners = self._listeners()
        if listeners is None:
            raise ConfigurationError("this node does not listen", key_path="node.port")
        return listeners.port

    def start(self) -> None:
        """Take up what is on disk, then open the doors.

        Raises
        ------
        ConfigurationError
            At the very first start, when a rule names a model of which nothing is known. A model
            that is damaged, missing or not allowed here stops nothing: its rule is told, and what
            it takes is answered as not analysed.
        HostNameTaken
            A living process of the same name has one of these roles.
        LedgerUnavailable, StorageFailed
            When the disk or the database does not work.
        """
        self._rules.check_names(is_first_start=self._is_first_start)
        self.place.start()
        self._versions.begin()
        self._rules.begin(weights=bool(self._roles & {INTAKE, WORK}))
        removed = self.spool.clean_incoming()
        if self.intake is not None:
            self.intake.prepare()
        self._start_engine()
        if self.work is not None:
            self.work.start()
        if self.intake is not None:
            self.intake.open(removed)
        if DELIVER in self._roles:
            self.delivery.start()
        self._operations.start()
        self.place.ready()

    def _start_engine(self) -> None:
        handlers: dict[str, Handler] = {}
        queues: dict[str, QueueLimits] = {}
        if self.work is not None:
            handlers, queues["infer"] = self.work.prepare()
        if DELIVER in self._roles:
            handlers["deliver"] = self.delivery.dispatch.run_attempt
            queues["deliver"] = self.delivery.dispatch.limits
        # A process that only receives has nothing to run, and leaves the queues to the others.
        if handlers:
            noticed = {kind: self._noticed(handler) for kind, handler in handlers.items()}
            self._engine.start(noticed, queues)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. A ledger that does not answer is waited for.

        Raises
        ------
        LedgerDamaged
            The next start rebuilds it: whoever supervises the node starts it again.
        HostNameTaken
            Another host was started under this one's name while this one was cut off.
        """
        while not self._pause(stop):
            try:
                self.ledger.check_sound()
                self.tick()
            except LedgerDamaged as error:
                self.ledger.condemn(str(error))
                raise
            except HostNameTaken:
                raise
            except TransientError as error:
                self._events.node_changed("waiting", reason=error.reason)
                stop.wait(1.0)
            # A boundary: what one round meets must not end the receiving of images.
            except Exception:  # noqa: BLE001
                self._events.unexpected("main loop")
                stop.wait(5.0)

    def _pause(self, stop: threading.Event) -> bool:
        """Wait for the next round, or until a job or a delivery has ended; whether to stop.

        The next round is sooner where a series may be closed before.
        """
        due_in_s = self.intake.next_due_in_s() if self.intake is not None else _TICK_S
        if self._work_ended.wait(min(_TICK_S, due_in_s + _LEAST_S)):
            self._work_ended.clear()
            # What it made is to go, and the next one to come.
            self._next_submit = 0.0
        return stop.wait(0.0)

    def _noticed(self, handler: Handler) -> Handler:
        def run(key: str, attempt: int) -> None:
            try:
                handler(key, attempt)
            finally:
                self._work_ended.set()

        return run

    def tick(self) -> None:
        """One round of the main loop.

        Raises
        ------
        LedgerUnavailable
            The round is incomplete and the next one makes up for it.
        """
        now = time.monotonic()
        self._operations.tick()
        if now >= self._next_second:
            self._next_second = now + _SECOND_S
            self._refresh_models()
            if self.work is not None:
                self.work.tick()
        moved = self.intake.tick() if self.intake is not None else 0
        if now >= self._next_reconcile:
            self._reconcile()
            self._next_reconcile = now + _RECONCILE_EVERY_S
        if moved or now >= self._next_submit:
            self._next_submit = now + _SUBMIT_EVERY_S
            self._submit_open()

    def _refresh_models(self) -> None:
        self._versions.refresh()
        self._rules.refresh()

    def _index_of_files(self) -> FileIndex:
        return self._operations.index_of_files()

    def _submit_open(self) -> None:
        for dispatch in self._dispatches:
            dispatch.submit_open()

    def _reconcile(self) -> None:
        if self._dispatches:
            self._engine.sweep()
            self._engine.prune(_KEEP_ENGINE_HISTORY)
            if self.place.is_shared and any(map(self.place.leads, (WORK, DELIVER))):
                living = [one.process_id for one in self.ledger.hosts.all() if one.lives]
                self._engine.forget([*living, self.place.process_id])
                self.ledger.claims.forget_old()
        for dispatch in self._dispatches:
            dispatch.reconcile()

    def close(self) -> None:
        """Close the doors, let what runs come to its end, give everything back."""
        self._operations.stop()
        if self.intake is not None:
            self.intake.close_questions()
            self.intake.close_doors()
        self.delivery.stop()
        if self.intake is not None:
            self.intake.stop()
        self.delivery.dispatch.close()
        if self.work is not None:
            self.work.close_desk()
        # The engine first: it takes nothing new and waits a while for what runs. What runs longer
        # is ended with its worker and is queued again for the next start.
        self._engine.stop()
        if self.work is not None:
            self.work.stop()
        # Last: until now nobody else was to take up what is this process's.
        self.place.stop(to_index=self.intake is not None and self.intake.left_unindexed)
        self.ledger.close()
        for lock in self._locks:
            lock.close()
        self._events.node_changed("stopped")


def _prior_search(config: Config, ledger: Ledger, spool: Spool, events: Events) -> PriorSearch:
    """Who looks for earlier examinations, by what the rules and the headers say."""
    return PriorSearch(
        config, ledger, spool, events, lambda condition, header: not compare(condition, header),
        partial(representative, spool),
    )


def _sound_ledger(url: str, events: Events) -> tuple[Ledger, bool]:
    """The ledger, and whether it had to be rebuilt."""
    rebuilt = heal(url)
    if rebuilt is not None:
        events.ledger_rebuilt(rebuilt.reason, rebuilt.kept_as, rebuilt.salvaged)
    return Ledger.open(url), rebuilt is not None


def _executor_id(config: Config, roles: frozenset[str]) -> str:
    """The same after a restart, another for another process of the same node."""
    return "-".join([config.node.ae_title.replace(" ", "_"), *sorted(roles - {"web"})])
