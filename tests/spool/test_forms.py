"""What a spool of several hosts does, in each form: in a folder and in an object store."""

from __future__ import annotations

import json
import threading
import time

import pytest

from dicom_node.errors import OutOfSpace, PermanentError
from dicom_node.spool import Spool
from tests.spool.conftest import Place, part_of

UIDS = ("1.1", "1.2", "1.3")
PATH = "instances/1.1/1.2/1.3.dcm"


def quarantined(spool: Spool) -> list[bytes]:
    """What is in the quarantine."""
    kept = spool._kept
    if hasattr(kept, "store"):
        names = [one.key for one in kept.store.list("quarantine/")]
    else:
        names = [f"quarantine/{one.name}" for one in (spool.root / "quarantine").iterdir()]
    return [spool.resolve(one).read_bytes() for one in names if one.endswith(".bin")]


def incoming(spool: Spool) -> list[str]:
    return [one.name for one in spool.scratch.iterdir()]


def test_what_is_committed_can_be_read_on_every_host(place: Place) -> None:
    spool, other = place.host("a"), place.host("b")
    kept = spool.commit(part_of(spool, b"data"), *UIDS)
    assert (kept.path, kept.outcome) == (PATH, "new")
    for one in (spool, other):
        path = one.resolve(PATH)
        assert path.read_bytes().endswith(b"data")
        assert path.stat().st_size == kept.size_bytes
        assert one.has(PATH) and not one.has("instances/1.1/1.2/1.4.dcm")
        assert list(one.stored_in_order()) == [(PATH, kept.fingerprint)]
        found = one.look(PATH)
        assert found and (found.size_bytes, found.fingerprint) == (
            kept.size_bytes, kept.fingerprint
        )
        assert abs(found.modified_at - time.time()) < 60
    assert incoming(spool) == []


def test_what_is_not_kept_is_no_file(place: Place) -> None:
    spool = place.host()
    assert not spool.resolve(PATH).exists()
    assert [one.exists() for one in spool.resolve_all([PATH] * 5)] == [False] * 5
    assert spool.look(PATH) is None
    assert not spool.has_any()
    spool.remove(PATH)


def test_identical_data_from_another_sender_is_the_same_file(place: Place) -> None:
    spool, other = place.host("a"), place.host("b")
    first = spool.commit(part_of(spool, b"data", sender="A"), *UIDS)
    second = other.commit(part_of(other, b"data", sender="LONGER"), *UIDS)
    assert (second.outcome, second.fingerprint) == ("identical", first.fingerprint)
    assert second.size_bytes == first.size_bytes
    assert incoming(other) == [] and quarantined(spool) == []


def test_different_data_replaces_and_the_former_is_in_quarantine(place: Place) -> None:
    spool, other = place.host("a"), place.host("b")
    first = spool.commit(part_of(spool, b"data"), *UIDS)
    former = spool.resolve(PATH).read_bytes()
    assert other.resolve(PATH).read_bytes() == former
    second = other.commit(part_of(other, b"DATA"), *UIDS)
    assert (second.outcome, second.path) == ("replaced", first.path)
    assert second.fingerprint != first.fingerprint
    assert spool.resolve(PATH).read_bytes().endswith(b"DATA")
    assert quarantined(other) == [former]


def test_several_hosts_with_one_instance_lose_none_of_what_they_acknowledged(place: Place) -> None:
    spools = [place.host(f"host-{number}") for number in range(6)]
    outcomes: list[str] = []

    def commit(number: int) -> None:
        part = part_of(spools[number], bytes([number]) * 100)
        outcomes.append(spools[number].commit(part, *UIDS).outcome)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["new"] + ["replaced"] * 5
    contents = {*quarantined(spools[0]), spools[0].resolve(PATH).read_bytes()}
    assert {one[-1] for one in contents} == set(range(6))


