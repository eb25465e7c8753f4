"""How long a connection to the page may say nothing, and how many there may be.

The page is served by the process that routes and delivers: what strangers leave open must neither
keep monitors from being answered nor use up the file descriptors of that process.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 150
# A request with its form has come within this time of the connection, or of the answer before it.
REQUEST_WITHIN_S = 30.0
# Connections that shake hands, and how long asyncio lets them.
_MOST_HANDSHAKES, _HANDSHAKE_S = 300, 60.0


class Connection(H11Protocol):
    """HTTP/1.1 of uvicorn with a time for requests; the crowd makes room first."""

    _handshakes: ClassVar[dict[int, float]] = {}

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._began_s = time.monotonic()
        if self.config.is_ssl:
            self._begin_handshake()

    def _begin_handshake(self) -> None:
        # Nobody tells a protocol of a handshake that failed: it counts until it would be over.
        waiting = self._handshakes
        while waiting and next(iter(waiting.values())) < self._began_s - _HANDSHAKE_S:
            waiting.pop(next(iter(waiting)))
        if len(waiting) >= _MOST_HANDSHAKES:
            raise ConnectionRefusedError
        waiting[id(self)] = self._began_s

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the place of the oldest idle one of the address that has most, if all are taken."""
        self._handshakes.pop(id(self), None)
        super().connection_made(transport)
        self._expect_request()
        if len(self.connections) > MOST_CONNECTIONS:
            idle = [one for one in self.connections if isinstance(one, Connection) and one.is_idle]
            crowd = Counter(one.client[0] if one.client else "" for one in idle)
            (address, _), = crowd.most_common(1)
            oldest = min(
                (one for one in idle if (one.client[0] if one.client else "") == address),
                key=lambda one: one._began_s,
            )
            self.connections.discard(oldest)
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._expect_request()
        super().on_response_complete()

    def _expect_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_WITHIN_S, self._too_late)

    def _too_late(self) -> None:
        if self.is_idle or self.cycle.more_body:
            self.transport.abort()
