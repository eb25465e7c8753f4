"""What receivers kept that were silent for everybody else, and never came back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.errors import LedgerUnavailable
from dicom_node.events import Events
from dicom_node.intake.left_behind import LeftBehind
from dicom_node.ledger.hosts import HostState
from dicom_node.ledger.ledger import Ledger
from dicom_node.spool import Spool
from tests.intake.test_inventory import keep

GONE = HostState(
    "p2", "receiver-2", ("intake",), (), (), "1.2.3", 0.0, 0.0, 40.0, gone="silent"
)


class Site:
    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(folder / "ledger.db")
        self.spool = Spool(folder / "spool")
        self.found: list[int] = []
        self.looks = 0
        self.now_s = 1000.0
        self.left = LeftBehind(
            self, self.spool, Events(), self.found.append, lambda: self.now_s
        )
        self.index, self.forget_files = self.ledger.index, self.ledger.forget_files
        self.is_away = False

    def files_after(self, path: str, limit: int) -> list[tuple[str, str]]:
        self.looks += not path
        if self.is_away:
            raise LedgerUnavailable("away")
        return self.ledger.files_after(path, limit)

    def tick(self, *silent: HostState, living: tuple[tuple[str, str], ...] = ()) -> int:
        """How many files a look has found since the last one."""
        before = len(self.found)
        self.left.tick(silent, living)
        if self.left._thread is not None:
            self.left._thread.join()
        return sum(self.found[before:])

    def keep(self, number: int, age_s: float = 60.0) -> None:
        path = self.spool.resolve(keep(self.spool, number))
        os.utime(path, (time.time() - age_s,) * 2)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.left.stop()
    made.ledger.close()


def test_what_a_receiver_kept_after_it_was_taken_for_gone_is_found_when_it_stays_away(
    site: Site,
) -> None:
    site.keep(1)
    assert site.tick(replace(GONE, age_s=20.0)) == 0
    assert site.tick(GONE) == 1
    # It goes on receiving, cut off from everybody.
    site.keep(2)
    assert site.tick(replace(GONE, age_s=79.0)) == 0
    assert site.tick(replace(GONE, age_s=80.0)) == 1
    assert site.tick(replace(GONE, age_s=159.0)) == 0 and site.looks == 2


def test_where_no_receiver_went_without_a_word_nobody_looks(site: Site) -> None:
    site.keep(1)
    assert site.tick(living=(("receiver-1", "p1"),)) == 0 and site.looks == 0


def test_when_another_process_has_its_place_it_cannot_tell_any_more_and_is_looked_after(
    site: Site,
) -> None:
    assert site.tick(GONE, living=(("receiver-1", "p1"),)) == 0
    site.keep(1)
    now = replace(GONE, age_s=50.0)
    assert site.tick(now, living=(("receiver-1", "p9"),)) == 0
    assert site.tick(now, living=(("receiver-1", "p9"), ("receiver-2", "p3"))) == 1
    assert site.tick(now, living=(("receiver-2", "p3"),)) == 0 and site.looks == 2


def test_what_has_just_come_is_left_to_who_received_it(site: Site) -> None:
    site.keep(1, age_s=1.0)
    site.keep(2)
    assert site.tick(GONE) == 1
    found = site.ledger.receipts.instances("1.3")
    assert [one.sop_instance_uid for one in found] == ["1.2.3.2"]


def test_a_look_that_failed_is_made_again(site: Site) -> None:
    site.keep(1)
    site.is_away = True
    assert site.tick(GONE) == 0
    site.is_away = False
    assert site.tick(GONE) == 0 and site.looks == 1
    site.now_s += 61
    assert site.tick(GONE) == 1


def test_who_leads_anew_looks_again(site: Site) -> None:
    assert site.tick(GONE) == 0
    site.keep(1)
    assert site.tick(GONE) == 0
    site.left.begin_anew()
    assert site.tick(GONE) == 1


def test_what_one_left_that_nobody_remembers_any_more_is_found_within_a_day(site: Site) -> None:
    # Cut off for more than a day it went on answering, and then its disk burnt.
    assert site.tick(replace(GONE, age_s=86_000.0)) == 0
    site.keep(1)
    site.now_s += 86_000.0
    assert site.tick() == 0
    site.now_s += 401.0
    assert site.tick() == 1
    site.keep(2)
    # Who leads from now on does not know when that was.
    site.left.begin_anew()
    assert site.tick() == 0
    site.now_s += 3601.0
    assert site.tick() == 1
    assert site.looks == 3


def test_what_hosts_left_half_received_is_removed_after_a_day_and_nothing_that_was_acknowledged(
    site: Site,
) -> None:
    gone = Spool(site.spool.root, host="receiver-2")
    site.spool = Spool(site.spool.root, host="receiver-1")
    site.left._spool = site.spool
    acknowledged = keep(gone, 1)
    # Its power was lost between the name of the kept file and the end of the half-received one.
    half = gone.begin("a")
    linked = gone.begin("a")
    Path(linked.path).unlink()
    os.link(gone.resolve(acknowledged), linked.path)
    young, own = gone.begin("a"), site.spool.begin("a")
    for part in (half, linked):
        os.utime(part.path, (time.time() - 90_000,) * 2)
    content = gone.resolve(acknowledged).read_bytes()
    assert site.tick(GONE) == 1
    left = [Path(part.path).exists() for part in (half, linked, young, own)]
    assert left == [False, False, True, True]
    assert site.spool.resolve(acknowledged).read_bytes() == content
    for part in (half, linked, young, own):
        part.discard()
