"""The catalogue finds every card, goes on with the good ones, and tells what is wrong."""

from __future__ import annotations

import os
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ai_models.card import Card, load_card
from ai_models.catalog import ZOO, Catalog
from ai_models.catalog_folder import Change, What
from ai_models.types import ModelError
from ai_models.weights import read_verified_weights, verify_weights
from tests.ai_models.tiny_models import write_model


def looking(catalog: Catalog, *, at_least: int = 1) -> list[Change]:
    """Look until so many changes were told; a folder is taken up when it was quiet for a while."""
    changes: list[Change] = []
    deadline = time.monotonic() + 10
    while len(changes) < at_least:
        assert time.monotonic() < deadline, changes
        changes += catalog.refresh()
        time.sleep(0.01)
    return changes


def nothing_changes(catalog: Catalog) -> bool:
    changes = []
    for _ in range(8):
        changes += catalog.refresh()
        time.sleep(0.01)
    return not changes


def told(changes: list[Change]) -> list[tuple[str, str]]:
    return [(str(one.what), one.folder.name) for one in changes]


def quick(*directories: Path, **given: object) -> Catalog:
    return Catalog(directories, quiet_s=0.05, **given)  # type: ignore[arg-type]


def break_card(folder: Path) -> None:
    (folder / "model.yaml").write_text((folder / "model.yaml").read_text() + "surprise: 1\n")


def test_built_in_models_are_always_there() -> None:
    assert "lungs-ct" in [card.id for card in Catalog().cards()]


def test_built_in_lungs_say_that_they_are_a_demonstration() -> None:
    card = Catalog().get("lungs-ct")
    assert card.demonstration
    assert card.intended_use.startswith("DEMONSTRATION, NOT FOR CLINICAL USE.")
    assert [label.laterality.value for label in card.labels if label.laterality] == [
        "24028007", "7771000"]


def test_built_in_weights_are_the_ones_their_cards_vouch_for() -> None:
    for path in sorted(ZOO.glob("*/model.yaml")):
        assert read_verified_weights(load_card(path.parent))


def test_models_of_a_directory_are_found(tmp_path: Path) -> None:
    write_model(tmp_path / "one", b"weights", id="one")
    write_model(tmp_path / "two", b"weights", id="two")
    shipped = {path.parent.name for path in ZOO.glob("*/model.yaml")}
    found = [card.id for card in Catalog([tmp_path]).cards()]
    assert found == sorted([*shipped, "one", "two"])


def test_a_model_folder_itself_may_be_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one")
    assert Catalog([folder]).get("one").folder == folder


def test_the_same_folder_twice_is_one_model(tmp_path: Path) -> None:
    write_model(tmp_path / "one", b"weights", id="one")
    catalog = Catalog([tmp_path, tmp_path, ZOO])
    assert len(catalog.cards()) == len(Catalog([tmp_path]).cards())
    assert catalog.problems() == []


def test_unknown_model_names_those_there_are() -> None:
    with pytest.raises(ModelError, match=r"there are: .*lungs-ct") as caught:
        Catalog().get("livers-mr")
    assert caught.value.reason == "model.unknown"


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist") as caught:
        Catalog([tmp_path / "nowhere"])
    assert caught.value.reason == "model.directory_missing"


def test_a_bad_card_is_a_problem_of_its_folder_and_of_no_other(tmp_path: Path) -> None:
    write_model(tmp_path / "good", b"weights", id="good")
    bad = write_model(tmp_path / "folder", b"weights", id="bad")
    break_card(bad)
    written = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
    os.utime(bad / "model.yaml", (written.timestamp(), written.timestamp()))
    catalog = Catalog([tmp_path])
    (problem,) = catalog.problems()
    assert (problem.folder, problem.model_id, problem.since) == (bad, "bad", written)
    assert "surprise: unknown key" in problem.message
    assert catalog.get("good")
    with pytest.raises(ModelError, match=r"'bad' cannot be used: .*surprise: unknown key"):
        catalog.get("bad")


