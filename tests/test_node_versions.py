"""Which version of a model is live: what the folders decide by themselves, and what nobody may."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ai_models.catalog import Catalog
from ai_models.types import ModelError
from ai_models.weights import verify_weights
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_versions import ModelVersions, falls_to
from dicom_node.records import Stage
from tests.ai_models.tiny_models import write_model


class Heard(Events):
    """Keeps what is told of models."""

    def __init__(self) -> None:
        super().__init__()
        self.models: list[tuple[str, str, str]] = []
        self.problems: list[tuple[str, bool]] = []

    def model_changed(self, model_id: str, version: str, what: str, reason: str) -> None:
        if model_id == "tiny":
            self.models.append((version, what, reason))

    def model_problem(self, folder: str, message: str, *, solved: bool) -> None:
        self.problems.append((Path(folder).name, solved))


class Site:
    """A ledger, a folder of models, and the versions of both."""

    def __init__(self, folder: Path, *names: str, decides: bool = True) -> None:
        self.folder = folder / "models"
        self.folder.mkdir(exist_ok=True)
        self.ledger = Ledger.open(folder / "ledger.db")
        for name in names:
            self.write(name, name)
        self.heard = Heard()
        self.start(decides=decides)

    def start(self, *, decides: bool = True) -> None:
        self.catalog = Catalog([self.folder], admit=verify_weights, quiet_s=0.02)
        self.versions = ModelVersions(
            self.catalog, self.ledger, self.heard, lambda _card: None, decides=lambda: decides
        )
        self.versions.begin()

    def write(self, folder: str, version: str) -> Path:
        return write_model(
            self.folder / folder, version.encode(), id="tiny", version=version
        )

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, self.heard.models
            self.versions.refresh()
            time.sleep(0.01)

    def live(self) -> str:
        return self.versions.live("tiny").version

    def stages(self) -> dict[str, str]:
        return {one.version: str(one.stage) for one in self.ledger.stages.of("tiny")}


@pytest.fixture
def opened() -> Iterator[list[Site]]:
    sites: list[Site] = []
    yield sites
    for one in sites:
        one.ledger.close()


@pytest.fixture
def site(tmp_path: Path, opened: list[Site]) -> Site:
    opened.append(Site(tmp_path, "1"))
    return opened[0]


def test_the_first_version_is_live_without_being_asked(site: Site) -> None:
    assert (site.live(), site.stages()) == ("1", {"1": "live"})
    assert site.heard.models == [("1", "live", "the first one")]


def test_a_model_that_is_dropped_in_is_live(site: Site) -> None:
    shutil.rmtree(site.folder / "1")
    other = write_model(site.folder / "other", b"weights", id="other")
    site.until(lambda: bool(site.catalog.versions("other")))
    assert site.versions.live("other").folder == other


def test_a_further_version_in_another_folder_is_not_run_until_told(site: Site) -> None:
    site.write("2", "2")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    assert (site.live(), site.stages()) == ("1", {"1": "live"})
    assert ("2", "added", str(site.folder / "2")) in site.heard.models


def test_a_promoted_version_is_what_a_running_node_gives_its_next_job(
    site: Site, tmp_path: Path
) -> None:
    site.write("2", "2")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    beside = Ledger.open(tmp_path / "ledger.db")
    beside.stages.promote("tiny", "2", "by operator")
    assert site.versions.choose("tiny", "1.2").card.version == "2"
    beside.stages.rollback("tiny", "by operator")
    assert site.versions.choose("tiny", "1.2").card.version == "1"
    site.versions.refresh()
    assert site.catalog.card_for("tiny", "2").version == "1"
    beside.close()


def test_a_folder_that_is_updated_in_place_replaces_the_live_version(site: Site) -> None:
    site.write("other", "9")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    site.write("1", "2")
    site.until(lambda: site.live() == "2")
    assert site.stages() == {"1": "retired", "2": "live"}
    assert site.heard.models[-1][:2] == ("2", "live")


def test_weights_that_come_long_before_their_card_are_an_update_in_place_as_well(
    site: Site,
) -> None:
    site.write("other", "9")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    (site.folder / "1" / "weights.onnx").write_bytes(b"2")
    site.until(lambda: ("1", "damaged") in [one[:2] for one in site.heard.models])
    site.write("1", "2")
    site.until(lambda: site.stages() == {"1": "retired", "2": "live"})


def test_a_candidate_that_is_updated_in_place_stays_a_candidate(site: Site) -> None:
    site.write("other", "2")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    site.write("other", "3")
    site.until(lambda: bool(site.catalog.card_for("tiny", "3").version == "3"))
    assert (site.live(), site.stages()) == ("1", {"1": "live"})


def test_an_update_whose_weights_are_others_changes_nothing_until_they_are_right(
    site: Site,
) -> None:
    write_model(site.folder / "1", b"half", id="tiny", version="2", weights__sha256="0" * 64)
    site.until(lambda: site.heard.problems == [("1", False)])
    assert site.live() == "1"
    assert [one.folder for one in site.ledger.stages.problems()] == [str(site.folder / "1")]
    site.write("1", "2")
    site.until(lambda: site.live() == "2")
    assert site.heard.problems == [("1", False), ("1", True)]
    assert site.ledger.stages.problems() == []


def test_a_candidate_never_becomes_live_by_itself_while_the_live_folder_is_away(
    site: Site,
) -> None:
    site.write("2", "2")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    assert site.live() == "1"
    (site.folder / "1").rename(site.folder / ".away")
    site.until(lambda: ("1", "gone") in [one[:2] for one in site.heard.models])
    with pytest.raises(ModelError, match="promote tiny VERSION") as caught:
        site.live()
    assert caught.value.reason == "model.no_live_version"
    assert site.versions.choose("tiny", "1.2").card.version == "1"
    (site.folder / ".away").rename(site.folder / "1")
    site.until(lambda: site.heard.models[-1][:2] == ("1", "live"))
    assert (site.live(), site.stages()) == ("1", {"1": "live"})


def test_a_live_version_that_is_damaged_is_told_as_damaged_and_not_as_gone(site: Site) -> None:
    site.write("2", "2")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    with (site.folder / "1" / "weights.onnx").open("ab") as file:
        file.write(b"x")
    site.until(lambda: ("1", "damaged") in [one[:2] for one in site.heard.models])
    assert "SHA-256" in site.heard.models[-1][2] and site.stages() == {"1": "live"}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("stage", [Stage.RETIRED, Stage.SHADOW])
def test_a_version_that_was_taken_back_or_only_watched_never_becomes_live_by_itself(
    tmp_path: Path, opened: list[Site], stage: Stage, restarted: bool
) -> None:
    site = Site(tmp_path, "1", "2")
    opened.append(site)
    if stage is Stage.RETIRED:
        site.ledger.stages.promote("tiny", "2", "looks good")
        site.ledger.stages.rollback("tiny", "it missed a bleeding")
    else:
        site.ledger.stages.put("tiny", "2", stage, 0.0, "to be compared")
    shutil.rmtree(site.folder / "1")
    if restarted:
        site.start()
    site.until(lambda: [one.version for one in site.catalog.versions("tiny")] == ["2"])
    for _ in range(3):
        site.versions.refresh()
    assert site.stages() == {"1": "live", "2": str(stage)}
    with pytest.raises(ModelError, match="promote tiny VERSION") as caught:
        site.live()
    assert caught.value.reason == "model.no_live_version"


def test_of_several_that_are_left_nobody_but_a_person_chooses(site: Site) -> None:
    for name in ("2", "3"):
        site.write(name, name)
    site.until(lambda: len(site.catalog.versions("tiny")) == 3)
    shutil.rmtree(site.folder / "1")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    for _ in range(3):
        site.versions.refresh()
    with pytest.raises(ModelError, match="promote tiny VERSION"):
        site.live()
    assert [one for one in site.heard.models if one[1] == "gone"] == [
        ("1", "gone", "its folder is away: bring it back, or promote another version")
    ]
    site.ledger.stages.promote("tiny", "3", "by operator")
    assert site.live() == "3"


def test_a_model_that_is_gone_is_still_chosen_so_that_its_job_can_say_so(site: Site) -> None:
    shutil.rmtree(site.folder / "1")
    site.live()
    site.until(lambda: not site.catalog.versions("tiny"))
    assert site.versions.choose("tiny", "1.2").card.version == "1"
    with pytest.raises(ModelError):
        site.versions.choose("never there", "1.2")


def test_a_restart_knows_which_version_was_live(site: Site) -> None:
    site.write("0", "0")
    site.start()
    assert (site.live(), site.catalog.get("tiny").version) == ("1", "1")


def test_a_problem_that_is_there_at_start_is_told_and_kept(site: Site) -> None:
    (site.folder / "bad").mkdir()
    (site.folder / "bad" / "model.yaml").write_text("id: bad\n")
    site.start()
    assert site.heard.problems == [("bad", False)]
    assert [one.model_id for one in site.ledger.stages.problems()] == ["bad"]


@pytest.mark.parametrize("card", ["id: bad\n", "- no card\n"])
def test_a_folder_whose_name_is_no_text_is_a_problem_and_stops_nobody(
    site: Site, card: str
) -> None:
    # As an older system wrote it: umlauts in one byte each.
    folder = Path(os.fsdecode(os.fsencode(site.folder) + b"/gr\xf6\xdfe"))
    folder.mkdir()
    (folder / "model.yaml").write_text(card)
    site.start()
    site.versions.refresh()
    (problem,) = site.ledger.stages.problems()
    assert "gr" in problem.folder and site.live() == "1"
    (folder / "model.yaml").unlink()
    site.until(lambda: not site.ledger.stages.problems())


def test_a_process_that_does_not_route_decides_nothing(
    tmp_path: Path, opened: list[Site]
) -> None:
    opened.append(Site(tmp_path, "1", decides=False))
    assert (opened[0].live(), opened[0].stages()) == ("1", {})
    opened[0].ledger.stages.begin("tiny", "9")
    for _ in range(5):
        opened[0].versions.refresh()
        time.sleep(0.01)
    assert opened[0].stages() == {"9": "live"}


def test_what_changed_while_the_ledger_was_away_is_taken_up_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom_node.errors import LedgerUnavailable

    site.write("other", "9")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    site.write("1", "2")

    def locked() -> None:
        raise LedgerUnavailable("locked")

    with monkeypatch.context() as away:
        away.setattr(site.ledger.stages, "all", locked)
        deadline = time.monotonic() + 10
        while {card.version for card in site.catalog.versions("tiny")} != {"2", "9"}:
            assert time.monotonic() < deadline
            with pytest.raises(LedgerUnavailable):
                site.versions.refresh()
            time.sleep(0.01)
    assert site.live() == "2" and site.stages() == {"1": "live"}
    site.until(lambda: site.stages() == {"1": "retired", "2": "live"})


def test_a_tenth_of_a_thousand_series_falls_to_a_canary_and_always_the_same_ones() -> None:
    uids = [f"1.2.826.0.1.3680043.8.498.{number}" for number in range(1000)]
    tenth = {uid for uid in uids if falls_to("tiny", "2", uid) < 0.1}
    assert 70 <= len(tenth) <= 130
    assert tenth == {uid for uid in uids if falls_to("tiny", "2", uid) < 0.1}
    assert tenth < {uid for uid in uids if falls_to("tiny", "2", uid) < 0.2}
    assert tenth != {uid for uid in uids if falls_to("tiny", "3", uid) < 0.1}
    assert not any(falls_to("tiny", "2", uid) < 0.0 for uid in uids)
    assert all(falls_to("tiny", "2", uid) < 1.0 for uid in uids)


def test_the_shadow_of_a_model_runs_beside_whatever_is_chosen(site: Site) -> None:
    site.write("2", "2")
    site.until(lambda: len(site.catalog.versions("tiny")) == 2)
    site.ledger.stages.put("tiny", "2", Stage.SHADOW, 0.0, "by operator")
    choice = site.versions.choose("tiny", "1.2")
    assert choice.shadow is not None
    assert (choice.card.version, choice.shadow.version) == ("1", "2")


def test_events_of_models_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dicom_node")
    Events().model_changed("tiny", "2", "live", "the first one")
    Events().model_changed("tiny", "1", "gone", "several are left")
    Events().model_problem("/models/a", "model.yaml:3: id: wrong", solved=False)
    Events().model_problem("/models/a", "model.yaml:3: id: wrong", solved=True)
    assert [record.levelname for record in caplog.records] == [
        "INFO", "WARNING", "WARNING", "INFO"
    ]
