"""Studies that leave an object store: set aside as a whole, put back, deleted; and what comes."""

from __future__ import annotations

import time

import pytest

from dicom_node.errors import StoreUnavailable
from dicom_node.spool import Spool, withdrawn
from dicom_node.spool.objects import ObjectKept
from tests.spool.conftest import Place, part_of
from tests.spool.test_forms import PATH, UIDS

JOB, RESULT = "job-1", "outbox/job-1/1.2.9.dcm"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits half a minute waits not at all; markers are looked at every time."""
    monkeypatch.setattr(withdrawn, "_WAITS", -1)
    monkeypatch.setattr(withdrawn, "_ROUND_S", 0.0)


def filled(spool: Spool, images: int = 3) -> list[str]:
    """The paths of a study with a result, and of another study."""
    spool.commit(part_of(spool, b"other"), "9", "9", "9")
    spool.put_result(JOB, "1.2.9", lambda file: file.write(b"result"))
    return [
        spool.commit(part_of(spool, b"%d" % number), "1.1", "1.2", f"1.3.{number}").path
        for number in range(images)
    ]


def keys(spool: Spool, prefix: str = "") -> list[str]:
    kept = spool._kept
    assert isinstance(kept, ObjectKept)
    return [one.key for one in kept.store.list(prefix)]


def test_what_is_set_aside_is_nowhere_and_comes_back_as_it_was(stored: Place) -> None:
    spool, other = stored.host("a"), stored.host("b")
    paths = filled(spool)
    before = dict(spool.stored_in_order())
    aside = spool.leaving.set_aside("t", "1.1", [JOB, "job-none"])
    assert aside.fingerprints == {path: before[path] for path in paths}
    assert aside.fingerprints.items() <= before.items()
    assert aside.size_bytes > 0 and abs(aside.last_came_at - time.time()) < 60
    for one in (spool, other):
        assert list(one.stored()) == ["instances/9/9/9.dcm"]
        assert not one.has(paths[0]) and not one.has(RESULT)
        assert list(one.results()) == []
        assert one.leaving.fingerprints("1.1") == {}
        assert one.leaving.tokens() == ["t"]
    other.leaving.put_back("t")
    other.leaving.put_back("t")
    assert dict(spool.stored_in_order()) == before
    assert spool.has(RESULT) and spool.leaving.tokens() == []
    assert keys(spool, "removing/") == keys(spool, "spared/") == []


def test_what_is_deleted_is_gone_for_good_and_nothing_else_is(stored: Place) -> None:
    spool = stored.host()
    filled(spool, 5)
    spool.leaving.set_aside("t", "1.1", [JOB])
    rounds = 1
    while not spool.leaving.discard("t", 2):
        rounds += 1
    assert rounds == 3
    assert spool.leaving.discard("t")
    assert keys(spool) == ["instances/9/9/9.dcm"]
    assert not (spool.root / "instances/1.1/1.2").glob("*") or not list(
        (spool.root / "instances/1.1").rglob("*.dcm")
    )
    assert spool.commit(part_of(spool, b"data"), *UIDS).outcome == "new"


def test_what_was_cut_off_while_it_was_deleted_is_not_put_back_but_deleted(stored: Place) -> None:
    spool, later = stored.host("a"), stored.host("b")
    filled(spool, 5)
    spool.leaving.set_aside("t", "1.1", [JOB])
    assert not spool.leaving.discard("t", 2)
    later.leaving.put_back("t")
    assert keys(later) == ["instances/9/9/9.dcm"]


def test_who_stood_still_while_it_deleted_looks_again_before_it_goes_on(
    stored: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, later = stored.host("a"), stored.host("b")
    paths = filled(spool, 5)
    spool.leaving.set_aside("t", "1.1", [JOB])
    monkeypatch.setattr(withdrawn, "_TRUSTED_S", -1.0)
    assert not spool.leaving.discard("t", 50)
    assert set(paths) < set(keys(spool))
    # Meanwhile another one has led, and the study was sent again.
    monkeypatch.setattr(withdrawn, "_TRUSTED_S", 5.0)
    assert later.leaving.discard("t")
    again = later.commit(part_of(later, b"0"), "1.1", "1.2", "1.3.0").path
    assert spool.leaving.discard("t", 50)
    assert again in keys(spool)


def test_nothing_is_deleted_while_somebody_may_not_know_that_it_is_set_aside(
    stored: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawn, "_WAITS", 3)
    spool = stored.host()
    paths = filled(spool)
    spool.leaving.set_aside("t", "1.1", [JOB])
    assert not spool.leaving.discard("t", 50)
    assert set(paths) < set(keys(spool))
    spool.leaving.put_back("t")
    assert set(paths) < set(spool.stored())


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("data", [b"0", b"other data"])
def test_an_image_that_comes_while_its_study_is_set_aside_stays(
    stored: Place, knows: bool, data: bytes
) -> None:
    """Whether or not its receiver had looked before; another image of the study as well."""
    spool, receiver = stored.host("a"), stored.host("b")
    paths = filled(spool)
    if not knows:
        receiver.commit(part_of(receiver, b"x"), "8", "8", "8")
    spool.leaving.set_aside("t", "1.1", [JOB])
    again = receiver.commit(part_of(receiver, data), "1.1", "1.2", "1.3.0")
    new = receiver.commit(part_of(receiver, b"new"), "1.1", "1.2", "1.3.9")
    assert again.path == paths[0]
    assert receiver.has(again.path) and not receiver.has(paths[1])
    assert spool.leaving.discard("t")
    assert set(spool.leaving.fingerprints("1.1")) == {again.path, new.path}
    assert spool.resolve(again.path).read_bytes().endswith(data)
    assert keys(spool, "spared/") == keys(spool, "removing/") == []


def test_an_image_that_came_again_just_before_is_noticed(
    stored: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, receiver = stored.host("a"), stored.host("b")
    filled(spool)
    before = spool.leaving.set_aside("t", "1.1", []).last_came_at
    spool.leaving.put_back("t")
    while time.time() < before + 1.5:
        # The clock of a store shows whole seconds.
        time.sleep(0.05)
    receiver.commit(part_of(receiver, b"0"), "1.1", "1.2", "1.3.0")
    assert spool.leaving.set_aside("u", "1.1", []).last_came_at > before


def test_an_image_that_comes_while_its_study_is_deleted_is_refused_for_the_moment(
    stored: Place,
) -> None:
    spool, receiver = stored.host("a"), stored.host("b")
    filled(spool, 5)
    spool.leaving.set_aside("t", "1.1", [JOB])
    assert not spool.leaving.discard("t", 2)
    with pytest.raises(StoreUnavailable) as caught:
        receiver.commit(part_of(receiver, b"4"), "1.1", "1.2", "1.3.4")
    assert (caught.value.reason, caught.value.status) == ("store.being_removed", 0xA700)
    assert receiver.commit(part_of(receiver, b"new"), "1.1", "1.2", "1.3.9").outcome == "new"
    assert spool.leaving.discard("t")
    assert receiver.commit(part_of(receiver, b"4"), "1.1", "1.2", "1.3.4").outcome == "new"
    assert len(spool.leaving.fingerprints("1.1")) == 2


def test_a_result_that_is_made_anew_while_it_is_set_aside_stays(stored: Place) -> None:
    spool, worker = stored.host("a"), stored.host("b")
    filled(spool)
    spool.leaving.set_aside("t", "1.1", [JOB])
    worker.put_result(JOB, "1.2.9", lambda file: file.write(b"the same, made later"))
    assert worker.has(RESULT)
    assert spool.leaving.discard("t")
    assert worker.resolve(RESULT).read_bytes() == b"result"


def test_a_receiver_that_needed_too_long_to_know_looks_again(
    stored: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = stored.host()
    monkeypatch.setattr(withdrawn, "_STALE_S", 0.0)
    assert spool.commit(part_of(spool, b"data"), *UIDS).outcome == "new"
    assert spool.commit(part_of(spool, b"data"), *UIDS).outcome == "identical"
    assert spool.has(PATH)


def test_a_host_that_deletes_no_longer_leaves_what_came_since(stored: Place) -> None:
    spool, leader = stored.host("a"), stored.host("b")
    filled(spool, 5)
    spool.leaving.set_aside("t", "1.1", [JOB])
    assert not spool.leaving.discard("t", 2)
    assert leader.leaving.discard("t")
    kept = leader.commit(part_of(leader, b"4"), "1.1", "1.2", "1.3.4")
    assert spool.leaving.discard("t", 50)
    assert leader.has(kept.path)


def test_one_of_many_receiving_threads_leaves_the_trace_before_any_goes_by_it(
    stored: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, receiver = stored.host("a"), stored.host("b")
    filled(spool)
    leaving = receiver.leaving
    assert isinstance(leaving, withdrawn.Withdrawn)
    known, seen = leaving.known, []

    def look(*, fresh: bool = False) -> withdrawn.Known:
        if fresh:
            seen.append("1.1" in leaving._came)
        return known(fresh=fresh)

    monkeypatch.setattr(leaving, "known", look)
    leaving.note_came("1.1")
    assert seen == [False] and "1.1" in leaving._came
