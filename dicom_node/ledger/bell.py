"""Has those who look for work from time to time look at once, when it is known that there is some.

The engine's queues look ten times a second whether anything lies in them. Who puts something in
within the same process need not let it wait for that. Nothing depends on it: a ring that nobody
hears costs a tenth of a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Bell:
    """Ends the waiting of all who wait for a short time for an event that is not set. Thread-safe.

    Parameters
    ----------
    up_to_s
        Who waits for longer looks for something else than work, and does not hear it.
    """

    def __init__(self, up_to_s: float) -> None:
        self._up_to_s = up_to_s
        self._condition = threading.Condition()
        self._rings = 0
        self._heard = threading.local()

    def ring(self) -> None:
        """Have everybody who waits look at once, and who is looking once more after that."""
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def hang_on(self, event: threading.Event) -> None:
        """From now on `ring` also ends a ``wait`` for this event, which says that it is not set."""
        set_it, wait_for_it = event.set, event.wait

        def rung_set() -> None:
            set_it()
            self.ring()

        def wait(timeout: float | None = None) -> bool:
            if timeout is None or timeout > self._up_to_s:
                return wait_for_it(timeout)
            return self._wait(event, timeout)

        replaced: dict[str, Callable[..., object]] = {"set": rung_set, "wait": wait}
        vars(event).update(replaced)

    def _wait(self, event: threading.Event, timeout_s: float) -> bool:
        with self._condition:
            heard = getattr(self._heard, "rings", 0)
            self._condition.wait_for(lambda: event.is_set() or self._rings != heard, timeout_s)
            self._heard.rings = self._rings
        return event.is_set()
