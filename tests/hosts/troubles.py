"""What befalls hosts while they work, and how long the others take to make up for it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tests.hosts.modality import Modalities, Sent
from tests.hosts.node_host import NodeHost, wait_until
from tests.hosts.site import Site

_MADE_UP_WITHIN_S = 300.0
_RUNNING = (
    "SELECT j.job_id, c.process_id FROM jobs j JOIN job_claims c"
    " ON c.job_id = j.job_id AND c.attempt = j.attempt"
    " JOIN hosts h ON h.process_id = c.process_id"
    " WHERE j.state = 'running' AND h.host_name = :name"
)


@dataclass
class Trouble:
    """One thing that happened, and its figures in seconds and numbers."""

    what: str
    figures: dict[str, float] = field(default_factory=dict)


Strike = Callable[[Site, Sent], Trouble]


def worker_without_power(name: str) -> Strike:
    """A worker is gone for good, in the middle of a job."""

    def strike(site: Site, _: Sent) -> Trouble:
        node = site.named(name)
        _until_it_works(site, node)
        node.power_off()
        # What it had in its hands then: a job may have ended in between.
        jobs = dict(site.query(_RUNNING, name=name))
        return Trouble(f"{name} lost its power", _until_moved_on(site, jobs))

    return strike


def receiver_without_power(name: str) -> Strike:
    """A receiver is gone for good; what it kept last nobody else was told."""

    def strike(site: Site, sent: Sent) -> Trouble:
        site.named(name).power_off()
        at = time.monotonic()
        kept = [uid for uid, receiver in dict(sent.receivers).items() if receiver == name]
        unknown = set(kept) - _known(site)
        figures = {"acknowledged and not indexed": float(len(unknown))}
        wait_until(
            lambda: not set(kept) - _known(site), f"all that {name} kept is indexed",
            _MADE_UP_WITHIN_S,
        )
        figures["s until all that it kept was indexed"] = round(time.monotonic() - at, 1)
        return Trouble(f"{name} lost its power", figures)

    return strike


def cut_off_for(name: str, seconds: float) -> Strike:
    """A host hears and reaches nobody for some time, and works on as far as it can."""

    def strike(site: Site, _: Sent) -> Trouble:
        host = site.named(name).host
        figures = _away_for(site, site.named(name), seconds, host.unplug, host.plug_in)
        return Trouble(f"{name} was cut off for {seconds:g} s", figures)

    return strike


def without_database_for(name: str, seconds: float) -> Strike:
    """A host reaches everybody but the database for some time."""

    def strike(site: Site, _: Sent) -> Trouble:
        host = site.named(name).host
        figures = _away_for(
            site, site.named(name), seconds, partial(host.lose, site.database),
            partial(host.find, site.database),
        )
        return Trouble(f"{name} did not reach the database for {seconds:g} s", figures)

    return strike


def receiver_that_could_not_tell(name: str, seconds: float) -> Strike:
    """A receiver receives without the database for a while, and then is gone for good."""

    def strike(site: Site, sent: Sent) -> Trouble:
        site.named(name).host.lose(site.database)
        time.sleep(seconds)
        trouble = receiver_without_power(name)(site, sent)
        return Trouble(f"{name} did not reach the database, then lost its power", trouble.figures)

    return strike


def reboot(name: str, seconds: float) -> Strike:
    """A host loses its power and is started again with the disk that it had."""

    def strike(site: Site, _: Sent) -> Trouble:
        node = site.named(name)
        node.power_off()
        time.sleep(seconds)
        node.boot()
        return Trouble(f"{name} lost its power for {seconds:g} s", _until_back(site, node))

    return strike


def restart(name: str) -> Strike:
    """A host is stopped in order and started again, as for an update."""

    def strike(site: Site, _: Sent) -> Trouble:
        node = site.named(name)
        assert node.stop() == 0, node.log_tail()
        node.start()
        return Trouble(f"{name} was restarted", _until_back(site, node))

    return strike


def freeze(name: str, seconds: float) -> Strike:
    """A host stands still and goes on as if nothing had been: a virtual machine that is moved."""

    def strike(site: Site, _: Sent) -> Trouble:
        node = site.named(name)
        node.host.signal(signal.SIGSTOP)
        time.sleep(seconds)
        node.host.signal(signal.SIGCONT)
        return Trouble(f"{name} stood still for {seconds:g} s", _until_back(site, node))

    return strike


def database_killed(seconds: float) -> Strike:
    """The server of the database is killed, and is started again after a while."""

    def strike(site: Site, _: Sent) -> Trouble:
        site.database.run(site.postgres.kill)
        time.sleep(seconds)
        site.database.run(site.postgres.start)
        begun = time.monotonic()
        for node in filter(lambda one: one.is_on, site.nodes):
            _until_back(site, node)
        figures = {"s until all hosts had their places": round(time.monotonic() - begun, 1)}
        return Trouble(f"PostgreSQL was killed, away for {seconds:g} s", figures)

    return strike


def all_without_power(seconds: float) -> Strike:
    """Every host of the node loses its power at once, and all are started again."""

    def strike(site: Site, _: Sent) -> Trouble:
        for node in site.nodes:
            node.host.unplug()
        for node in site.nodes:
            node.power_off()
        time.sleep(seconds)
        for node in site.nodes:
            node.boot()
        begun = time.monotonic()
        for node in site.nodes:
            _until_back(site, node)
        figures = {"s until all were back": round(time.monotonic() - begun, 1)}
        return Trouble(f"all hosts lost their power for {seconds:g} s", figures)

    return strike


def _until_back(site: Site, node: NodeHost) -> dict[str, float]:
    """Wait until the last process of a host is among the living, and others of it are not."""
    begun = time.monotonic()
    text = (
        "SELECT count(*) FROM hosts WHERE host_name = :name AND gone = ''"
        " AND seen_at > extract(epoch FROM clock_timestamp()) - 3"
    )

    def is_back() -> bool:
        assert not node.has_failed, f"{node.name} ended:\n{node.log_tail()}"
        return int(site.query(text, name=node.name)[0][0]) == 1

    wait_until(is_back, f"{node.name} is back", _MADE_UP_WITHIN_S)
    return {"s until it was back": round(time.monotonic() - begun, 1)}


def _away_for(
    site: Site, node: NodeHost, seconds: float, cut: Callable[[], None], mend: Callable[[], None]
) -> dict[str, float]:
    if node.roles == "work":
        _until_it_works(site, node)
    cut()
    at = time.monotonic()
    jobs = dict(site.query(_RUNNING, name=node.name))
    timer = threading.Timer(seconds, mend)
    timer.start()
    figures = _until_moved_on(site, jobs) if jobs else {}
    timer.join()
    wait_until(lambda: _takes_part(site, node), f"{node.name} takes part", _MADE_UP_WITHIN_S)
    figures["s until it took part again"] = round(time.monotonic() - at - seconds, 1)
    return figures


def strike_all(
    site: Site, modalities: Modalities, plan: Sequence[tuple[float, Strike]],
    say: Callable[[str], None] = lambda _: None,
) -> list[Trouble]:
    """Let each happen when its part of the series has been acknowledged.

    One may come before the others have made up for another, as in life.
    """
    sent = modalities.sent

    def happen(strike: Strike) -> Trouble:
        trouble = strike(site, sent)
        say(f"{trouble.what}: {trouble.figures}")
        return trouble

    happening: list[Future[Trouble]] = []
    with ThreadPoolExecutor(max(1, len(plan)), thread_name_prefix="trouble") as pool:
        for part, strike in plan:
            due = part * len(sent.account.series)
            wait_until(
                lambda due=due: len(sent.ended_at) >= due,  # type: ignore[misc]
                f"{due:.0f} series are acknowledged", 1800.0,
            )
            happening.append(pool.submit(happen, strike))
    return [one.result() for one in happening]


def _until_it_works(site: Site, node: NodeHost) -> None:
    """Wait until a job runs there."""
    wait_until(lambda: bool(site.query(_RUNNING, name=node.name)), f"{node.name} runs a job")


def _until_moved_on(site: Site, jobs: dict[str, str]) -> dict[str, float]:
    """Wait until other processes have those jobs, and until they are done."""
    begun = time.monotonic()

    def rows() -> dict[str, tuple[str, str]]:
        found = site.query(
            "SELECT j.job_id, j.state, coalesce(c.process_id, '') FROM jobs j"
            " LEFT JOIN job_claims c ON c.job_id = j.job_id AND c.attempt = j.attempt"
            " WHERE j.job_id = ANY(:jobs)",
            jobs=list(jobs),
        )
        return {job: (state, process) for job, state, process in found}

    def is_taken_over() -> bool:
        return all(
            state == "succeeded" or process not in ("", jobs[job])
            for job, (state, process) in rows().items()
        )

    wait_until(is_taken_over, "its jobs are taken over", _MADE_UP_WITHIN_S)
    figures = {"jobs it ran": float(len(jobs))}
    figures["s until they ran elsewhere"] = round(time.monotonic() - begun, 1)
    wait_until(
        lambda: all(state == "succeeded" for state, _ in rows().values()), "its jobs are done",
        _MADE_UP_WITHIN_S,
    )
    figures["s until they were done"] = round(time.monotonic() - begun, 1)
    return figures


def _known(site: Site) -> set[str]:
    return {row[0] for row in site.query("SELECT sop_instance_uid FROM instances")}


def _takes_part(site: Site, node: NodeHost) -> bool:
    """A worker runs a job or has none to run, another one is among the living."""
    if node.roles == "work":
        return bool(site.query(_RUNNING, name=node.name)) or not site.open_work().get("jobs")
    alive = "SELECT 1 FROM hosts WHERE host_name = :name AND gone = ''"
    return bool(site.query(alive, name=node.name))