@pytest.mark.parametrize(
    ("text", "model_id"),
    [("id: 'thing' # mine\nrest: [", "thing"), ("- no card", "folder"), ("id:\n", "folder")],
)
def test_a_card_that_is_no_yaml_is_a_problem_of_what_it_seems_to_be(
    tmp_path: Path, text: str, model_id: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.yaml").write_text(text)
    (problem,) = Catalog([tmp_path]).problems()
    assert problem.model_id == model_id


def test_a_link_that_leads_to_another_folder_now_is_one_folder_that_changed(
    tmp_path: Path
) -> None:
    for version in ("1", "2"):
        write_model(tmp_path / "kept" / version, b"weights", id="one", version=version)
    models, link = tmp_path / "models", tmp_path / "models" / "one"
    models.mkdir()
    link.symlink_to(tmp_path / "kept" / "1")
    catalog = quick(models)
    for version in ("2", "1"):
        (models / ".new").symlink_to(tmp_path / "kept" / version)
        (models / ".new").rename(link)
        assert told(looking(catalog)) == [("changed", "one")]
        assert nothing_changes(catalog) and not catalog.problems()
        assert [card.version for card in catalog.versions("one")] == [version]


def test_a_pipe_in_the_place_of_a_card_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one")
    catalog = quick(tmp_path)
    (folder / "model.yaml").unlink()
    os.mkfifo(folder / "model.yaml")
    looker = threading.Thread(target=looking, args=(catalog,), daemon=True)
    looker.start()
    looker.join(timeout=10)
    assert "not a plain file" in catalog.problems()[0].message
    assert catalog.get("one")


def test_a_model_without_its_weights_is_not_taken(tmp_path: Path) -> None:
    (write_model(tmp_path / "one", b"weights", id="one") / "weights.onnx").unlink()
    catalog = Catalog([tmp_path])
    assert "weights.onnx are missing" in catalog.problems()[0].message
    assert catalog.versions("one") == ()


def test_one_version_in_two_folders_is_a_problem_that_names_both(tmp_path: Path) -> None:
    write_model(tmp_path / "a", b"weights", id="one")
    write_model(tmp_path / "b", b"weights", id="one")
    catalog = Catalog([tmp_path])
    (problem,) = catalog.problems()
    assert str(tmp_path / "a" / "model.yaml") in problem.message
    assert str(tmp_path / "b" / "model.yaml") in problem.message
    assert [card.folder.name for card in catalog.versions("one")] == ["a"]


def test_a_copy_does_not_take_the_place_of_what_was_there_before(tmp_path: Path) -> None:
    write_model(tmp_path / "b", b"weights", id="one")
    catalog = quick(tmp_path)
    write_model(tmp_path / "a", b"weights", id="one")
    assert ("problem", "a") in told(looking(catalog, at_least=2))
    assert catalog.get("one").folder.name == "b"
    shutil.rmtree(tmp_path / "b")
    assert ("solved", "a") in told(looking(catalog, at_least=2))
    assert catalog.get("one").folder.name == "a"


def test_several_versions_are_one_model_of_which_the_first_found_counts(tmp_path: Path) -> None:
    write_model(tmp_path / "new", b"weights", id="one", version="2")
    write_model(tmp_path / "first", b"weights", id="one", version="1")
    catalog = Catalog([tmp_path])
    assert [card.version for card in catalog.versions("one")] == ["1", "2"]
    assert catalog.get("one").version == "1"
    assert catalog.get("one", "2").version == "2"
    catalog.prefer({"one": "2"})
    assert catalog.get("one").version == "2"
    with pytest.raises(ModelError, match="no version 3 of one; there are: 1, 2"):
        catalog.get("one", "3")


@pytest.mark.parametrize("left", [("2",), ("2", "3")])
def test_no_version_that_is_left_takes_the_place_of_a_live_one(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    for version in left:
        write_model(tmp_path / version, b"weights", id="one", version=version)
    catalog = Catalog([tmp_path])
    catalog.prefer({"one": "1"})
    told = f"live version 1 of one is gone.*{', '.join(left)}"
    with pytest.raises(ModelError, match=told) as caught:
        catalog.get("one")
    assert caught.value.reason == "model.no_live_version"


def test_nothing_is_told_while_nothing_changes(tmp_path: Path) -> None:
    write_model(tmp_path / "one", b"weights", id="one")
    break_card(write_model(tmp_path / "bad", b"weights", id="bad"))
    assert nothing_changes(quick(tmp_path))


def test_a_folder_that_is_dropped_in_is_taken_up(tmp_path: Path) -> None:
    catalog = quick(tmp_path)
    write_model(tmp_path / "one", b"weights", id="one")
    assert told(looking(catalog)) == [("added", "one")]
    assert catalog.get("one").folder == tmp_path / "one"


def test_a_folder_that_is_still_being_written_waits(tmp_path: Path) -> None:
    catalog = quick(tmp_path)
    folder = write_model(tmp_path / "one", b"weights", id="one")
    with (folder / "weights.onnx").open("ab") as file:
        for _ in range(30):
            file.write(b"more")
            file.flush()
            assert catalog.refresh() == []
            time.sleep(0.01)
    assert told(looking(catalog)) == [("added", "one")]


def test_a_folder_whose_weights_come_late_is_a_problem_until_they_are_there(
    tmp_path: Path,
) -> None:
    catalog = quick(tmp_path)
    folder = write_model(tmp_path / "one", b"weights", id="one")
    (folder / "weights.onnx").rename(tmp_path / "later")
    assert told(looking(catalog)) == [("problem", "one")]
    assert nothing_changes(catalog)
    (tmp_path / "later").rename(folder / "weights.onnx")
    assert sorted(told(looking(catalog, at_least=2))) == [("added", "one"), ("solved", "one")]


def test_a_folder_below_a_name_with_a_dot_is_left_alone_until_it_is_renamed(
    tmp_path: Path,
) -> None:
    write_model(tmp_path / ".one", b"weights", id="one")
    catalog = quick(tmp_path)
    assert nothing_changes(catalog) and not catalog.versions("one")
    (tmp_path / ".one").rename(tmp_path / "one")
    assert told(looking(catalog)) == [("added", "one")]


def test_a_changed_card_is_taken_up_and_the_former_one_is_told(tmp_path: Path) -> None:
    write_model(tmp_path / "one", b"weights", id="one", version="1")
    catalog = quick(tmp_path)
    write_model(tmp_path / "one", b"others", id="one", version="2")
    (change,) = looking(catalog)
    assert change.what is What.CHANGED and change.former is not None and change.card is not None
    assert (change.former.version, change.card.version) == ("1", "2")
    assert [card.version for card in catalog.versions("one")] == ["2"]


def test_a_card_that_was_only_touched_is_no_change(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one")
    catalog = quick(tmp_path)
    (folder / "model.yaml").touch()
    time.sleep(0.1)
    assert nothing_changes(catalog)


def test_a_card_that_becomes_bad_leaves_the_last_good_one(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one", version="1")
    catalog = quick(tmp_path)
    break_card(folder)
    assert told(looking(catalog)) == [("problem", "one")]
    assert catalog.get("one").version == "1"
    write_model(folder, b"weights", id="one", version="1")
    assert told(looking(catalog)) == [("solved", "one")]
    assert catalog.problems() == []


def test_a_folder_that_goes_away_is_told_and_forgotten(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one")
    catalog = quick(tmp_path)
    shutil.rmtree(folder)
    assert told(looking(catalog)) == [("removed", "one")]
    assert catalog.versions("one") == ()


def test_a_folder_that_is_replaced_by_renaming_is_a_change_and_no_removal(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one", version="1")
    write_model(tmp_path / ".new", b"others", id="one", version="2")
    catalog = quick(tmp_path)
    folder.rename(tmp_path / ".old")
    assert catalog.refresh() == []
    (tmp_path / ".new").rename(folder)
    assert told(looking(catalog)) == [("changed", "one")]


def test_a_directory_that_is_away_for_a_while_keeps_its_models(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_model(models / "one", b"weights", id="one")
    catalog = quick(models)
    models.rename(tmp_path / "unmounted")
    assert told(looking(catalog)) == [("problem", "models")]
    assert nothing_changes(catalog)
    assert catalog.get("one")
    (tmp_path / "unmounted").rename(models)
    assert told(looking(catalog)) == [("solved", "models")]
    assert catalog.get("one")


def test_what_is_not_admitted_is_not_taken_and_the_last_good_card_stays(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", b"weights", id="one", version="1")
    catalog = quick(tmp_path, admit=verify_weights)
    write_model(folder, b"others", id="one", version="2", weights__sha256="0" * 64)
    (change,) = looking(catalog)
    assert change.problem is not None and "SHA-256" in change.problem.message
    assert catalog.get("one").version == "1"
    write_model(folder, b"others", id="one", version="2")
    looking(catalog, at_least=2)
    assert catalog.get("one").version == "2"


def test_weights_that_are_put_right_without_touching_the_card_are_seen(tmp_path: Path) -> None:
    catalog = quick(tmp_path, admit=verify_weights)
    folder = write_model(tmp_path / "one", b"weights", id="one")
    (folder / "weights.onnx").write_bytes(b"half")
    assert told(looking(catalog)) == [("problem", "one")]
    (folder / "weights.onnx").write_bytes(b"weights")
    looking(catalog, at_least=2)
    assert catalog.get("one")


def test_a_check_that_takes_long_holds_up_nobody(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(_card: Card) -> None:
        assert go_on.wait(10)

    catalog = quick(tmp_path, admit=slow)
    write_model(tmp_path / "one", b"weights", id="one")
    for _ in range(20):
        assert catalog.refresh() == []
        time.sleep(0.01)
    go_on.set()
    assert told(looking(catalog)) == [("added", "one")]


def test_a_check_that_breaks_is_a_problem_of_its_folder(tmp_path: Path) -> None:
    def broken(_card: Card) -> None:
        raise ZeroDivisionError

    catalog = quick(tmp_path, admit=broken)
    write_model(tmp_path / "one", b"weights", id="one")
    (change,) = looking(catalog)
    assert change.problem is not None and "ZeroDivisionError" in change.problem.message


def test_a_job_gets_the_version_it_was_asked_for_with_unless_that_is_gone_or_withdrawn(
    tmp_path: Path,
) -> None:
    for version in ("1", "2"):
        write_model(tmp_path / version, b"weights", id="one", version=version)
    catalog = Catalog([tmp_path])
    catalog.prefer({"one": "1"}, [("one", "9")])
    assert [catalog.card_for("one", asked).version for asked in ("1", "2", "3")] == ["1", "2", "1"]
    catalog.prefer({"one": "1"}, [("one", "2")])
    assert catalog.card_for("one", "2").version == "1"
    with pytest.raises(ModelError, match="no model 'none'"):
        catalog.card_for("none", "1")


def test_what_its_folder_has_now_takes_the_place_of_a_live_version(tmp_path: Path) -> None:
    write_model(tmp_path / "a", b"weights", id="one", version="1")
    write_model(tmp_path / "b", b"weights", id="one", version="9")
    catalog = quick(tmp_path)
    catalog.prefer({"one": "1"})
    for version in ("2", "3"):
        write_model(tmp_path / "a", version.encode(), id="one", version=version)
        looking(catalog)
        assert catalog.get("one").version == version
        assert catalog.card_for("one", "1").version == version
