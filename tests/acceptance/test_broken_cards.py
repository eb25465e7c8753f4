"""A card that cannot work is refused with file, line, key and what was expected; the others load.

The cards of docs/cards are what a developer begins with: each loads, is taken by its report, and
is refused as soon as one of many mistakes is made in it.
"""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_models.card import TASKS, load_card
from ai_models.card_abilities import ABILITIES
from ai_models.types import CardError
from dicom_node.results.report import check_template
from tests.acceptance.broken_cards import BACK_ENDS, GONE, MISTAKES
from tests.acceptance.broken_cards import TASKS as MISTAKES_OF_TASKS
from tests.ai_models.tiny_models import card_text
from tests.source_tree import ROOT

FOLDER = ROOT / "docs" / "cards"
CARDS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def values_of(card: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{card}.yaml").read_text())
    return values


def parts_of(key_path: str) -> list[str | int]:
    return [
        int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", key_path)
    ]


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    values = copy.deepcopy(values)
    for key_path, value in changes.items():
        *parents, last = parts_of(key_path)
        place: Any = values
        for part in parents:
            place = place[part] if isinstance(part, int) else place.setdefault(part, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return values


def line_of(text: str, key_path: str) -> int:
    """The line of a key, or of the block in which it is missing."""
    node: Any = yaml.compose(text)
    line: int = node.start_mark.line
    for part in parts_of(key_path):
        if isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
            continue
        found = [pair for pair in getattr(node, "value", []) if pair[0].value == part]
        if not found:
            break
        line, node = found[0][0].start_mark.line, found[0][1]
    return line + 1


@pytest.mark.parametrize("card", CARDS)
def test_card_that_is_shown_loads_and_fits_its_report(tmp_path: Path, card: str) -> None:
    shutil.copy(FOLDER / f"{card}.yaml", tmp_path / "model.yaml")
    loaded = load_card(tmp_path)
    assert loaded.demonstration
    check_template(loaded.report, loaded.folder, loaded.task, loaded.output_names)


def test_there_is_a_card_for_every_back_end_and_every_task() -> None:
    shown = [values_of(card) for card in CARDS]
    assert {one["runtime"]["backend"] for one in shown} == set(ABILITIES)
    assert {one["task"] for one in shown} == set(TASKS)
    page = (FOLDER / "README.md").read_text()
    assert all(f"]({card}.yaml)" in page for card in CARDS)


def test_there_are_mistakes_enough_of_every_kind() -> None:
    assert len(MISTAKES) >= 60
    for backend in ABILITIES:
        count = [m for m in BACK_ENDS if values_of(m[0])["runtime"]["backend"] == backend]
        assert len(count) >= 3, backend
    for task in TASKS:
        count = [m for m in MISTAKES_OF_TASKS if values_of(m[0])["task"] == task]
        assert len(count) >= 3, task


@pytest.mark.parametrize(
    ("card", "changes", "key_path", "words"), MISTAKES,
    ids=[f"{one[0]}-{one[2]}-{number}" for number, one in enumerate(MISTAKES)],
)
def test_broken_card_is_refused_where_and_why(
    tmp_path: Path, card: str, changes: dict[str, Any], key_path: str, words: str
) -> None:
    text = card_text(changed(values_of(card), changes))
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(CardError) as caught:
        load_card(tmp_path)
    said = str(caught.value)
    line = line_of(text, key_path)
    assert said.startswith(f"{tmp_path / 'model.yaml'}:{line}: {key_path}: ")
    assert words in said
    assert caught.value.reason == "card.invalid"


@pytest.mark.parametrize("backend", ["nnunet", "monai_bundle", "huggingface"])
def test_file_in_the_place_of_a_folder_of_weights_is_refused(tmp_path: Path, backend: str) -> None:
    values = values_of(backend)
    (tmp_path / values["weights"]["path"]).write_bytes(b"")
    (tmp_path / "model.yaml").write_text(card_text(values))
    with pytest.raises(CardError, match=r"weights\.path: .*is a folder, this is a file"):
        load_card(tmp_path)


@pytest.mark.parametrize("backend", ["onnx", "torchscript", "state_dict", "torch_export"])
def test_folder_in_the_place_of_a_file_of_weights_is_refused(tmp_path: Path, backend: str) -> None:
    values = values_of(backend)
    (tmp_path / values["weights"]["path"]).mkdir()
    (tmp_path / "model.yaml").write_text(card_text(values))
    with pytest.raises(CardError, match=r"weights\.path: .*is a file, this is a folder"):
        load_card(tmp_path)


def test_link_to_weights_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "liver.onnx").write_bytes(b"")
    (folder / "liver.onnx").symlink_to(tmp_path / "liver.onnx")
    shutil.copy(FOLDER / "onnx.yaml", folder / "model.yaml")
    with pytest.raises(CardError, match="in the folder of the card"):
        load_card(folder)
