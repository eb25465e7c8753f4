"""What one series costs a node on several hosts, and what its hosts cost while nothing happens.

CPU seconds of each host and of the database, and the database's transactions and log. What idling
costs in the same time is taken off, so that the figures add up at any load.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import cpu_s_of
from tests.hosts.modality import Modalities, make_load
from tests.hosts.network import Namespace
from tests.hosts.site import Site

_IDLE_S = 20.0
_SETTLED_S = 10.0
_QUIET_WITHIN_S = 900.0


@dataclass(frozen=True)
class Sample:
    """Where every counter stands."""

    at: float
    cpu_s: dict[str, float]
    transactions: float
    log_bytes: float

    @classmethod
    def of(cls, site: Site) -> Sample:
        """Of all hosts of the node and of the database, now."""
        cpu_s = {node.roles: _cpu_s(node.host) for node in site.nodes}
        cpu_s["database"] = _cpu_s(site.database)
        row = site.query(
            "SELECT xact_commit + xact_rollback, pg_current_wal_lsn() - '0/0'"
            " FROM pg_stat_database WHERE datname = current_database()"
        )[0]
        return cls(time.monotonic(), cpu_s, *map(float, row))

    def since(self, before: Sample) -> dict[str, float]:
        """What was used from then to now, and in how many seconds."""
        found = {f"cpu {name}": self.cpu_s[name] - used for name, used in before.cpu_s.items()}
        return {
            **found, "transactions": self.transactions - before.transactions,
            "log bytes": self.log_bytes - before.log_bytes, "seconds": self.at - before.at,
        }


def measure_cost(folder: Path, series: int) -> dict[str, Any]:
    """One host of each kind, idle and then with ``series`` series.

    Returns
    -------
    dict
        ``idle_per_s`` and ``per_series``, each by what is used, and ``connections`` by role.
    """
    sent = make_load(folder / "series", series + 3, seed=5)
    uids = list(sent.account.series)
    with Site(folder / "site", receivers=1, workers=1, deliverers=1, answer_s=0.05) as site:
        site.start()
        modalities = Modalities(site.clinic, site.receivers(), sent)
        # What is done once, such as starting the model's process, is not counted.
        modalities.start(series=uids[:3])
        site.wait_quiet(3, _QUIET_WITHIN_S)
        time.sleep(_SETTLED_S)
        first = Sample.of(site)
        time.sleep(_IDLE_S)
        second = Sample.of(site)
        modalities.start(series=uids[3:])
        site.wait_quiet(len(uids), _QUIET_WITHIN_S)
        time.sleep(1.0)
        third = Sample.of(site)
        connections = _connections(site)
    idle = second.since(first)
    idle_per_s = {name: used / idle["seconds"] for name, used in idle.items() if name != "seconds"}
    busy = third.since(second)
    per_series = {
        name: max(0.0, busy[name] - used * busy["seconds"]) / series
        for name, used in idle_per_s.items()
    }
    return {
        "series": series, "seconds": round(busy["seconds"], 1),
        "idle_per_s": {name: round(used, 4) for name, used in idle_per_s.items()},
        "per_series": {name: round(used, 4) for name, used in per_series.items()},
        "connections": connections,
    }


def _connections(site: Site) -> dict[str, int]:
    """Open connections to the database by what the host does, besides the one that asks."""
    roles = {node.host.address: node.roles for node in site.nodes}
    asked = "SELECT host(client_addr) FROM pg_stat_activity WHERE client_addr IS NOT NULL"
    rows = site.query(asked)
    found = Counter(roles[address] for (address,) in rows if address in roles)
    return dict(sorted(found.items()))


def _cpu_s(network: Namespace) -> float:
    return cpu_s_of(dict.fromkeys(network.processes(), ""))


def lines_of(cost: dict[str, Any]) -> list[str]:
    """The figures as a table."""
    lines = [
        "", "What one host of each kind and the database use: for one series of 1 to 3 images "
        f"({cost['series']} of them), and in a second in which nothing happens:", "",
        "| what | a series | an idle second |", "|---|---|---|",
    ]
    names = {
        "cpu intake": "CPU s, receiver", "cpu work": "CPU s, worker",
        "cpu deliver": "CPU s, deliverer", "cpu database": "CPU s, database",
        "transactions": "transactions", "log bytes": "bytes of log",
    }
    for name, text in names.items():
        lines.append(
            f"| {text} | {cost['per_series'][name]:.4g} | {cost['idle_per_s'][name]:.3g} |"
        )
    held = ", ".join(f"{role} {count}" for role, count in cost["connections"].items())
    return [*lines, "", f"Connections to the database by host: {held}."]
