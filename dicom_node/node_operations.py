"""What looks after the node beside its work, and how it is put together.

Web page, metrics, audit trail, removal of what was delivered, the nightly self-test and what
systemd is told: each is a `Care`, made here by its role and given what it needs as callables, so
that none of them knows the rooms that it looks at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ai_models.catalog import Catalog
from dicom_node.config import Config
from dicom_node.delivery.capabilities import CapabilityProber
from dicom_node.errors import LedgerDamaged, TransientError
from dicom_node.events import Events
from dicom_node.freed_memory import GivingBack
from dicom_node.intake.acceptor import Listeners
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_health import NodeHealth, WatchedIndex
from dicom_node.node_hosts import INTAKE, WORK, Place
from dicom_node.node_observation import Observation
from dicom_node.node_routing import Router
from dicom_node.node_selftest import selftest_care
from dicom_node.node_shift import Scanners
from dicom_node.node_web import web_server
from dicom_node.operations.certificates import CertificateWatch
from dicom_node.operations.retention import Retention
from dicom_node.operations.shift import ShiftWatch
from dicom_node.operations.systemd import ServiceManager
from dicom_node.pipeline.inference import InferencePool
from dicom_node.spool import Spool

_TICK_EVERY_S = 1.0
_REST_S = 30.0


class Care(Protocol):
    """One thing that looks after the node."""

    def start(self) -> None:
        """Begin; called once the doors are open."""

    def tick(self) -> None:
        """About once a second, from the main loop; quick, raises transient errors only."""

    def stop(self) -> None:
        """End; called before the doors are closed. Quick, and harmless where `start` was not."""


@dataclass(frozen=True)
class Premises:
    """The rooms of a node, as far as those who look after it may ask for them.

    ``listeners`` and ``pool`` answer ``None`` while the node has none.
    """

    config: Config
    roles: frozenset[str]
    ledger: Ledger
    spool: Spool
    events: Events
    catalog: Catalog
    router: Router
    prober: CapabilityProber
    listeners: Callable[[], Listeners | None]
    pool: Callable[[], InferencePool | None]
    manager: ServiceManager
    place: Place


class Operations:
    """All that looks after one node."""

    def __init__(self, premises: Premises) -> None:
        self._premises = premises
        self._next_tick_s = 0.0
        self._rests_until_s: dict[int, float] = {}
        selftest = selftest_care(premises)
        self._health = NodeHealth(
            premises, {} if selftest is None else {"self-test": selftest.problem}
        )
        self.health = self._health.health
        # Told first, for whatever else cannot be done in a round; started last, and ended first.
        self._systemd = self._health.systemd(premises.manager)
        self.observation = Observation(premises, self.health.is_ready)
        self._cares: list[Care] = [
            self._health.ledger, self._health.doors, self.observation, GivingBack(),
        ]
        if selftest is not None:
            self._cares.append(selftest)
        if "intake" in premises.roles:
            self._cares.append(
                Retention(
                    premises.config, premises.ledger, premises.spool, premises.events,
                    lambda: premises.place.leads(INTAKE),
                )
            )
        every_h = premises.config.shift.every_h
        if "work" in premises.roles and every_h is not None:
            scanners = Scanners(
                premises.ledger, lambda: premises.catalog, premises.config.shift
            )
            self._cares.append(
                ShiftWatch(
                    every_h * 3600.0, scanners.versions, scanners.document, premises.events,
                    leads=lambda: premises.place.leads(WORK),
                )
            )
        tls = premises.config.security.tls
        if tls is not None:
            self._cares.append(CertificateWatch(tls, premises.events))
        if "web" in premises.roles and premises.config.web.enabled:
            self._cares.append(
                web_server(premises, self.health, self.observation.metrics.render)
            )

    def start(self) -> None:
        """Begin everything; the node is open by now."""
        self._health.turned()
        for care in (*self._cares, self._systemd):
            care.start()

    def tick(self) -> None:
        """Called by every round of the main loop."""
        now = time.monotonic()
        self._premises.place.turned()
        self._health.turned()
        if now < self._next_tick_s:
            return
        self._next_tick_s = now + _TICK_EVERY_S
        self._systemd.tick()
        for care in self._cares:
            self._tick_of(care, now)

    def _tick_of(self, care: Care, now: float) -> None:
        """One that meets a full disk or a busy ledger rests: images are received and routed."""
        if now < self._rests_until_s.get(id(care), 0.0):
            return
        try:
            care.tick()
        except LedgerDamaged:
            raise
        except TransientError as error:
            self._rests_until_s[id(care)] = now + _REST_S
            self._premises.events.node_changed(
                "waiting", of=type(care).__name__.lower(), reason=error.reason
            )

    def index_of_files(self) -> WatchedIndex:
        """The ledger for a comparison with the disk, which may take longer than a round may."""
        return WatchedIndex(self._premises.ledger, self._still_at_it)

    def _still_at_it(self) -> None:
        self._premises.place.turned()
        self._health.turned()
        self._systemd.tick()

    def stop(self) -> None:
        """End everything, in the opposite order."""
        for care in (self._systemd, *reversed(self._cares)):
            care.stop()