def test_the_walk_is_in_byte_order_of_the_paths(place: Place) -> None:
    spool = place.host()
    for uids in (("1.2.3", "1", "1"), ("1.2", "9", "1"), ("1.2", "10", "2"), ("1.2", "10", "11")):
        spool.commit(part_of(spool, b"data"), *uids)
    paths = [path for path, _ in spool.stored_in_order()]
    assert paths == sorted(paths) and len(paths) == 4
    assert list(spool.stored()) == paths
    assert spool.has_any()


def test_many_are_brought_at_once_and_in_their_order(place: Place) -> None:
    spool, other = place.host("a"), place.host("b")
    wanted = [
        spool.commit(part_of(spool, b"%03d" % number), "1.1", "1.2", f"1.3.{number}").path
        for number in range(12)
    ]
    wanted.insert(3, "instances/1.1/1.2/9.dcm")
    other.prefetch(wanted[:5])
    paths = other.resolve_all(wanted[::-1])[::-1]
    assert not paths.pop(3).exists()
    assert [path.read_bytes()[-3:] for path in paths] == [b"%03d" % one for one in range(12)]


def test_a_result_that_is_there_stays_as_it_is(place: Place) -> None:
    spool, other = place.host("a"), place.host("b")
    for one, content in ((spool, b"result"), (other, b"the same object, made later")):
        path = one.put_result("job-1", "1.2.3", lambda file, c=content: file.write(c))  # type: ignore[misc]
    assert path == "outbox/job-1/1.2.3.dcm"
    assert [one.resolve(path).read_bytes() for one in (spool, other)] == [b"result"] * 2
    assert [name for name, _ in spool.results()] == [path]
    assert list(spool.stored()) == []
    other.remove(path)
    assert not spool.has(path) and not spool.resolve(path).exists()


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "instances/../../x", ""])
def test_nothing_outside_is_resolved(place: Place, relative: str) -> None:
    with pytest.raises(PermanentError):
        place.host().resolve(relative)


def test_quarantine_keeps_bytes_reason_and_no_second_copy(place: Place) -> None:
    spool = place.host()
    names = {spool.quarantine(part_of(spool, b"bad"), "why.code", "a sentence") for _ in range(2)}
    (name,) = names
    assert spool.resolve(name).read_bytes().endswith(b"bad")
    beside = json.loads(spool.resolve(name.replace(".bin", ".json")).read_text())
    assert (beside["reason"], beside["detail"]) == ("why.code", "a sentence")
    assert incoming(spool) == []
    assert spool.quarantined.remove_older(3600, 10) == 0
    assert spool.quarantined.remove_older(-60, 10) == 1
    assert quarantined(spool) == []


def test_a_full_quarantine_refuses_a_replacement_and_keeps_the_former(place: Place) -> None:
    spool = place.host(quarantine_limit_bytes=10)
    spool.commit(part_of(spool, b"data"), *UIDS)
    with pytest.raises(OutOfSpace):
        spool.commit(part_of(spool, b"DATA"), *UIDS)
    assert spool.resolve(PATH).read_bytes().endswith(b"data")
    assert incoming(spool) == []


def test_a_result_that_cannot_be_read_goes_to_quarantine(place: Place) -> None:
    spool = place.host()
    path = spool.put_result("job", "1.2", lambda file: file.write(b"bad"))
    spool.quarantine_kept(path, "why", "because")
    assert not spool.has(path)
    assert quarantined(spool) == [b"bad"]


def test_a_host_tidies_up_only_what_is_its_own(place: Place) -> None:
    spool, other = place.host("a"), place.host("b")
    part_of(spool, b"half").close()
    assert (other.clean_incoming(), spool.clean_incoming()) == (0, 1)


def test_a_place_is_marked_once(place: Place) -> None:
    spool, other = place.host("a"), place.host("b")
    assert spool.marker() == ""
    assert spool.mark("one") == "one"
    assert other.mark("two") == "one"
    assert other.marker() == "one"
