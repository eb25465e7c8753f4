"""Codes and colours of labels, by what they are called."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.sr._concepts_dict import concepts

from ai_models.scaffold.structures import (
    body_part,
    colour,
    display_name,
    known_codes,
    label_entries,
    without_background,
)


def entry(name: str) -> dict[str, Any]:
    ((found, _),) = label_entries([name])
    return found


def test_every_code_is_one_of_the_standard_with_its_meaning() -> None:
    of_standard: dict[str, set[str]] = {}
    for versions in concepts["SCT"].values():
        for value, (meaning, _) in versions.items():
            of_standard.setdefault(value, set()).add(meaning)
    wrong = [one for one in known_codes() if one.meaning not in of_standard.get(one.value, ())]
    assert wrong == []


@pytest.mark.parametrize("name", ["kidney_left", "Left kidneys", "LeftKidney", "kidney-L"])
def test_a_structure_is_found_whatever_its_spelling(name: str) -> None:
    assert entry(name)["type"]["value"] == "64033007"
    assert entry(name)["laterality"]["meaning"] == "Left"


def test_a_chamber_of_the_heart_has_its_side_in_its_code() -> None:
    assert entry("heart_atrium_left")["type"]["meaning"] == "Left atrium"
    assert "laterality" not in entry("heart_atrium_left")


@pytest.mark.parametrize("name", ["liver tumour", "hepatic_tumor", "Cancer of the liver"])
def test_a_finding_has_its_place(name: str) -> None:
    found = entry(name)
    assert found["category"]["value"] == "49755003"
    assert found["type"]["value"] == "108369006"
    assert found["anatomic_region"]["value"] == "10200004"


def test_vertebrae_and_lobes_have_codes_of_their_own() -> None:
    assert entry("vertebrae_L5")["type"]["meaning"] == "L5 vertebra"
    assert entry("lung_upper_lobe_left")["type"]["meaning"] == "Upper lobe of lung"
    assert entry("lung_upper_lobe_left")["laterality"]["meaning"] == "Left"


def test_a_part_of_the_body_is_told_by_what_lies_there() -> None:
    assert body_part(["something", "kidney_left"]) == "ABDOMEN"
    assert body_part(["Lung nodule"]) == "CHEST"
    assert body_part(["metal"]) == ""


def test_what_is_not_known_gets_a_local_code_and_is_marked() -> None:
    ((found, why),) = label_entries(["enhancing tumor"])
    assert found["type"] == {
        "value": "ENHANCING_TUMOR", "scheme": "99LOCAL", "meaning": "Enhancing tumor"}
    assert found["category"]["value"] == "49755003"
    assert "99LOCAL" in why


def test_no_two_labels_share_name_code_or_colour() -> None:
    names = ["structure number 17 a", "structure number 17 b", "liver", "Liver", *["x"] * 200]
    found = [one for one, _ in label_entries(names)]
    assert len({one["name"] for one in found}) == len(names)
    local = [one["type"]["value"] for one in found if one["type"]["scheme"] == "99LOCAL"]
    assert len(set(local)) == len(local)
    assert max(map(len, local)) <= 16
    assert len({colour(position) for position in range(255)}) == 255


def test_a_name_without_letters_is_shown_as_none() -> None:
    assert display_name("__") == "Unnamed"


def test_a_background_is_no_label() -> None:
    assert without_background(["Background", "liver"]) == ["liver"]
    assert without_background(["liver", "spleen"]) == ["liver", "spleen"]
