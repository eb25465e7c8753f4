"""How long to wait before trying a peer again: exponential, jittered, pure.

The caller decides when to give up (``delivery.retry_for_h``); nothing here looks at a clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta

FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 900.0

# Beyond this attempt the ceiling has long been reached, and 2.0 ** attempt would overflow.
_LAST_DOUBLING = 16


def delay_s(attempt: int, random: float) -> float:
    """Seconds to wait after the failed attempt number ``attempt``.

    The ceiling doubles from 5 s to 15 minutes; the delay is drawn from its upper half, so that
    deliveries which failed together (a restart, a PACS that went away) do not all come back
    together, and none comes back at once.

    Parameters
    ----------
    attempt
        1 for the first attempt that failed.
    random
        Uniform in [0, 1), for example ``random.random()``.

    Raises
    ------
    ValueError
        ``attempt`` below 1 or ``random`` outside [0, 1].
    """
    if attempt < 1:
        raise ValueError(f"attempt is {attempt}, expected 1 or more")
    if not 0.0 <= random <= 1.0:
        raise ValueError(f"random is {random}, expected 0 to 1")
    doublings = min(attempt - 1, _LAST_DOUBLING)
    ceiling_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0**doublings)
    return ceiling_s * (0.5 + 0.5 * random)


def is_due(not_before: datetime, now: datetime) -> bool:
    """Whether a wait chosen by `delay_s` is over.

    One that would be longer than any that is ever chosen means that the clock was set back.
    """
    return not_before <= now or not_before > now + timedelta(seconds=LONGEST_DELAY_S)
