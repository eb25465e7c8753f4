"""What a destination takes: asked by one association that proposes everything that results have.

A presentation context is proposed for each SOP class in each transfer syntax, so that the answer
says of every pair whether it is accepted (PS3.8 9.3.3). Nothing is sent. DICOMweb has no such
negotiation: there the answer to an object is the first that is known.

Asked is at the start of the node, when a destination comes back, once a day, before the first
shipment to one that was never asked, and by ``dicom-node check``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dicom_node.backoff import delay_s
from dicom_node.config import SENDER, Config, PeerSettings
from dicom_node.delivery.association import Association, Context, Timeouts
from dicom_node.delivery.compression import JPEG_2000, JPEG_LS, RLE
from dicom_node.delivery.open_sockets import OpenSockets
from dicom_node.delivery.recipients import recipient_of
from dicom_node.delivery.rewriting import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
)
from dicom_node.errors import PeerUnavailable, TransientError
from dicom_node.events import Events
from dicom_node.ledger import clock
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import CircuitState, DestinationProfile

_OF_ALL = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, DEFLATED_LITTLE_ENDIAN)
_OF_PIXELS = (*_OF_ALL, RLE, JPEG_LS, JPEG_2000)
# SOP class to the transfer syntaxes that results of it may be sent in (PS3.4 B.5).
PROPOSED: dict[str, tuple[str, ...]] = {
    "1.2.840.10008.5.1.4.1.1.66.4": _OF_PIXELS,
    "1.2.840.10008.5.1.4.1.1.66.7": _OF_PIXELS,
    "1.2.840.10008.5.1.4.1.1.7": _OF_PIXELS,
    **{
        f"1.2.840.10008.5.1.4.1.1.{number}": _OF_ALL
        for number in (
            "88.34", "88.33", "88.22", "88.11", "30", "88.59", "11.1", "481.3", "104.1",
        )
    },
}
_ROUND_S = 1.0
_ASKED_AGAIN_AFTER = timedelta(days=1)
_STOPPED_WITHIN_S = 10.0


def probe(
    peer: PeerSettings,
    calling_ae_title: str,
    timeouts: Timeouts | None = None,
    sockets: OpenSockets | None = None,
) -> DestinationProfile:
    """Ask a peer which SOP classes it takes, and in which transfer syntaxes.

    Of a DICOMweb peer nothing can be asked: its ``probed_at`` is ``None``.

    Raises
    ------
    PeerUnavailable
        No association was established.
    """
    if peer.dicomweb is not None:
        return DestinationProfile(peer.name, {}, frozenset(), None)
    contexts = [Context(uid, syntax) for uid, all_of in PROPOSED.items() for syntax in all_of]
    with Association(
        peer, calling_ae_title, contexts, timeouts or Timeouts(), sockets
    ) as association:
        accepted = {
            uid: tuple(one for one in all_of if association.accepts(Context(uid, one)))
            for uid, all_of in PROPOSED.items()
        }
    taken = {uid: syntaxes for uid, syntaxes in accepted.items() if syntaxes}
    return DestinationProfile(peer.name, taken, frozenset(), clock.now())


class Capabilities:
    """Asks destinations what they take, and keeps it in the ledger.

    Parameters
    ----------
    config, ledger, events
        As everywhere in the node.
    timeouts
        How long to wait for a peer.
    sockets
        Keeps an eye on the connections, so that another thread can end them.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        events: Events,
        timeouts: Timeouts | None = None,
        sockets: OpenSockets | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._events = events
        self._timeouts = timeouts
        self._sockets = sockets

    def ask(self, peer: PeerSettings, *, forget_refusals: bool = False) -> DestinationProfile:
        """Ask a peer, and let what waits for it be chosen anew where it takes other classes.

        One that accepts nothing at all is set up wrongly or away behind a gateway that answers
        for it: what was known of it stays, and nothing is chosen by that.

        Raises
        ------
        PeerUnavailable, LedgerUnavailable
        """
        former = self._ledger.profiles.find(peer.name)
        found = probe(peer, self._config.node.ae_title, self._timeouts, self._sockets)
        is_forgiven = found.probed_at is None and forget_refusals and former is not None
        if found.accepted or is_forgiven:
            self._ledger.replanning.learn(
                found, recipient_of(self._config, peer), forget_refusals=forget_refusals
            )
        if peer.speaks_dimse and (former is None or former.accepted != found.accepted):
            self._events.node_changed(
                "asked a destination what it takes", destination=peer.name,
                classes=len(found.accepted), of=len(PROPOSED),
            )
        return found

    def ask_first(self, peer: PeerSettings) -> None:
        """Ask a peer that can be asked and never was, before anything is sent to it.

        Raises
        ------
        PeerUnavailable, LedgerUnavailable
        """
        if peer.speaks_dimse and not was_asked(self._ledger.profiles.find(peer.name)):
            self.ask(peer)


