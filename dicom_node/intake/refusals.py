"""Tells of associations that were refused, and not without end of those of one address."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from dicom_node.events import Events

MOST_TOLD = 100
WITHIN_S = 60.0
_MOST_ADDRESSES = 4096


class Refusals:
    """At most ``most`` refusals a minute of one address are told, for log and audit are finite.

    Safe for several threads.
    """

    def __init__(
        self, events: Events, most: int = MOST_TOLD,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._events = events
        self._most = most
        self._monotonic = monotonic
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def tell(
        self, address: str, reason: str, calling_ae_title: str = "", called_ae_title: str = "",
        tls_identity: str = "",
    ) -> None:  # fmt: skip
        """An association was refused; what the caller said of itself is cut to what can be read."""
        if self._is_news(address):
            self._events.association_refused(
                printable(calling_ae_title), printable(called_ae_title), address, reason,
                tls_identity=printable(tls_identity, 200),
            )

    def _is_news(self, address: str) -> bool:
        now = self._monotonic()
        with self._lock:
            since, told = self._told.pop(address, (now, 0))
            if now - since >= WITHIN_S:
                since, told = now, 0
            self._told[address] = since, told + 1
            if len(self._told) > _MOST_ADDRESSES:
                self._told.popitem(last=False)
            return told < self._most


def printable(text: str, most: int = 16) -> str:
    """Printable ASCII only: an AE title shall not be able to write lines of a log."""
    return "".join(one if " " <= one <= "~" else "?" for one in text.strip()[:most])
