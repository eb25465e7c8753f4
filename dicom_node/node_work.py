"""The computing part of a node: its devices, the jobs that it takes, and what it owes besides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import dicom_node
from ai_models.card import Card
from ai_models.catalog import Catalog
from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.imaging.decoded import Decoded
from dicom_node.ledger.engine import Handler, JobEngine, QueueLimits
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_hosts import WORK, Place
from dicom_node.node_models import open_writers, site_of
from dicom_node.node_routing import Router
from dicom_node.pipeline.ahead import Ahead
from dicom_node.pipeline.attempts import AttemptRules, run_attempt, run_draft
from dicom_node.pipeline.destinations import Destinations
from dicom_node.pipeline.dispatch import JobDispatch
from dicom_node.pipeline.drafting import Drafts
from dicom_node.pipeline.duties import DutyKeeper
from dicom_node.pipeline.inference import InferencePool, resolve_devices
from dicom_node.pipeline.made_ready import MadeReady
from dicom_node.pipeline.outbox import take_up_results
from dicom_node.pipeline.shared_dispatch import SharedDispatch
from dicom_node.pipeline.workshop import Workshop
from dicom_node.records import Instance, Series
from dicom_node.results.equipment import node_equipment
from dicom_node.results.profile import Wanted
from dicom_node.spool import Spool

# Of the time after which a released series is complete: by then it is likely to be whole, and what
# is left is enough to read it.
_SHARE_OF_REST = 0.4


class Work:
    """What a process with the role ``work`` does.

    Attributes
    ----------
    pool, ahead, workshop
        Its devices, who reads ahead for them, and what its jobs need; from `prepare` on.
    dispatch
        Who takes the next jobs.
    """

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, catalog: Catalog, events: Events,
        place: Place, router: Router, engine: JobEngine,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._spool = spool
        self._catalog = catalog
        self._events = events
        self._place = place
        self._router = router
        self._drafts = Drafts(config.results.drafts_at_once, engine, ledger)
        self.pool: InferencePool | None = None
        self.ahead: Ahead | None = None
        self._made_ready: MadeReady | None = None
        self._duties: DutyKeeper | None = None
        self._devices: list[str] = []
        self.dispatch = self._dispatch_on(engine)

    def _dispatch_on(self, engine: JobEngine) -> JobDispatch | SharedDispatch:
        jobs = self._config.jobs
        if self._place.is_shared:
            return SharedDispatch(
                self._ledger, engine, self._place, self._models, jobs.promote_after_s,
                jobs.per_model,
            )
        return JobDispatch(self._ledger, engine, jobs.promote_after_s, jobs.per_model)

    def _models(self) -> set[str]:
        return {card.id for card in self._catalog.cards()}

    def prepare(self) -> tuple[dict[str, Handler], QueueLimits]:
        """Take up what was written and not recorded, and make the pool; what the engine needs.

        Raises
        ------
        LedgerUnavailable, StorageFailed, OutOfSpace
        """
        config = self._config
        take_up_results(self._spool, self._ledger, self._events)
        devices = resolve_devices(config.models.devices)
        self.pool = InferencePool(
            devices, site_of(config), config.node.data_dir / "scratch", self._events,
            config.jobs.heartbeat_s, device_memory_mib=config.models.device_memory_mib,
            measured=config.node.data_dir / "model-memory.json",
        )
        self._devices = devices
        self.dispatch.places = len(devices)
        workshop = Workshop(
            self._ledger, self._spool, self._catalog, self.pool,
            node_equipment(config.node.ae_title, dicom_node.__version__),
            destinations_of(config, self._ledger), config.models.deadline_s,
            config.results.language, self._read_ahead(self.pool),
            *open_writers(config, self.pool, self._events, lambda: self._drafts.is_closed),
            self._drafts, self._made_ready,
        )
        self._duties = DutyKeeper(workshop, self._events, lambda: self._place.leads(WORK))
        rules = AttemptRules(config.jobs.max_attempts, config.jobs.per_model)

        def infer(key: str, attempt: int) -> None:
            shared = self.dispatch
            # What another process has been given meanwhile is not begun here.
            if not isinstance(shared, SharedDispatch) or shared.has(key, attempt):
                run_attempt(key, attempt, workshop, self._events, rules)

        draft = partial(run_draft, workshop=workshop, events=self._events, rules=rules)
        return {"infer": infer, "draft": draft}, QueueLimits(per_host=len(devices))

    def _read_ahead(self, pool: InferencePool) -> Decoded | None:
        budget_mib = self._config.jobs.read_ahead_mib
        if not budget_mib:
            return None
        decoded = Decoded(budget_mib << 20)
        laid = pool.laid_out
        self._made_ready = MadeReady(decoded, laid.lay, laid.forget)
        self.ahead = Ahead(
            self._ledger, self._spool, decoded, self._card_expected, pool.prepare, self._events,
            self._made_ready, _SHARE_OF_REST * self._config.completeness.after_release_s,
        )
        return decoded

    def _card_expected(self, series: Series, instances: Sequence[Instance]) -> Card | None:
        """The model of a series; none where its job may as well go to another host."""
        if self._place.others(WORK):
            return None
        return self._router.card_expected(series, instances)

    def start(self) -> None:
        """Begin what runs beside the jobs; raises `LedgerUnavailable`."""
        if self._duties is not None:
            self._duties.start()
        if self.ahead is not None:
            self.ahead.start()

    def tick(self) -> None:
        """Once a second: tell what there is here, and see to what hosts left that are gone.

        Raises
        ------
        LedgerUnavailable
        """
        if not self._place.is_shared:
            return
        self._place.say(self._devices, self._models())
        if self._place.leads(WORK):
            released = self._ledger.claims.release()
            if released:
                self._events.work_moved(self._place.host_name, "jobs", len(released))

    def close_desk(self) -> None:
        """Begin nothing further; called before the engine is stopped."""
        if self.ahead is not None:
            self.ahead.stop()
        self._drafts.close()

    def stop(self) -> None:
        """End what is left; called after the engine."""
        if self._duties is not None:
            self._duties.stop()
        if self.pool is not None:
            self.pool.close()


def destinations_of(config: Config, ledger: Ledger) -> Destinations:
    """The peers of the settings, as the pipeline knows them."""
    wanted = {name: Wanted(**peer.results.model_dump()) for name, peer in config.peers.items()}
    names: dict[str, str] = {}
    for name, peer in config.peers.items():
        names.setdefault(peer.ae_title, name)
    return Destinations(ledger, wanted, names)
