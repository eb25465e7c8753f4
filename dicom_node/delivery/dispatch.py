"""Which shipments the engine gets and when, and which of them it has lost.

The ledger holds everything that waits; the engine gets only what is to go out now. So a
destination that is slow or away keeps its own turns and nobody else's, and what an hour changes
(a destination that is back, an operator who is in a hurry) need not be taken back from the engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dicom_node.config import Config
from dicom_node.delivery import choice
from dicom_node.delivery.circuit import is_probe_due
from dicom_node.delivery.next_up import NextUp
from dicom_node.delivery.recipients import lane_of
from dicom_node.delivery.shipping import Shipping, local_clock
from dicom_node.errors import TransientError
from dicom_node.events import Events, about_study
from dicom_node.ledger.deliveries import Shipment
from dicom_node.ledger.engine import JobEngine, QueueLimits, Standing
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Circuit, CircuitState, Priority

KIND = "deliver"
_STOP_GRACE_S = 3.0


@dataclass(frozen=True)
class _Handed:
    """What the engine got and has not finished."""

    attempt: int
    turn: choice.Turn


class DeliveryDispatch:
    """Hands open shipments to the engine, and asks absent destinations whether they are back.

    Parameters
    ----------
    ledger, engine, config, shipping, events
        As everywhere in the node; ``shipping`` does what is handed out.
    clock
        The time by which shipments are due.
    in_background
        Runs a probe without waiting for it.
    share
        How much of the time may go into looking through what waits, however much that is.
    owns
        Whether a lane is this process's: of several hosts one hands out what goes to a
        destination, so that its order and its limit hold. What another one had handed out there
        before gets a new attempt.
    """

    def __init__(
        self,
        ledger: Ledger,
        engine: JobEngine,
        config: Config,
        shipping: Shipping,
        events: Events,
        *,
        clock: Callable[[], datetime] = local_clock,
        in_background: Callable[[Callable[[], None]], None] | None = None,
        share: float = 0.1,
        owns: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._config = config
        self._shipping = shipping
        self._events = events
        self._clock = clock
        self._in_background = in_background or _in_thread
        self._lock = threading.Lock()
        self._handed: dict[str, _Handed] = {}
        self._running: set[str] = set()
        self._probing: set[str] = set()
        self._owns = owns
        self._pause_per_look = 1.0 / share - 1.0
        self._next_look = self._next_step = 0.0
        self._next_up = NextUp(ledger.deliveries, self._mine)
        self._others_went_at = dict.fromkeys(config.peers, self._clock())

    @property
    def limits(self) -> QueueLimits:
        """What the engine needs so that no destination ever waits for another one's turn."""
        allowed = [peer.associations for peer in self._config.peers.values()]
        # One more for those whose destination is no longer configured: they end at once.
        return QueueLimits(per_host=sum(allowed) + 1, per_lane=max(allowed, default=1))

    def run_attempt(self, key: str, attempt: int) -> None:
        """What the engine calls: one attempt at one shipment, never two at once."""
        with self._lock:
            if key in self._running:
                return
            self._running.add(key)
        try:
            self._shipping.run_attempt(key, attempt)
        finally:
            with self._lock:
                self._running.discard(key)
                self._handed.pop(key, None)
            self._next_up.ended(key)

    def submit_open(self) -> None:
        """Hand out what is to go now, and probe the destinations whose time it is."""
        began = time.monotonic()
        if began < self._next_step:
            return
        now = self._clock()
        circuits = self._circuits()
        for circuit in circuits.values():
            if is_probe_due(circuit, now) and self._owns(circuit.destination):
                self._begin_probe(circuit.destination)
        away = {name for name, one in circuits.items() if one.state is CircuitState.OPEN}
        if is_look := began >= self._next_look:
            # What waits for those that are away may be much and is not to be read every time.
            self._next_up.look(away, self._at_work(), now)
        else:
            self._next_up.follow(now)
        waiting = self._next_up.waiting
        limits = {name: peer.associations for name, peer in self._config.peers.items()}
        chosen = choice.choose(
            waiting, self._under_way(waiting), limits, away, now, self._others_went_at
        )
        for one in chosen:
            if is_look or self._next_up.confirm(one.key, now):
                self._submit(self._next_up.shipment(one.key), one, now)
        ended = time.monotonic()
        pause_s = self._pause_per_look * (ended - began)
        if is_look:
            self._next_look = ended + pause_s
        elif not chosen:
            self._next_step = ended + pause_s

    def _mine(self, shipment: Shipment) -> choice.Waiting | None:
        waiting = self._waiting(shipment)
        return waiting if self._owns(waiting.turn.lane) else None

    def _at_work(self) -> set[str]:
        with self._lock:
            return set(self._running)

    def _circuits(self) -> dict[str, Circuit]:
        known = self._config.peers
        return {name: one for name, one in self._ledger.circuits.all().items() if name in known}

    def _waiting(self, shipment: Shipment) -> choice.Waiting:
        lane = lane_of(self._config, shipment.destination, shipment.sender_ae_title)
        return choice.Waiting(
            shipment.key, choice.Turn(lane, shipment.study_instance_uid), shipment.created_at,
            shipment.attempt, shipment.not_before, shipment.priority == Priority.STAT,
        )

    def _under_way(self, waiting: list[choice.Waiting]) -> dict[str, choice.Turn]:
        with self._lock:
            under_way = {key: handed.turn for key, handed in self._handed.items()}
            # What a former life of the node had handed out, and the engine took up by itself.
            resumed = {one.key: one.turn for one in waiting if one.key in self._running}
        return resumed | under_way

    def _submit(self, shipment: Shipment, one: choice.Waiting, now: datetime) -> None:
        name = (KIND, shipment.key, shipment.attempt)
        if self._engine.standing(*name) in (Standing.FINISHED, Standing.ELSEWHERE):
            # It came to its end without the ledger, or its host did: the next look hands out the
            # next attempt.
            self._ledger.deliveries.bump(shipment)
            return
        if not one.is_urgent:
            self._others_went_at[one.turn.lane] = now
        with self._lock:
            self._handed[shipment.key] = _Handed(shipment.attempt, one.turn)
        try:
            self._engine.submit(*name, lane=one.turn.lane)
        # Whatever it was: what the engine did not take is not under way.
        except BaseException:
            with self._lock:
                self._handed.pop(shipment.key, None)
            raise

    def _begin_probe(self, name: str) -> None:
        with self._lock:
            if name in self._probing:
                return
            self._probing.add(name)
        self._in_background(lambda: self._probe(name))

    def _probe(self, name: str) -> None:
        try:
            self._shipping.probe(name)
        except TransientError as error:
            self._events.node_changed("waiting", reason=error.reason)
        # A boundary: the thread ends here, and the next round asks again.
        except Exception:  # noqa: BLE001
            self._events.unexpected(f"asking {name} whether it is back")
        finally:
            with self._lock:
                self._probing.discard(name)

    def reconcile(self) -> None:
        """Take back what the engine has lost, and give up what nobody came for in time."""
        with self._lock:
            handed = {k: h for k, h in self._handed.items() if k not in self._running}
        for key, one in handed.items():
            if self._engine.standing(KIND, key, one.attempt) is not Standing.OPEN:
                with self._lock:
                    if self._handed.get(key) is one and key not in self._running:
                        del self._handed[key]
        self._give_up_late_ones()

    def _give_up_late_ones(self) -> None:
        """End what has waited for too long for a destination that is still away.

        Only where it was asked after that time: what waited while the node itself was off is
        tried before it is given up.
        """
        circuits = self._circuits()
        if not any(one.state is CircuitState.OPEN for one in circuits.values()):
            return
        patience = timedelta(hours=self._config.delivery.retry_for_h)
        for shipment in self._ledger.deliveries.open_shipments():
            lane = self._waiting(shipment).turn.lane
            circuit = circuits.get(lane)
            if circuit is None or circuit.state is not CircuitState.OPEN or not self._owns(lane):
                continue
            with self._lock:
                is_under_way = shipment.key in self._handed or shipment.key in self._running
            if not is_under_way and circuit.changed_at - shipment.created_at > patience:
                asked_before = circuit.changed_at - patience
                if self._ledger.deliveries.give_up(shipment, asked_before, circuit.reason):
                    with about_study(shipment.study_instance_uid):
                        self._events.delivery_changed(
                            shipment.key, shipment.destination, "dead", circuit.reason
                        )

    def close(self) -> None:
        """Hand out no more and let nobody wait for a destination that does not answer."""
        self._shipping.close(_STOP_GRACE_S)


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="probe", daemon=True).start()
