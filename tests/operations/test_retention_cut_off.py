"""A removal that something comes between: the end of the process, or an image."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import LedgerUnavailable
from dicom_node.intake.file_meta import build_file_meta
from dicom_node.spool import StoredFile, leaving
from tests.ledger.conftest import instance
from tests.operations.retention_site import LONG_AGO, S, Site

IMPLICIT = "1.2.840.10008.1.2"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, keep_delivered_for_h=0)
    yield made
    made.retention.stop()
    made.ledger.close()


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


def test_a_late_slice_that_is_set_aside_with_its_study_brings_all_of_it_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = site.delivered()
    aside = site.retention._leaving.set_aside
    late = f"instances/{study}/{study}.1/3.dcm"

    def arrives(token: str, name: str, jobs: list[str]) -> object:
        site.put(late)
        return aside(token, name, jobs)

    monkeypatch.setattr(site.retention._leaving, "set_aside", arrives)
    assert site.retention.remove(study) is None
    assert len(list((site.spool.root / late).parent.iterdir())) == 3
    assert site.ledger.removals.latest() == []


def test_an_image_that_comes_again_otherwise_while_its_study_is_set_aside_takes_its_place(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = site.delivered()
    aside = site.retention._leaving.set_aside
    path = f"instances/{study}/{study}.1/1.dcm"

    def arrives(token: str, name: str, jobs: list[str]) -> object:
        found = aside(token, name, jobs)
        site.put(path, b"other pixels")
        return found

    monkeypatch.setattr(site.retention._leaving, "set_aside", arrives)
    # The ledger knows nothing of it yet, and lets the study go.
    assert site.retention.remove(study)
    assert (site.spool.root / path).read_bytes() == b"other pixels"
    study = site.delivered()
    path = f"instances/{study}/{study}.1/1.dcm"
    monkeypatch.setattr(site.ledger.removals, "take", lambda *_: None)
    assert site.retention.remove(study) is None
    assert (site.spool.root / path).read_bytes() == b"other pixels"
    (former,) = (site.spool.root / "quarantine").glob("*.bin")
    assert former.read_bytes() == b"pixels"


def test_an_image_that_was_found_identical_and_then_removed_opens_nothing(site: Site) -> None:
    study = site.delivered()
    uid = f"{study}.1"
    (again, _) = site.ledger.receipts.instances(uid)
    assert site.retention.remove(study)
    site.ledger.index([again], is_there=site.spool.has)
    (series,) = site.ledger.receipts.series_of_study(study)
    assert (series.state, series.instance_count) == (S.REMOVED, 0)


def test_a_study_of_which_half_has_come_again_stays_until_the_other_half_may_have_come(
    site: Site,
) -> None:
    study = site.delivered()
    series = f"{study}.1"

    def comes() -> StoredFile:
        part = site.spool.begin("a1")
        part.write_meta(build_file_meta(b"1.2", b"1.2.3", IMPLICIT, "CT", "NODE"), IMPLICIT)
        part.write([b"pixels"])
        return site.spool.commit(part, study, series, "1.2.3")

    first = comes()
    site.ledger.index([
        replace(instance(3, series=series, fingerprint=first.fingerprint, at=LONG_AGO),
                path=first.path, study_instance_uid=study)
    ])
    for state in (S.COMPLETE, S.ROUTED):
        assert site.ledger.receipts.change(series, state, "")
    folder = (site.spool.root / first.path).parent
    os.utime(folder, (LONG_AGO.timestamp(),) * 2)
    again = comes()
    assert again == replace(first, outcome="identical")
    assert site.retention.remove(study) is None
    assert site.spool.has(first.path)
    os.utime(folder, (LONG_AGO.timestamp(),) * 2)
    assert site.retention.remove(study)


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_ledger_that_is_away_in_the_middle_leaves_no_study_aside(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    study = site.delivered()
    removals = site.ledger.removals
    take = removals.take

    def ends(*given: Any) -> None:
        if is_taken:
            take(*given)
        raise LedgerUnavailable("away")

    def away(token: str) -> bool:
        raise LedgerUnavailable(f"away, asked for {token}")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(removals, "take", ends)
        meanwhile.setattr(removals, "is_taken", away)
        with pytest.raises(LedgerUnavailable):
            site.retention.remove(study)
        with pytest.raises(LedgerUnavailable):
            site.retention.tick()
    monkeypatch.setattr(site.retention, "_go_on", lambda until_s: None)
    site.retention.tick()
    assert site.is_here(study) is not is_taken
    site.start_again()
    assert site.is_here(study) is not is_taken


def test_what_is_deleted_by_half_does_not_come_back_with_a_lost_ledger(site: Site) -> None:
    study = site.delivered()
    removal = site.retention.remove(study)
    assert removal
    assert not site.retention._leaving.discard(removal.token, 1)
    site.ledger.close()
    for path in site.folder.glob("ledger.db*"):
        path.unlink()
    after = Site(site.folder)
    after.start_again()
    assert not list((after.spool.root / "instances").iterdir())
    after.ledger.close()


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
    assert steps > 10
    assert seen == {True, False}
