"""How things stand at the moment of a scrape: read from the ledger, the disk and the processes."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import dicom_node
from dicom_node.errors import LedgerUnavailable
from dicom_node.ledger.hosts import HostState, without_former
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.measures import WAITING, Standing
from dicom_node.operations.audit_trail import AuditStanding
from dicom_node.records import DeliveryState, JobState, Priority, SeriesState

_MIB = 1 << 20
_STATES = {"series": SeriesState, "jobs": JobState, "deliveries": DeliveryState}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Surroundings:
    """What is asked of the rooms of the node; each answers at once.

    Attributes
    ----------
    folder
        Where images are; its disk is measured.
    refuse_below_bytes
        Free space below which images are refused.
    open_associations
        How many there are now.
    is_ready
        Whether associations are taken.
    device_mib
        Memory that loaded models hold, by device.
    processes
        Process ids by what they are.
    certificates
        When certificates end, in seconds since the epoch, by what they are for.
    audit
        The audit trail; ``None`` where there is none.
    peers
        Names of the configured peers, whose circuits are closed where nothing is known.
    """

    folder: Path
    refuse_below_bytes: int = 0
    open_associations: Callable[[], int] = lambda: 0
    is_ready: Callable[[], bool] = lambda: True
    device_mib: Callable[[], Mapping[str, float]] = dict
    processes: Callable[[], Mapping[str, Sequence[int]]] = dict
    certificates: Callable[[], Mapping[str, float]] = dict
    audit: Callable[[], AuditStanding | None] = lambda: None
    peers: Sequence[str] = ()


class Gauges(Collector):
    """Reads everything anew at each scrape."""

    def __init__(self, ledger: Ledger, around: Surroundings) -> None:
        self._ledger = ledger
        self._around = around
        self._own_process = ProcessCollector(registry=CollectorRegistry())
        self._began_at = time.time()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering asks the ledger nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every gauge; without those of the ledger where it does not answer."""
        yield from self._own_process.collect()
        yield _gauge("build_info", "Version of the node and of Python.", ("version", "python"), {
            (dicom_node.__version__, platform.python_version()): 1
        })
        yield _single("start_time_seconds", "When this process began.", self._began_at)
        yield _single("ready", "Whether the node takes associations.",
                      float(self._around.is_ready()))
        yield _single("associations_open", "Associations that are open now.",
                      self._around.open_associations())
        yield from self._machine()
        yield from self._audit()
        try:
            standing = self._ledger.measures.standing()
            hosts = without_former(self._ledger.hosts.all())
        except LedgerUnavailable:
            yield _single("ledger_up", "Whether the ledger answers.", 0)
            return
        yield _single("ledger_up", "Whether the ledger answers.", 1)
        yield from self._of_ledger(standing)
        yield from self._of_jobs(standing)
        yield from self._of_deliveries(standing)
        yield from _of_hosts(hosts)

    def _machine(self) -> Iterator[Metric]:
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(self._around.folder)
            yield _single("disk_free_bytes", "Free space where images and results are.", disk.free)
            yield _single("disk_total_bytes", "Size of that disk.", disk.total)
        yield _single("disk_refuse_below_bytes", "Free space below which images are refused.",
                      self._around.refuse_below_bytes)
        yield _gauge("device_memory_bytes", "Memory that loaded models hold of a device.",
                     ("device",), {
            (device,): mib * _MIB for device, mib in self._around.device_mib().items()
        })
        resident: dict[tuple[str, ...], float] = {}
        spent: dict[tuple[str, ...], float] = {}
        for kind, pids in self._around.processes().items():
            measured = [_process(pid) for pid in pids]
            resident[(kind,)] = sum(one[0] for one in measured)
            spent[(kind,)] = sum(one[1] for one in measured)
        yield _gauge("children_resident_bytes", "Memory of processes that the node has begun.",
                     ("process",), resident)
        yield _gauge("children_cpu_seconds", "CPU time of such processes that run now.",
                     ("process",), spent)
        yield _gauge("certificate_expiry_timestamp_seconds", "When a certificate ends.",
                     ("use",), {(use,): at for use, at in self._around.certificates().items()})

    def _audit(self) -> Iterator[Metric]:
        standing = self._around.audit()
        if standing is None:
            return
        yield _single("audit_backlog_bytes", "Audit messages that the collector has not got.",
                      standing.backlog_bytes)
        yield _single("audit_written", "Whether the last audit message could be written.",
                      float(standing.is_written))
        if standing.collector_up is not None:
            yield _single("audit_collector_up", "Whether the audit collector takes messages.",
                          float(standing.collector_up))

    def _of_ledger(self, standing: Standing) -> Iterator[Metric]:
        yield _single("ledger_bytes", "Size of the ledger.", standing.size_bytes)
        for kind, states in _STATES.items():
            counts = standing.states[kind]
            yield _gauge(kind, f"How many {kind} are in each state.", ("state",), {
                (str(state),): counts.get(str(state), 0) for state in states
            })
        if standing.last_received_at is not None:
            yield _single("last_instance_timestamp_seconds", "When an image last came in.",
                          standing.last_received_at)
        yield _gauge("duties", "What is owed beyond the first results of jobs.", ("kind",), {
            (kind,): count for kind, count in standing.duties.items()
        })
        yield _single("model_problems", "Model folders that cannot be used as they are.",
                      standing.model_problems)
        yield _single("rules_without_model", "Rules whose model cannot run.",
                      standing.rules_without_model)

    def _of_jobs(self, standing: Standing) -> Iterator[Metric]:
        now = time.time()
        depth: dict[tuple[str, ...], float] = {}
        age: dict[tuple[str, ...], float] = {}
        for priority in Priority:
            for state in (JobState.QUEUED, WAITING, JobState.RUNNING, JobState.HELD):
                there = standing.jobs.get((str(priority), str(state)))
                key = (str(priority), str(state))
                depth[key] = there.count if there else 0
                age[key] = max(0.0, now - there.oldest_at) if there else 0.0
        labels = ("priority", "state")
        yield _gauge("queue_jobs", "Jobs that are not at their end.", labels, depth)
        yield _gauge("queue_oldest_seconds", "How long ago the oldest of them was asked for.",
                     labels, age)

    def _of_deliveries(self, standing: Standing) -> Iterator[Metric]:
        now = time.time()
        peers = {*self._around.peers, *(peer for peer, _ in standing.deliveries)}
        waiting: dict[tuple[str, ...], float] = {}
        dead: dict[tuple[str, ...], float] = {}
        age: dict[tuple[str, ...], float] = {}
        for (peer, state), found in standing.deliveries.items():
            if state == DeliveryState.DEAD:
                dead[(peer,)] = found.count
            else:
                waiting[(peer,)] = waiting.get((peer,), 0) + found.count
                age[(peer,)] = max(age.get((peer,), 0.0), now - found.oldest_at)
        everyone = dict.fromkeys(((peer,) for peer in sorted(peers)), 0.0)
        yield _gauge("deliveries_waiting", "Objects on their way to a peer.", ("peer",),
                     everyone | waiting)
        yield _gauge("deliveries_oldest_seconds", "How long the oldest of them has waited.",
                     ("peer",), everyone | age)
        yield _gauge("deliveries_dead", "Objects that were given up, by peer.", ("peer",),
                     everyone | dead)
        yield _gauge("circuit_open", "Whether a peer counts as away.", ("peer",), {
            peer: float(standing.circuits.get(peer[0]) == "open") for peer in everyone
        })
        yield _gauge("commitments_open", "Objects whose storage commitment is not settled.",
                     ("state",), {
            (state,): standing.commitments.get(state, 0)
            for state in ("wanted", "asked", "unanswered")
        })


