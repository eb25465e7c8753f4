"""Which shipments the engine gets, and which of them it has lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dicom_node.ledger.deliveries import Shipment
from dicom_node.ledger.engine import JobEngine, Standing
from dicom_node.ledger.ledger import Ledger

KIND = "deliver"
_SILENT_AFTER = timedelta(seconds=60)


class DeliveryDispatch:
    """Hands open shipments of the ledger to the engine."""

    def __init__(self, ledger: Ledger, engine: JobEngine) -> None:
        self._ledger = ledger
        self._engine = engine
        self._submitted: set[tuple[str, int]] = set()

    def submit_open(self) -> None:
        """Hand to the engine what this process has not handed to it yet."""
        for shipment in self._ledger.deliveries.open_shipments():
            self._submit(shipment)

    def _submit(self, shipment: Shipment) -> None:
        name = (shipment.key, shipment.attempt)
        if name not in self._submitted:
            self._engine.submit(
                KIND, *name, lane=shipment.destination, not_before=shipment.not_before
            )
            self._submitted.add(name)

    def reconcile(self) -> None:
        """Give a new attempt to every open shipment whose attempt the engine has finished with."""
        before = datetime.now(UTC) - _SILENT_AFTER
        held: set[tuple[str, int]] = set()
        for shipment in self._ledger.deliveries.open_shipments():
            name = (shipment.key, shipment.attempt)
            standing = self._engine.standing(KIND, *name)
            if standing is not Standing.UNKNOWN:
                held.add(name)
            if standing is Standing.FINISHED and shipment.not_before < before:
                self._ledger.deliveries.bump(shipment)
        self._submitted = held
