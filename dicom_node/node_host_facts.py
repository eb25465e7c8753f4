"""The hosts of a node in words, for `status` and for `check`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.ledger.hosts import HostState

# A clock that is off by more than this is worth a word; the ledger does not go by it.
_OFF_S = 1.0
_WITHOUT = {
    "intake": "nothing is received, closed or routed",
    "work": "jobs wait, also those that say `running`",
    "deliver": "results wait",
}


def in_words(host: HostState) -> str:
    """Role, devices, version and duties of a host that lives; since when one is gone."""
    roles = ",".join(host.roles)
    if not host.lives:
        left = "; its files are not looked through yet" if host.to_index else ""
        return f"{roles}, gone ({host.gone}) for {host.age_s:.0f} s{left}"
    parts = [roles, f"version {host.version}"]
    if host.devices:
        parts.append(f"on {', '.join(host.devices)}")
    if host.leads:
        parts.append(f"leads {', '.join(host.leads)}")
    if abs(host.clock_ahead_s) > _OFF_S:
        word = "fast" if host.clock_ahead_s > 0 else "slow"
        parts.append(f"its clock is {abs(host.clock_ahead_s):.0f} s {word}")
    return ", ".join(parts)


def roles_of_nobody(hosts: Sequence[HostState]) -> str:
    """What no host that lives does, and what waits for it; empty where every part is done.

    Nothing is said where no host lives at all: then the node does not run.
    """
    if not any(one.lives for one in hosts):
        return ""
    idle = {role: nobody_does(role, hosts) for role in _WITHOUT}
    return "; ".join(f"{told}: {_WITHOUT[role]}" for role, told in idle.items() if told)


def nobody_does(role: str, hosts: Sequence[HostState]) -> str:
    """That no host that lives has a role, and since when; empty where one has it.

    Also where the ledger knows of no hosts: then one process may have it alone.
    """
    if not hosts or any(one.lives and role in one.roles for one in hosts):
        return ""
    last_s = max((one.seen_at for one in hosts if role in one.roles), default=None)
    since = "" if last_s is None else f" since {when(datetime.fromtimestamp(last_s, UTC))}"
    return f"no host does {role}{since}"


def when(at: datetime) -> str:
    """Local time to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def problem_of(hosts: Sequence[HostState], config: Config) -> tuple[str, str] | None:
    """What is wrong with how hosts share what they have to share, and what to do about it."""
    living = [one for one in hosts if one.lives]
    names = [(one.host_name, role) for one in living for role in one.roles]
    twice = sorted({name for name, role in names if names.count((name, role)) > 1})
    if twice:
        return (
            f"several processes with the same role are called {', '.join(twice)}",
            "node.host_name: another one for each host",
        )
    if len({one.host_name for one in living}) > 1 and config.storage.spool is None:
        return (
            f"{len(living)} processes share the ledger, and this host keeps images where no other "
            "one can read them", "storage.spool: a folder that all hosts mount, or s3://...",
        )
    idle = roles_of_nobody(hosts)
    return (idle, "dicom-node serve --only ROLE on a host") if idle else None
