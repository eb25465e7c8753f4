"""Whether the node lives and whether it is ready: one report for systemd, the web page and people.

Alive: the main loop turns, and the processes that should run do. A node that is not alive is to be
started again. Ready: it takes associations. A node that is not ready (a full disk) is not helped by
a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# What a part says is wrong with it; empty: nothing.
Probe = Callable[[], str]


@dataclass(frozen=True)
class HealthCheck:
    """One part of the node: ``problem`` is empty where it does as it should.

    ``for_readiness`` is false of what a person should know and images need not wait for.
    """

    name: str
    problem: str
    for_liveness: bool
    for_readiness: bool = True


class Health:
    """Asks the parts of the node how they are; every probe answers at once.

    Parameters
    ----------
    liveness
        Parts without which the node is to be started again.
    readiness
        Parts without which it takes no images.
    notices
        What else a person should know.
    """

    def __init__(
        self, liveness: Mapping[str, Probe], readiness: Mapping[str, Probe],
        notices: Mapping[str, Probe] | None = None,
    ) -> None:
        self._liveness = liveness
        self._readiness = readiness
        self._notices = notices or {}

    def report(self) -> tuple[HealthCheck, ...]:
        """Every part, those of liveness first."""
        return (
            *(HealthCheck(name, probe(), True) for name, probe in self._liveness.items()),
            *(HealthCheck(name, probe(), False) for name, probe in self._readiness.items()),
            *(HealthCheck(name, probe(), False, False) for name, probe in self._notices.items()),
        )

    def is_alive(self) -> bool:
        """Whether no part of liveness has a problem."""
        return not any(probe() for probe in self._liveness.values())

    def is_ready(self) -> bool:
        """Whether no part has a problem without which it takes images."""
        return not any(check.problem for check in self.report() if check.for_readiness)