def _of_hosts(hosts: Sequence[HostState]) -> Iterator[Metric]:
    """Nothing where one host has the ledger alone."""
    if not hosts:
        return
    there: dict[tuple[str, ...], float] = {}
    for one in hosts:
        for role in one.roles:
            key = (one.host_name, role, "alive" if one.lives else "gone")
            there[key] = there.get(key, 0) + 1
    yield _gauge("hosts", "Processes that share the ledger, or did within a day.",
                 ("host", "role", "state"), there)
    living = [one for one in hosts if one.lives]
    yield _gauge("role_processes", "How many living processes have a role.", ("role",), {
        (role,): float(sum(role in one.roles for one in living))
        for role in ("intake", "work", "deliver")
    })
    yield _gauge("host_leads", "Which host does for all what is done once.", ("host", "duty"), {
        (one.host_name, duty): 1.0 for one in living for duty in one.leads
    })
    yield _gauge("host_seen_seconds", "How long ago a host gave a sign of life.", ("host",), {
        (one.host_name,): max(0.0, one.age_s) for one in living
    })
    yield _gauge("host_clock_ahead_seconds", "How far a host's clock is ahead of the database's.",
                 ("host",), {(one.host_name,): one.clock_ahead_s for one in living})


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]
) -> Metric:
    family = GaugeMetricFamily(f"dicom_node_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"dicom_node_{name}", text, value=value)


def _process(pid: int) -> tuple[int, float]:
    """Resident bytes and CPU seconds (proc(5)); zeros for one that has ended."""
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    return resident, (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