def was_asked(profile: DestinationProfile | None) -> bool:
    """Whether it is known what a destination takes."""
    return profile is not None and profile.probed_at is not None


@dataclass(frozen=True)
class _Pause:
    """How long a destination that did not answer is left alone."""

    failures: int
    until: datetime


class CapabilityProber:
    """Asks the destinations of the rules in the background, one after another.

    Takes the parameters of `Capabilities`; ``leads`` says whether this process, of several on one
    ledger, is to ask now.
    """

    def __init__(
        self, config: Config, ledger: Ledger, events: Events, timeouts: Timeouts | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._config = config
        self._ledger = ledger
        self._events = events
        self._sockets = OpenSockets()
        self._capabilities = Capabilities(config, ledger, events, timeouts, self._sockets)
        self._asked_at: dict[str, datetime] = {}
        self._pauses: dict[str, _Pause] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capabilities", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; what is under way is cut off."""
        self._stopping.set()
        self._sockets.cut_all()
        if self._thread.is_alive():
            self._thread.join(_STOPPED_WITHIN_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.tick()
            except TransientError as error:
                self._events.node_changed("waiting to ask destinations", reason=error.reason)
            # A thread boundary: what one round meets must not end the asking.
            except Exception:  # noqa: BLE001
                self._events.unexpected("asking destinations what they take")
            self._stopping.wait(_ROUND_S)

    def tick(self) -> None:
        """One round: ask every destination whose time it is.

        Raises
        ------
        LedgerUnavailable
            The next round makes up for it.
        """
        for peer in self._destinations():
            now = clock.now()
            if self._stopping.is_set() or not self._leads():
                return
            if self._is_due(peer.name, now):
                self._ask(peer, now)

    def _destinations(self) -> list[PeerSettings]:
        """The peers that rules name and that can be asked.

        Who `sender` is shows when there is something for it: it is asked before that.
        """
        names = {name for rule in self._config.rules for name in rule.send_to} - {SENDER}
        peers = [self._config.peer(name) for name in sorted(names)]
        return [peer for peer in peers if peer.speaks_dimse]

    def _is_due(self, name: str, now: datetime) -> bool:
        pause = self._pauses.get(name)
        if pause is not None and now < pause.until < now + _ASKED_AGAIN_AFTER:
            return False
        circuit = self._ledger.circuits.find(name)
        if circuit.state is CircuitState.OPEN:
            return False
        asked_at = self._asked_at.get(name)
        if asked_at is None or asked_at < circuit.changed_at <= now:
            return True
        # In the future: the clock was set back.
        return not asked_at <= now < asked_at + _ASKED_AGAIN_AFTER

    def _ask(self, peer: PeerSettings, now: datetime) -> None:
        try:
            self._capabilities.ask(peer)
        except PeerUnavailable as error:
            if self._stopping.is_set():
                return
            former = self._pauses.get(peer.name)
            failures = former.failures + 1 if former else 1
            until = now + timedelta(seconds=delay_s(failures, random.random()))
            self._pauses[peer.name] = _Pause(failures, until)
            if failures == 1:
                self._events.node_changed(
                    "could not ask a destination what it takes", destination=peer.name,
                    reason=error.reason,
                )
            return
        self._pauses.pop(peer.name, None)
        self._asked_at[peer.name] = now
