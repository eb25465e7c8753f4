"""The sending part of a node: who hands out what is to go, and who asks destinations."""

from __future__ import annotations

from dicom_node.config import Config
from dicom_node.delivery.capabilities import CapabilityProber
from dicom_node.delivery.commitment import CommitmentAsker
from dicom_node.delivery.dispatch import DeliveryDispatch
from dicom_node.delivery.shipping import Shipping
from dicom_node.events import Events
from dicom_node.ledger.engine import JobEngine
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_hosts import DELIVER, Place, lane_duty
from dicom_node.spool import Spool


class Delivery:
    """What a process with the role ``deliver`` does; the web page asks its prober in any.

    Of several hosts each destination has one that sends to it, and one host asks all of them what
    they take and what they keep for good.

    Attributes
    ----------
    dispatch
        Hands out what is to go.
    prober
        Asks destinations what they take.
    """

    def __init__(
        self, config: Config, ledger: Ledger, spool: Spool, events: Events, place: Place,
        engine: JobEngine,
    ) -> None:
        self._config = config
        self._place = place
        self.dispatch = DeliveryDispatch(
            ledger, engine, config, Shipping(config, ledger, spool, events), events,
            owns=self._owns,
        )
        self.prober = CapabilityProber(config, ledger, events, leads=self._leads)
        self._commitment = CommitmentAsker(config, ledger, events, leads=self._leads)

    def _leads(self) -> bool:
        return self._place.leads(DELIVER)

    def _owns(self, lane: str) -> bool:
        # What goes to nobody that is configured ends at once, and somebody has to see to that.
        return self._place.leads(lane_duty(lane)) if lane in self._config.peers else self._leads()

    def start(self) -> None:
        """Begin to ask; what is to go is handed out by the dispatch."""
        self.prober.start()
        self._commitment.start()

    def stop(self) -> None:
        """Ask nothing further."""
        self.prober.stop()
        self._commitment.stop()
