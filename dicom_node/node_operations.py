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
from dicom_node.events import Events
from dicom_node.intake.acceptor import Listeners
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_routing import Router
from dicom_node.operations.health import Health
from dicom_node.pipeline.inference import InferencePool
from dicom_node.spool import Spool

# A main loop that has not turned for so long will not: it waits for nothing longer than the ledger.
_LONGEST_ROUND_S = 120.0
_TICK_EVERY_S = 1.0


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


class Operations:
    """All that looks after one node."""

    def __init__(self, premises: Premises) -> None:
        self._premises = premises
        self._last_tick_s = time.monotonic()
        self._next_tick_s = 0.0
        self.health = Health(
            {"main loop": self._main_loop_problem, "listeners": self._listeners_problem},
            {"free space": self._space_problem},
        )
        self._cares: list[Care] = []

    def start(self) -> None:
        """Begin everything; the node is open by now."""
        self._last_tick_s = time.monotonic()
        for care in self._cares:
            care.start()

    def tick(self) -> None:
        """Called by every round of the main loop."""
        now = self._last_tick_s = time.monotonic()
        if now < self._next_tick_s:
            return
        self._next_tick_s = now + _TICK_EVERY_S
        for care in self._cares:
            care.tick()

    def stop(self) -> None:
        """End everything, in the opposite order."""
        for care in reversed(self._cares):
            care.stop()

    def _main_loop_problem(self) -> str:
        silent_s = time.monotonic() - self._last_tick_s
        return f"has not turned for {silent_s:.0f} s" if silent_s > _LONGEST_ROUND_S else ""

    def _listeners_problem(self) -> str:
        listeners = self._premises.listeners()
        if listeners is None or listeners.alive():
            return ""
        return "a listener process is not running"

    def _space_problem(self) -> str:
        listeners = self._premises.listeners()
        if listeners is not None and listeners.refuses_for_space():
            return "the disk has no room for another study"
        return ""
