"""Several processes write one ledger at once: what each decides by stays true until it has.

Threads stand for hosts here, each with a ledger, and so with connections, of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.ledger import tables
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.overtaking import Overtaken
from dicom_node.ledger.replanning import Recipient
from dicom_node.ledger.states import IllegalTransition
from dicom_node.records import (
    Circuit,
    DestinationProfile,
    JobState,
    SendOutcome,
    SeriesState,
)
from tests.ledger.conftest import START, delivery, instance, job, result

HOSTS, ROUNDS = 4, 6


@pytest.fixture
def hosts(database_url: str) -> Iterator[list[Ledger]]:
    opened = [Ledger.open(database_url) for _ in range(HOSTS)]
    yield opened
    for ledger in opened:
        ledger.close()


def at_once(*doings: Callable[[], Any]) -> list[Any]:
    """What each gave, or raised, when all began at the same moment."""
    begin = threading.Barrier(len(doings))

    def do(doing: Callable[[], Any]) -> Any:
        begin.wait()
        try:
            return doing()
        except (IllegalTransition, Overtaken) as refused:
            return refused

    with ThreadPoolExecutor(len(doings)) as pool:
        return list(pool.map(do, doings))


def histories_are_chains(ledger: Ledger) -> None:
    """Every change began where the one before had ended, or two decided by the same state."""
    t = tables.transitions
    last: dict[tuple[str, str], str] = {}
    with ledger._database.read() as connection:
        for row in connection.execute(sa.select(t).order_by(t.c.id)):
            key = (row.kind, row.key)
            assert row.from_state == last.get(key, ""), (key, row.from_state, last.get(key))
            last[key] = row.to_state


def test_images_of_one_series_that_several_hosts_receive_are_all_counted_once(
    hosts: list[Ledger],
) -> None:
    def receive(ledger: Ledger, host: int) -> None:
        for number in range(ROUNDS):
            # One of its own, and one that every host is sent.
            own = instance(100 * host + number, association_id=str(host))
            ledger.index([own, instance(1000 + number)])

    at_once(*(lambda at=at: receive(*at) for at in zip(hosts, range(HOSTS), strict=True)))
    series = hosts[0].receipts.find_series("1.2.3")
    assert series is not None
    assert series.instance_count == len(hosts[0].receipts.instances("1.2.3"))
    assert series.instance_count == (HOSTS + 1) * ROUNDS
    histories_are_chains(hosts[0])


def test_a_slice_that_slips_in_while_a_series_is_routed_opens_it_again(
    hosts: list[Ledger],
) -> None:
    for number in range(ROUNDS):
        uid, job_id = f"1.2.{number}", f"job-{number}"
        hosts[0].index([instance(1, series=uid)])
        hosts[0].receipts.change(uid, SeriesState.COMPLETE, "quiet_period")
        routed = [
            lambda one=one, uid=uid, job_id=job_id: one.jobs.route(
                uid, [job(job_id, series=uid)], "rule", seen=START
            )
            for one in hosts[:2]
        ]
        late = instance(2, series=uid, at=START + timedelta(seconds=1))
        *answers, _ = at_once(*routed, lambda late=late: hosts[2].index([late]))
        assert answers.count(True) <= 1
        found = hosts[3].receipts.find_series(uid)
        assert found is not None and found.state is SeriesState.RECEIVING
        assert len(hosts[3].jobs.of_series(uid)) == answers.count(True)
    histories_are_chains(hosts[0])


def queue(ledger: Ledger, count: int) -> None:
    for number in range(count):
        uid = f"1.2.{number}"
        ledger.index([instance(1, series=uid)])
        ledger.receipts.change(uid, SeriesState.COMPLETE, "quiet_period")
        ledger.jobs.route(uid, [job(f"job-{number}", series=uid)], "rule", seen=START)


def test_no_more_jobs_of_a_model_run_than_it_may_whichever_hosts_start_them(
    hosts: list[Ledger],
) -> None:
    queue(hosts[0], HOSTS)
    started = at_once(
        *(
            lambda one=one, number=number: one.jobs.start(f"job-{number}", 1, {"lungs-ct": 2})
            for number, one in enumerate(hosts)
        )
    )
    assert sum(job is not None for job in started) == 2
    assert len(hosts[0].jobs.running()) == 2


def test_a_job_is_either_recorded_or_cancelled(hosts: list[Ledger]) -> None:
    queue(hosts[0], ROUNDS)
    for number in range(ROUNDS):
        job_id = f"job-{number}"
        hosts[0].jobs.start(job_id, 1)
        made, wanted = result(number, job_id), delivery(number, job_id)
        done, cancelled = at_once(
            lambda at=(job_id, made, wanted): hosts[1].jobs.succeed(
                at[0], [at[1]], [at[2]], "result", {}, attempt=1
            ),
            lambda job_id=job_id: hosts[2].decisions.cancel(job_id),
        )
        assert isinstance(done, Overtaken) != isinstance(cancelled, IllegalTransition)
        is_done = not isinstance(done, Overtaken)
        assert len(hosts[3].jobs.results(job_id)) == is_done
        assert len(hosts[3].deliveries.of_job(job_id)) == is_done
    histories_are_chains(hosts[0])


def test_what_two_hosts_say_of_one_delivery_counts_once(hosts: list[Ledger]) -> None:
    queue(hosts[0], 1)
    hosts[0].jobs.start("job-0", 1)
    wanted = [delivery(number, "job-0") for number in range(ROUNDS)]
    made = [result(number, "job-0") for number in range(ROUNDS)]
    hosts[0].jobs.succeed("job-0", made, wanted, "result", {}, attempt=1)
    for one in wanted:
        stored = SendOutcome(one.sop_instance_uid, 0, stored=True, transient=False)
        failed = SendOutcome(one.sop_instance_uid, 0xA700, stored=False, transient=True)
        name = one.delivery_id
        at_once(
            lambda at=(name, stored): hosts[0].deliveries.record(*at, retry_at=None),
            lambda at=(name, failed): hosts[1].deliveries.record(*at, retry_at=START),
            lambda at=(name, stored): hosts[2].deliveries.record(*at, retry_at=None),
            lambda name=name: hosts[3].deliveries.put_off(name, START),
        )
    assert {str(one.state) for one in hosts[0].deliveries.of_job("job-0")} == {"sent"}
    for one in wanted:
        ends = [t.to_state for t in hosts[0].history("delivery", one.delivery_id)]
        assert ends.count("sent") == 1
    histories_are_chains(hosts[0])


def test_failures_to_reach_a_destination_are_counted_by_all_hosts_together(
    hosts: list[Ledger],
) -> None:
    def one_more(circuit: Circuit) -> Circuit:
        return replace(circuit, failures=circuit.failures + 1)

    def count(ledger: Ledger) -> None:
        for _ in range(ROUNDS):
            ledger.circuits.change("pacs", one_more)

    at_once(*(lambda one=one: count(one) for one in hosts))
    assert hosts[0].circuits.find("pacs").failures == HOSTS * ROUNDS


def test_classes_that_a_destination_takes_after_all_are_each_taken_off(
    hosts: list[Ledger],
) -> None:
    queue(hosts[0], HOSTS)
    classes = [f"1.2.840.{number}" for number in range(HOSTS)]
    hosts[0].profiles.put(DestinationProfile("pacs", {}, frozenset(classes), None))
    for number, sop_class_uid in enumerate(classes):
        job_id = f"job-{number}"
        made = replace(result(number, job_id), sop_class_uid=sop_class_uid)
        hosts[0].jobs.start(job_id, 1)
        hosts[0].jobs.succeed(job_id, [made], [delivery(number, job_id)], "result", {}, attempt=1)
    at_once(
        *(
            lambda one=one, number=number: one.deliveries.record(
                delivery(number, f"job-{number}").delivery_id,
                SendOutcome(f"2.25.{number}", 0, stored=True, transient=False),
                retry_at=None, recipient=Recipient("pacs"),
            )
            for number, one in enumerate(hosts)
        )
    )
    profile = hosts[0].profiles.find("pacs")
    assert profile is not None and profile.refused == frozenset()


def test_what_is_owed_twice_at_once_is_owed_once(hosts: list[Ledger]) -> None:
    at_once(*(lambda one=one: one.duties.add("answer", "job-1", "dead") for one in hosts))
    assert len(hosts[0].duties.waiting()) == 1


def test_the_first_version_of_a_model_is_made_live_by_one_host(hosts: list[Ledger]) -> None:
    begun = at_once(
        *(lambda one=one, at=at: one.stages.begin("lungs", str(at)) for at, one in enumerate(hosts))
    )
    assert begun.count(True) == 1


def test_a_study_is_removed_or_gets_its_new_image_and_never_half_of_each(
    hosts: list[Ledger],
) -> None:
    for number in range(ROUNDS):
        uid = f"1.2.{number}"
        first = replace(instance(1, series=uid), study_instance_uid=f"1.{number}")
        hosts[0].index([first])
        hosts[0].receipts.change(uid, SeriesState.COMPLETE, "quiet_period")
        hosts[0].receipts.change(uid, SeriesState.DECLINED, "no_rule")
        late = replace(first, sop_instance_uid=f"{uid}.2", path=f"{first.path}-late")
        removal, _ = at_once(
            lambda first=first, number=number: hosts[1].removals.take(
                f"token-{number}", f"1.{number}", {first.path: first.fingerprint}, 1,
                lambda holding: "" if any(
                    one.state is SeriesState.RECEIVING for one in holding.series
                ) else "old",
            ),
            lambda late=late: hosts[2].index([late]),
        )
        found = hosts[3].receipts.find_series(uid)
        assert found is not None and found.state is SeriesState.RECEIVING
        there = {one.path for one in hosts[3].receipts.instances(uid)}
        assert there == {late.path} | (set() if removal else {first.path})
        assert found.instance_count == len(there)
    histories_are_chains(hosts[0])


def test_hosts_that_start_at_once_on_a_database_of_an_earlier_version_all_get_it(
    database_url: str,
) -> None:
    ledger = Ledger.open(database_url)
    ledger.index([instance(1)])
    with ledger._database.write() as connection:
        connection.exec_driver_sql("DROP TABLE duties")
        connection.exec_driver_sql("DROP INDEX jobs_by_turn")
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN shadow")
    ledger.close()
    at_once(*(lambda: Ledger.open(database_url).close() for _ in range(HOSTS)))
    again = Ledger.open(database_url)
    assert again.jobs.latest() == []
    assert again.duties.waiting() == []
    assert again.receipts.count_by_state() == {"receiving": 1}
    again.close()


def test_jobs_of_one_series_at_once_are_one_after_the_other(hosts: list[Ledger]) -> None:
    queue(hosts[0], 1)
    started = at_once(*(lambda one=one: one.jobs.start("job-0", 1) for one in hosts))
    # The same attempt again is what a restart asks for, so that it may be had again.
    assert {one.state for one in started if one is not None} == {JobState.RUNNING}
    reasons = [t.reason for t in hosts[0].history("job", "job-0") if t.to_state == "running"]
    assert reasons.count("started") == 1
    histories_are_chains(hosts[0])
