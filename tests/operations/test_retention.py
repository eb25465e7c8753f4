"""What is removed, what never is, and what a removal that is cut off leaves behind."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dicom_node import leaving
from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.intake.inventory import take_inventory
from dicom_node.ledger import tables
from dicom_node.ledger.commitment_requests import CommitmentRequest
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.states import IllegalTransition
from dicom_node.operations.retention import Retention, keeping_of, settle_removals
from dicom_node.records import DeliveryState, Instance, JobState, SeriesState
from dicom_node.spool import Spool
from tests.ledger.conftest import delivery, instance, job, result

CT = "1.2.840.10008.5.1.4.1.1.2"
LONG_AGO = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
S, J, D = SeriesState, JobState, DeliveryState


def config_of(folder: Path, **storage: Any) -> Config:
    return Config.model_validate(
        {
            "node": {"data_dir": folder},
            "peers": {
                "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 1},
                "strict": {"ae_title": "STRICT", "host": "127.0.0.1", "port": 1,
                           "storage_commitment": "required"},
                "plain": {"ae_title": "PLAIN", "host": "127.0.0.1", "port": 1,
                          "storage_commitment": "off"},
            },
            "storage": {"refuse_below_free_bytes": 0, "make_room_below_free_bytes": 0, **storage},
        }
    )


class Site:
    """A ledger and a spool, without the node around them."""

    def __init__(self, folder: Path, **storage: Any) -> None:
        self.folder = folder
        self.config = config_of(folder, **storage)
        self.ledger = Ledger.open(folder / "ledger.db")
        self.spool = Spool(folder / "spool")
        self.told: list[Mapping[str, object]] = []
        self.events = Events(lambda name, fields: self.told.append({"event": name, **fields}))
        self.retention = Retention(self.config, self.ledger, self.spool, self.events)
        self.numbers = itertools.count(1)

    def put(self, path: str, content: bytes = b"pixels") -> str:
        """Write a file of the spool; its fingerprint."""
        target = self.spool.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        found = target.stat()
        return f"{found.st_size}-{found.st_mtime_ns}"

    def received(self, study: str, series: str, number: int, **changes: Any) -> Instance:
        """One image, on disk and in the ledger."""
        path = f"instances/{study}/{series}/{number}.dcm"
        one = replace(
            instance(number, series=series, fingerprint=self.put(path), at=LONG_AGO), path=path,
            study_instance_uid=study, **changes,
        )
        self.ledger.index([one])
        return one

    def study(
        self,
        *,
        series: SeriesState = S.ROUTED,
        reason: str = "",
        jobs: Mapping[str, tuple[JobState, str]] | None = None,
        deliveries: Mapping[str, list[tuple[DeliveryState, str, str]]] | None = None,
        at: datetime = LONG_AGO,
    ) -> str:
        """A study in some state: jobs by name, and their deliveries (state, commitment, to)."""
        number = next(self.numbers)
        study, uid = f"1.2.{number}", f"1.2.{number}.1"
        for slice_number in (1, 2):
            self.received(study, uid, slice_number)
        with self.ledger._database.write() as connection:
            def insert(table: sa.Table, record: Any, **more: Any) -> None:
                values = {**vars(record), **more}
                for name, value in values.items():
                    if isinstance(value, datetime):
                        values[name] = value.timestamp()
                    if isinstance(value, tuple):
                        values[name] = '["' + '", "'.join(value) + '"]'
                connection.execute(sa.insert(table).values(values))

            uids = itertools.count(1)
            for name, (state, why) in (jobs or {}).items():
                name = f"{number}-{name}"
                sent = (deliveries or {}).get(name.partition("-")[2], [])
                made = replace(
                    job(name, series=uid), study_instance_uid=study, state=state, reason=why,
                    destinations=tuple(dict.fromkeys(to for _, _, to in sent)) or ("pacs",),
                    changed_at=at, created_at=at,
                )
                insert(tables.jobs, made, seconds_by_stage="{}", shadow=int(made.shadow))
                for position, (how, commitment, to) in enumerate(sent):
                    object_number = number * 100 + next(uids)
                    one = replace(result(object_number, name), study_instance_uid=study)
                    self.put(one.path, b"result")
                    insert(tables.results, one)
                    insert(
                        tables.deliveries,
                        replace(
                            delivery(position, name, to, uid=object_number), state=how,
                            commitment=commitment, changed_at=at,
                        ),
                        created_at=at,
                    )
            connection.execute(
                sa.update(tables.series)
                .where(tables.series.c.series_instance_uid == uid)
                .values(state=str(series), reason=reason, changed_at=at.timestamp())
            )
        return study

    def delivered(self, **changes: Any) -> str:
        given: dict[str, Any] = {
            "jobs": {"a": (J.SUCCEEDED, "produced")},
            "deliveries": {"a": [(D.COMMITTED, "", "pacs")]}, **changes,
        }
        return self.study(**given)

    def is_here(self, study: str) -> bool:
        folder = self.spool.root / "instances" / study
        files = sorted(folder.rglob("*.dcm")) if folder.exists() else []
        assert len(files) in (0, 2), "by half"
        (series,) = self.ledger.receipts.series_of_study(study)
        assert (series.state is S.REMOVED) == (not files)
        return bool(files)

    def start_again(self) -> None:
        """What a start of the node does before it opens its doors."""
        settle_removals(self.ledger, self.spool)
        found = take_inventory(self.ledger, self.spool, "restart", self.events, forget=True)
        assert (found.indexed, found.missing) == (0, 0)
        assert not list((self.spool.root / "removing").glob("*"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, keep_delivered_for_h=24, keep_declined_for_h=48)
    yield made
    made.retention.stop()
    made.ledger.close()


def test_a_delivered_study_is_removed_after_its_time_and_not_before(site: Site) -> None:
    now = datetime.now(UTC)
    young = site.delivered(at=now - timedelta(hours=23))
    old = site.delivered(at=now - timedelta(hours=25))
    site.retention.tick()
    assert (site.is_here(young), site.is_here(old)) == (True, False)
    (told,) = (one for one in site.told if one["event"] == "study_removed")
    assert (told["instances"], told["reason"]) == (2, "delivered")
    assert told["size_bytes"] == 2 * len(b"pixels") + len(b"result")
    (series,) = site.ledger.receipts.series_of_study(old)
    last = site.ledger.history("series", series.series_instance_uid)[-1]
    assert (last.to_state, last.reason) == ("removed", "delivered")
    keeping = keeping_of(young, site.ledger, site.config)
    assert keeping.because == "its results are delivered"
    assert keeping.until is not None
    assert abs(keeping.until - now - timedelta(hours=1)) < timedelta(seconds=1)


def test_what_no_rule_took_has_an_age_of_its_own(site: Site) -> None:
    now = datetime.now(UTC)
    ages = (now - timedelta(hours=30), now - timedelta(hours=49))
    young, old = (
        site.study(series=S.DECLINED, reason="no_rule_matched", at=at) for at in ages
    )
    site.retention.tick()
    assert (site.is_here(young), site.is_here(old)) == (True, False)


def test_what_is_declined_for_an_error_stays_until_somebody_removes_it(site: Site) -> None:
    study = site.study(series=S.DECLINED, reason="unexpected.KeyError")
    site.retention.tick()
    assert site.is_here(study)
    assert "could not be routed" in keeping_of(study, site.ledger, site.config).because
    site.ledger.removals.ask(study)
    site.retention.tick()
    assert not site.is_here(study)


SERIES = [
    (S.RECEIVING, ""), (S.COMPLETE, ""), (S.ROUTED, ""), (S.DECLINED, "no_rule_matched"),
    (S.DECLINED, "input.slices_too_thick: x"), (S.DECLINED, "unexpected.KeyError"),
]
JOBS = [
    *((state, "produced") for state in J if state is not J.DEAD),
    (J.CANCELLED, "superseded_by_late_instances"), (J.DEAD, "input.gap: x"),
    (J.DEAD, "model.crashed: x"),
]
SENT = [
    (state, commitment, to) for state in D
    for commitment in ("", "wanted", "asked", "unanswered", "not_offered", "off")
    for to in ("pacs", "strict", "plain")
]
ENDS = st.lists(st.sampled_from(SENT), max_size=3)


def is_delivered(state: DeliveryState, commitment: str, to: str) -> bool:
    """By hand, what stands in the settings of the peers above."""
    if state in (D.COMMITTED, D.REPLACED):
        return True
    if state is not D.SENT or to == "strict":
        return False
    return to == "plain" or commitment in ("unanswered", "not_offered", "off")


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), keep_delivered_for_h=0, keep_declined_for_h=0)
    yield made
    made.ledger.close()


@examples(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    series=st.sampled_from(SERIES),
    jobs=st.lists(st.tuples(st.sampled_from(JOBS), ENDS), max_size=2),
    asked=st.booleans(),
    owed=st.booleans(),
)
def test_nothing_is_removed_that_is_not_delivered(
    one_site: Site,
    series: tuple[SeriesState, str],
    jobs: list[tuple[tuple[JobState, str], list[tuple[DeliveryState, str, str]]]],
    asked: bool,
    owed: bool,
) -> None:
    site = one_site
    named = dict(zip("ab", jobs, strict=False))
    study = site.study(
        series=series[0], reason=series[1],
        jobs={name: one for name, (one, _) in named.items()},
        deliveries={name: sent for name, (_, sent) in named.items()},
    )
    now = datetime.now(UTC)
    if asked:
        items = [(CT, f"{study}.1.1")]
        site.ledger.commitment_requests.record(
            f"9.{study}", "CT01", items, now=now, report_at=now + timedelta(hours=1)
        )
    if owed and named:
        site.ledger.duties.add("answer", f"{study.removeprefix('1.2.')}-a", "job.dead")
    gone = site.retention.remove(study) is not None
    assert gone != site.is_here(study)
    ends = [end for _, sent in named.values() for end in sent]
    finished = all(
        state in (J.SUCCEEDED, J.CANCELLED) or (state is J.DEAD and why.startswith("input."))
        for (state, why), _ in named.values()
    )
    if gone:
        assert series[0] in (S.ROUTED, S.DECLINED)
        assert not series[1].startswith("unexpected")
        assert not asked
        assert not (owed and named)
        assert finished
        assert all(is_delivered(*end) for end in ends)
        for (state, _), sent in named.values():
            arrived = [end for end in sent if end[0] in (D.SENT, D.COMMITTED)]
            assert state is J.CANCELLED or arrived or any(
                end[0] in (D.SENT, D.COMMITTED) for end in ends
            )
        if not named:
            assert series == (S.DECLINED, "no_rule_matched")
    if asked:
        (request,) = site.ledger.commitment_requests.due("CT01", now + timedelta(hours=2), 1)
        site.ledger.commitment_requests.end(request, "dead", "peer.unknown", now)


@pytest.mark.parametrize("commitment", ["off", "not_offered", "unanswered"])
def test_what_is_sent_goes_where_nobody_commits(site: Site, commitment: str) -> None:
    study = site.delivered(deliveries={"a": [(D.SENT, commitment, "pacs")]})
    site.retention.tick()
    assert not site.is_here(study)


def test_what_the_model_could_not_take_goes_once_that_is_answered(site: Site) -> None:
    dead = {"a": (J.DEAD, "input.gap: too wide")}
    told = site.delivered(series=S.DECLINED, reason="input.gap: too wide", jobs=dead)
    silent = site.study(series=S.DECLINED, reason="input.gap: too wide", jobs=dead)
    site.retention.tick()
    assert (site.is_here(told), site.is_here(silent)) == (False, True)


def test_a_late_slice_that_is_not_indexed_yet_keeps_its_study(site: Site) -> None:
    study = site.delivered()
    late = site.spool.root / "instances" / study / f"{study}.1" / "3.dcm"
    site.put(str(late.relative_to(site.spool.root)))
    assert site.retention.remove(study) is None
    assert late.exists()
    assert site.ledger.removals.latest() == []


def test_a_late_slice_that_comes_while_its_study_is_set_aside_brings_all_of_it_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = site.delivered()
    aside = site.retention._leaving.set_aside

    def arrives(token: str, name: str, jobs: list[str]) -> object:
        found = aside(token, name, jobs)
        site.received(study, f"{study}.1", 3)
        return found

    monkeypatch.setattr(site.retention._leaving, "set_aside", arrives)
    assert site.retention.remove(study) is None
    folder = site.spool.root / "instances" / study / f"{study}.1"
    assert sorted(one.name for one in folder.iterdir()) == ["1.dcm", "2.dcm", "3.dcm"]
    (series,) = site.ledger.receipts.series_of_study(study)
    assert (series.state, series.instance_count) == (S.RECEIVING, 3)
    assert len(list((site.spool.root / "outbox").iterdir())) == 1
    site.start_again()


def test_an_image_that_was_found_identical_and_then_removed_opens_nothing(site: Site) -> None:
    study = site.delivered()
    uid = f"{study}.1"
    (again, _) = site.ledger.receipts.instances(uid)
    assert site.retention.remove(study)
    site.ledger.index([again], is_there=site.spool.has)
    (series,) = site.ledger.receipts.series_of_study(study)
    assert (series.state, series.instance_count) == (S.REMOVED, 0)


def test_a_study_that_is_sent_again_may_send_its_results_again(site: Site) -> None:
    study = site.delivered()
    assert site.retention.remove(study)
    site.received(study, f"{study}.1", 1, calling_ae_title="OTHER")
    (series,) = site.ledger.receipts.series_of_study(study)
    assert (series.state, series.instance_count) == (S.RECEIVING, 1)
    assert series.calling_ae_title == "OTHER"
    (former,) = site.ledger.jobs.of_series(series.series_instance_uid)
    assert site.ledger.jobs.results(former.job_id) == []
    assert site.ledger.deliveries.of_job(former.job_id) == []


def test_what_the_node_committed_to_stays_longer_and_no_lack_of_room_shortens_that(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, keep_delivered_for_h=0, make_room_below_free_bytes=1 << 60)
    study = site.delivered()
    request = CommitmentRequest("9.9", "CT01", ((CT, f"{study}.1.1"),), (), 1, LONG_AGO)
    now = datetime.now(UTC)
    site.ledger.commitment_requests.record("9.9", "CT01", request.items, now=now, report_at=now)
    assert site.retention.remove(study) is None
    site.ledger.commitment_requests.end(request, "reported", "same_association", now)
    assert site.retention.remove(study) is None
    keeping = keeping_of(study, site.ledger, site.config)
    assert keeping.until is not None
    assert timedelta(days=29) < keeping.until - now < timedelta(days=31)
    site.ledger.close()


def test_without_room_the_oldest_delivered_studies_go_before_their_time(tmp_path: Path) -> None:
    site = Site(tmp_path, keep_delivered_for_h=1000, make_room_below_free_bytes=100)
    now = datetime.now(UTC)
    studies = [site.delivered(at=now - timedelta(hours=hours)) for hours in (4, 9, 2)]
    waiting = site.study(jobs={"a": (J.HELD, "")}, at=now - timedelta(hours=20))
    # Each study that goes makes room for 40 bytes.
    free = {"bytes": 10}

    def free_bytes() -> int:
        return free["bytes"] + 40 * len(site.ledger.removals.latest(9))

    site.spool.free_bytes = free_bytes  # type: ignore[method-assign]
    # Nothing has just been received.
    with site.ledger._database.write() as connection:
        connection.execute(sa.update(tables.series).values(last_received_at=0.0))
    free["bytes"] = 20
    site.retention.tick()
    assert [site.is_here(one) for one in studies] == [False, False, True]
    assert site.is_here(waiting)
    assert {one.reason for one in site.ledger.removals.latest()} == {"delivered, to make room"}
    site.ledger.close()


def remove_in_steps(folder: Path, study: str, steps: int) -> None:
    """In a process of its own: remove a study, and end as in a power cut after so many steps."""
    left = steps

    def counted(what: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return what(*arguments, **named)

        return step

    site = Site(folder, keep_delivered_for_h=0)
    for module, name in (
        (os, "rename"), (os, "rmdir"), (leaving, "sync_directory"), (Path, "unlink"),
        (site.ledger.removals, "take"),
    ):
        setattr(module, name, counted(getattr(module, name)))
    removal = site.retention.remove(study)
    assert removal
    while not site.retention._leaving.discard(removal.token, 1):
        continue
    os._exit(0)


def cut_off(folder: Path, study: str, steps: int) -> int:
    """The exit status of `remove_in_steps`: 0 when it came to its end first."""
    pid = os.fork()
    if pid == 0:
        try:
            remove_in_steps(folder, study, steps)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_removal_that_is_cut_off_at_any_step_is_all_or_nothing(tmp_path: Path) -> None:
    seen = set()
    for steps in range(60):
        site = Site(tmp_path, keep_delivered_for_h=0)
        site.numbers = itertools.count(steps + 1)
        study = site.delivered()
        site.ledger.close()
        ended = cut_off(tmp_path, study, steps)
        site = Site(tmp_path, keep_delivered_for_h=0)
        site.start_again()
        is_here = site.is_here(study)
        results = list((site.spool.root / "outbox").glob(f"{steps + 1}-*/*"))
        assert bool(results) == is_here, "results go with their images"
        assert bool(site.ledger.removals.of_study(study)) != is_here
        site.ledger.close()
        seen.add(is_here)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    else:
        pytest.fail("it never came to its end")
    assert steps > 15
    assert seen == {True, False}


def test_a_removed_study_is_forgotten_in_the_end_and_nothing_else_is(site: Site) -> None:
    gone, here = site.delivered(), site.study(jobs={"a": (J.HELD, "")})
    assert site.retention.remove(gone)
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert site.ledger.pruning.removed_series(later, 10) == 1
    site.ledger.pruning.old_rows(later, 100)
    assert site.ledger.receipts.series_of_study(gone) == []
    assert site.ledger.removals.latest() == []
    with site.ledger._database.read() as connection:
        left = {
            table.name: [str(row) for row in connection.execute(sa.select(table))]
            for table in tables.metadata.sorted_tables
        }
    for name, found in left.items():
        assert not [row for row in found if f"{gone}." in row], name
    assert len(site.ledger.receipts.series_of_study(here)) == 1
    assert len(left["jobs"]) == 1


def test_a_job_whose_images_were_removed_is_not_tried_again(site: Site) -> None:
    study = site.study(
        jobs={"a": (J.DEAD, "model.crashed")}, deliveries={"a": [(D.DEAD, "", "pacs")]}
    )
    site.ledger.removals.ask(study)
    site.retention.tick()
    (former,) = site.ledger.jobs.of_series(f"{study}.1")
    assert former.state is J.CANCELLED
    assert [one.state for one in site.ledger.deliveries.of_job(former.job_id)] == [D.REPLACED]
    with pytest.raises(IllegalTransition):
        site.ledger.jobs.retry(former.job_id)


def test_a_removal_that_cannot_be_done_now_is_wanted_no_more(site: Site) -> None:
    study = site.study(jobs={"a": (J.RUNNING, "")})
    site.ledger.removals.ask(study)
    site.retention.tick()
    assert site.is_here(study)
    assert site.ledger.removals.asked() == []


def test_old_files_leave_the_quarantine(site: Site) -> None:
    names = [site.spool.quarantined.add(__file__, "dataset.x", "a test")]
    other = site.folder / "other"
    other.write_bytes(b"other")
    names.append(site.spool.quarantined.add(str(other), "dataset.x", "a test"))
    old = (site.spool.root / names[0]).with_suffix(".json")
    os.utime(old, (0, 0))
    site.retention.tick()
    assert [(site.spool.root / name).exists() for name in names] == [False, True]
    assert not old.exists()


def test_the_thread_deletes_what_is_set_aside(site: Site) -> None:
    site.retention.start()
    study = site.delivered()
    assert site.retention.remove(study)
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while list((site.spool.root / "removing").iterdir()):
        assert datetime.now(UTC) < deadline, "its files are still there"
        site.retention._stopping.wait(0.02)

