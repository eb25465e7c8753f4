"""The node: the only place where the rooms meet. Start, main loop, shutdown.

    listeners (own processes) -> ledger -> close -> route -> engine: infer -> engine: deliver

Nothing here is needed for a restart: `Node.start` does the same on an empty disk and after a
power cut, and the reconciler hands every open ledger row to the engine again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from datetime import timedelta
from functools import partial

import dicom_node
from ai_models.catalog import Catalog
from ai_models.trust import why_refused
from dicom_node.config import Config
from dicom_node.delivery.capabilities import CapabilityProber
from dicom_node.delivery.commitment import CommitmentAsker
from dicom_node.delivery.dispatch import DeliveryDispatch
from dicom_node.delivery.shipping import Shipping
from dicom_node.errors import ConfigurationError, LedgerDamaged, TransientError
from dicom_node.events import Events
from dicom_node.imaging.decode import limit_decoded_bytes
from dicom_node.imaging.decoded import Decoded
from dicom_node.intake.acceptor import Listeners, start_listeners
from dicom_node.intake.closing import SeriesCloser
from dicom_node.intake.commitment_reports import CommitmentReports
from dicom_node.intake.enquiry import Enquiry
from dicom_node.intake.inventory import take_inventory
from dicom_node.intake.priors import PriorSearch
from dicom_node.intake.room_watch import RoomWatch
from dicom_node.ledger.engine import DbosEngine, Handler, JobEngine, QueueLimits
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.recovery import heal
from dicom_node.node_headers import representative
from dicom_node.node_locks import lock_data_dir
from dicom_node.node_models import check_model, site_of, writer_of, writers_of
from dicom_node.node_operations import Operations, Premises
from dicom_node.node_routing import Router
from dicom_node.node_rules import RuleModels, has_run
from dicom_node.node_versions import ModelVersions
from dicom_node.operations.retention import settle_removals
from dicom_node.operations.systemd import ServiceManager
from dicom_node.pipeline.ahead import Ahead
from dicom_node.pipeline.attempts import AttemptRules, run_attempt, run_draft
from dicom_node.pipeline.destinations import Destinations
from dicom_node.pipeline.dispatch import JobDispatch
from dicom_node.pipeline.drafting import Drafts
from dicom_node.pipeline.duties import DutyKeeper
from dicom_node.pipeline.inference import InferencePool, resolve_devices
from dicom_node.pipeline.outbox import take_up_results
from dicom_node.pipeline.workshop import Workshop
from dicom_node.results.equipment import node_equipment
from dicom_node.results.profile import Wanted
from dicom_node.routing.rules import compare
from dicom_node.spool import Spool, open_spool

ROLES = frozenset({"intake", "work", "deliver", "web"})
_TICK_S = 0.1
_SUBMIT_EVERY_S = 0.2
_RECONCILE_EVERY_S = 60.0
_MODELS_EVERY_S = 1.0
_KEEP_ENGINE_HISTORY = timedelta(days=7)


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
        self._is_first_start = not was_rebuilt and not has_run(self.ledger, self.spool)
        site = site_of(config)
        self.catalog = Catalog(
            config.models.directories, admit=lambda card: check_model(card, site), missing_ok=True
        )
        refused, decides = partial(why_refused, site=site), "intake" in self._roles
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
        self._enquiry = Enquiry(config, self.ledger, self.spool, events)
        self._closer = SeriesCloser(
            self.ledger, config.completeness, events, enquiry=self._enquiry,
            waiting_s=lambda: self._listeners.oldest_waiting_s() if self._listeners else 0.0,
        )
        self._room_watch = RoomWatch(
            self.ledger, events,
            lambda: self._listeners is not None and self._listeners.refuses_for_space(),
        )
        self._engine: JobEngine = DbosEngine(url, executor_id=_executor_id(config, self._roles))
        self._pool: InferencePool | None = None
        self._drafts = Drafts(config.results.drafts_at_once, self._engine, self.ledger)
        self._duties: DutyKeeper | None = None
        self._ahead: Ahead | None = None
        self._listeners: Listeners | None = None
        self._deliveries = DeliveryDispatch(
            self.ledger, self._engine, config, Shipping(config, self.ledger, self.spool, events),
            events,
        )
        self._dispatches = self._dispatches_of_roles()
        self._prober = CapabilityProber(config, self.ledger, events)
        self._commitment = CommitmentAsker(config, self.ledger, events)
        self._commitment_reports = CommitmentReports(config, self.ledger, self.spool, events)
        self._operations = Operations(
            Premises(
                config, self._roles, self.ledger, self.spool, events, self.catalog, self._router,
                self._prober, lambda: self._listeners, lambda: self._pool,
                manager or ServiceManager(),
            )
        )
        self._next_submit = self._next_reconcile = self._next_models = 0.0
        self._must_reindex = False

    def _dispatches_of_roles(self) -> list[JobDispatch | DeliveryDispatch]:
        found: list[JobDispatch | DeliveryDispatch] = []
        if "work" in self._roles:
            jobs = self.config.jobs
            found.append(
                JobDispatch(self.ledger, self._engine, jobs.promote_after_s, jobs.per_model)
            )
        if "deliver" in self._roles:
            found.append(self._deliveries)
        return found

    @property
    def port(self) -> int:
        """The port on which the node listens; useful when the settings say 0."""
        if self._listeners is None:
            raise ConfigurationError("this node does not listen", key_path="node.port")
        return self._listeners.port

    def start(self) -> None:
        """Take up what is on disk, then open the doors.

        Raises
        ------
        ConfigurationError
            At the very first start, when a rule names a model of which nothing is known. A model
            that is damaged, missing or not allowed here stops nothing: its rule is told, and what
            it takes is answered as not analysed.
        LedgerUnavailable, StorageFailed
            When the disk or the database does not work.
        """
        self._rules.check_names(is_first_start=self._is_first_start)
        self._versions.begin()
        self._rules.begin(weights=bool(self._roles & {"intake", "work"}))
        removed = self.spool.clean_incoming()
        if "intake" in self._roles:
            # Before anybody looks at what is kept.
            settle_removals(self.ledger, self.spool)
        if "work" in self._roles:
            take_up_results(self.spool, self.ledger, self._events)
        self._start_engine()
        if self._duties is not None:
            self._duties.start()
        if self._ahead is not None:
            self._ahead.start()
        if "intake" in self._roles:
            # Whatever is still open in the ledger belonged to listeners that are gone.
            self.ledger.receipts.lose_associations(())
            self._listeners = start_listeners(
                self.config, self.ledger.url, self._events.tell
            )
            found = self._index_again()
            self._enquiry.start()
            self._priors.start()
            self._commitment_reports.start()
            self._events.node_changed(
                "listening", ae_title=self.config.node.ae_title, port=self._listeners.port,
                half_files_removed=removed, files_indexed_again=found,
            )

        if "deliver" in self._roles:
            self._prober.start()
            self._commitment.start()
        self._operations.start()

    def _start_engine(self) -> None:
        handlers: dict[str, Handler] = {}
        queues: dict[str, QueueLimits] = {}
        if "work" in self._roles:
            devices = resolve_devices(self.config.models.devices)
            self._pool = InferencePool(
                devices, site_of(self.config),
                self.config.node.data_dir / "scratch", self._events,
                self.config.jobs.heartbeat_s,
                device_memory_mib=self.config.models.device_memory_mib,
                measured=self.config.node.data_dir / "model-memory.json",
            )
            for dispatch in self._dispatches:
                if isinstance(dispatch, JobDispatch):
                    dispatch.places = len(devices)
            workshop = Workshop(
                self.ledger, self.spool, self.catalog, self._pool,
                node_equipment(self.config.node.ae_title, dicom_node.__version__),
                destinations_of(self.config, self.ledger), self.config.models.deadline_s,
                self.config.results.language, self._read_ahead(self._pool),
                writer_of(self.config), writers_of(self.config), self._drafts,
            )
            self._duties = DutyKeeper(workshop, self._events)
            rules = AttemptRules(self.config.jobs.max_attempts, self.config.jobs.per_model)
            handlers["infer"] = lambda key, attempt: run_attempt(
                key, attempt, workshop, self._events, rules
            )
            handlers["draft"] = partial(
                run_draft, workshop=workshop, events=self._events, rules=rules
            )
            queues["infer"] = QueueLimits(per_host=len(devices))
        if "deliver" in self._roles:
            handlers["deliver"] = self._deliveries.run_attempt
            queues["deliver"] = self._deliveries.limits
        # A process that only receives has nothing to run, and leaves the queues to the others.
        if handlers:
            self._engine.start(handlers, queues)

    def _read_ahead(self, pool: InferencePool) -> Decoded | None:
        budget_mib = self.config.jobs.read_ahead_mib
        if not budget_mib:
            return None
        decoded = Decoded(budget_mib << 20)
        self._ahead = Ahead(
            self.ledger, self.spool, decoded, self._router.card_expected, pool.prepare,
            self._events,
        )
        return decoded

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. A ledger that does not answer is waited for.

        Raises
        ------
        LedgerDamaged
            The next start rebuilds it: whoever supervises the node starts it again.
        """
        while not stop.wait(_TICK_S):
            try:
                self.ledger.check_sound()
                self.tick()
            except LedgerDamaged as error:
                self.ledger.condemn(str(error))
                raise
            except TransientError as error:
                self._events.node_changed("waiting", reason=error.reason)
                stop.wait(1.0)
            # A boundary: what one round meets must not end the receiving of images.
            except Exception:  # noqa: BLE001
                self._events.unexpected("main loop")
                stop.wait(5.0)

    def tick(self) -> None:
        """One round of the main loop.

        Raises
        ------
        LedgerUnavailable
            The round is incomplete and the next one makes up for it.
        """
        now = time.monotonic()
        self._operations.tick()
        if self._listeners is not None:
            self._room_watch.tick()
            self._tend(self._listeners)
            moved = self._closer.close_complete()
            moved += self._router.route_complete()
        else:
            moved = 0
        if now >= self._next_reconcile:
            self._reconcile()
            self._next_reconcile = now + _RECONCILE_EVERY_S
        if moved or now >= self._next_submit:
            self._next_submit = now + _SUBMIT_EVERY_S
            self._submit_open()
        if now >= self._next_models:
            self._next_models = now + _MODELS_EVERY_S
            self._versions.refresh()
            self._rules.refresh()

    def _tend(self, listeners: Listeners) -> None:
        """Replace listeners that died, and index what they kept but could not tell the ledger.

        Before anything is closed: a series without those images would pass for complete.
        """
        self._must_reindex |= listeners.ensure_running() > 0
        if self._must_reindex:
            found = self._index_again()
            self.ledger.receipts.lose_associations(listeners.ids)
            self._must_reindex = False
            removed = self.spool.clean_incoming()
            self._events.node_changed(
                "started a listener anew", half_files_removed=removed, files_indexed_again=found
            )

    def _index_again(self) -> int:
        self.ledger.files.mend_counts()
        index = self._operations.index_of_files()
        found = take_inventory(index, self.spool, "restart", self._events, forget=True)
        if found.missing or found.unreadable:
            self._events.files_amiss(found.missing, found.unreadable)
        return found.indexed

    def _submit_open(self) -> None:
        for dispatch in self._dispatches:
            dispatch.submit_open()

    def _reconcile(self) -> None:
        if self._dispatches:
            self._engine.sweep()
            self._engine.prune(_KEEP_ENGINE_HISTORY)
        for dispatch in self._dispatches:
            dispatch.reconcile()

    def close(self) -> None:
        """Close the doors, let what runs come to its end, give everything back."""
        self._operations.stop()
        self._enquiry.close()
        self._priors.close()
        if self._listeners is not None:
            self._listeners.close()
            # Of those that were killed, or of a former node's that outlived it.
            self.spool.clean_incoming()
        self._prober.stop()
        self._commitment.stop()
        self._commitment_reports.stop()
        self._deliveries.close()
        if self._ahead is not None:
            self._ahead.stop()
        self._drafts.close()
        # The engine first: it takes nothing new and waits a while for what runs. What runs longer
        # is ended with its worker and is queued again for the next start.
        self._engine.stop()
        if self._duties is not None:
            self._duties.stop()
        if self._pool is not None:
            self._pool.close()
        self.ledger.close()
        for lock in self._locks:
            lock.close()
        self._events.node_changed("stopped")


def destinations_of(config: Config, ledger: Ledger) -> Destinations:
    """The peers of the settings, as the pipeline knows them."""
    wanted = {name: Wanted(**peer.results.model_dump()) for name, peer in config.peers.items()}
    names: dict[str, str] = {}
    for name, peer in config.peers.items():
        names.setdefault(peer.ae_title, name)
    return Destinations(ledger, wanted, names)


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
