"""How inputs look to the models of a node, by scanner: what is kept, reference, picture.

The rooms that are asked: the ledger for the features, the catalogue for the cards, and
`ai_models.monitoring` for what is made of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dicom_node.errors import ModelFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ai_models.card import Card
    from ai_models.catalog import Catalog
    from ai_models.monitoring.plane import Method
    from ai_models.monitoring.scanners import Look
    from ai_models.types import FloatArray
    from dicom_node.config_web import ShiftSettings
    from dicom_node.ledger.ledger import Ledger

_MOST_PICTURES = 8


@dataclass(frozen=True)
class Seen:
    """What is known of a version of a model; ``look`` as `ai_models.monitoring.scanners` says."""

    model_id: str
    version: str
    look: Look

    def document(self) -> dict[str, Any]:
        """As plain values: for JSON, the page and events."""
        return {
            "model": self.model_id, "version": self.version, "reference": self.look.source,
            "reference_inputs": self.look.groups.count("reference"),
            "scanners": [
                {
                    "scanner": one.scanner, "inputs": one.inputs,
                    "alarm": one.shift is not None and one.shift.is_alarm,
                    "mmd": None if one.shift is None else round(one.shift.mmd, 5),
                    "threshold": None if one.shift is None else round(one.shift.threshold, 5),
                    "p_value": None if one.shift is None else round(one.shift.p_value, 5),
                    "silhouette": None if one.shift is None else round(one.shift.silhouette, 4),
                    "why_not": one.why_not,
                }
                for one in self.look.scanners
            ],
        }


class Scanners:
    """Asks ledger and catalogue how inputs looked."""

    def __init__(
        self, ledger: Ledger, catalog: Callable[[], Catalog], settings: ShiftSettings
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._settings = settings
        # A picture takes seconds and everybody at the page sees the same one.
        self._lock = threading.Lock()
        self._pictures: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    def versions(self) -> list[tuple[str, str]]:
        """Versions of models of which features are kept."""
        return sorted(self._ledger.features.counts())

    def look(self, model_id: str, version: str) -> Seen:
        """Every scanner of a version.

        Raises
        ------
        ModelFailed
            ``model.hash_mismatch``, ``model.weights_missing``, ``model.monitor``: the reference
            of the card cannot be used.
        """
        from ai_models.monitoring.scanners import Terms, look_at

        told = self._settings
        terms = Terms(
            told.at_least, told.baseline, told.newest, told.level, told.silhouette
        )
        kept = self._ledger.features.of(model_id, version)
        seen = [(one.scanner, one.features) for one in kept]
        return Seen(model_id, version, look_at(seen, self._reference(model_id, version), terms))

    def document(self, model_id: str, version: str) -> dict[str, Any]:
        """`Seen.document` of a version; raises as `look`."""
        return self.look(model_id, version).document()

    def picture(self, model_id: str, version: str, method: Method = "pca") -> bytes:
        """A PNG of all inputs; raises as `look`."""
        from ai_models.monitoring.picture import picture

        with self._lock:
            newest = self._ledger.features.newest(model_id, version)
            key = (model_id, version, method, newest)
            if key not in self._pictures:
                look = self.look(model_id, version).look
                self._pictures[key] = picture(look, f"{model_id} {version}", method)
                while len(self._pictures) > _MOST_PICTURES:
                    self._pictures.popitem(last=False)
            return self._pictures[key]

    def _reference(self, model_id: str, version: str) -> FloatArray | None:
        from ai_models.types import ModelError

        catalog = self._catalog()
        card: Card | None = next(
            (one for one in catalog.versions(model_id) if one.version == version), None
        ) if catalog.knows(model_id) else None
        # A version that is gone has left its features: they are judged by the first of them.
        if card is None or card.monitor is None or card.monitor.reference is None:
            return None
        from ai_models.monitoring.reference import read_rows

        try:
            return read_rows(card.folder / card.monitor.reference, card.monitor.sha256 or "")
        except ModelError as error:
            raise ModelFailed(str(error), reason=error.reason) from error
