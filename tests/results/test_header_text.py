from __future__ import annotations

import pytest

from dicom_node.results.header_text import decoded, defined_terms


@pytest.mark.parametrize(
    ("declared", "terms", "changed"),
    [
        (["ISO_IR 100"], ["ISO_IR 100"], False),
        ([], [""], False),
        (["", "ISO 2022 IR 87"], ["", "ISO 2022 IR 87"], False),
        (["ISO_IR_100"], ["ISO_IR 100"], True),
        (["ISO-IR 192"], ["ISO_IR 192"], True),
        (["iso 2022 ir 87"], ["ISO 2022 IR 87"], True),
        (["UTF-8"], ["ISO_IR 192"], True),
        (["KLINGON"], [""], True),
    ],
)
def test_a_misspelt_character_set_is_read_as_the_one_that_was_meant(
    declared: list[str], terms: list[str], changed: bool
) -> None:
    assert defined_terms(declared) == (terms, changed)


@pytest.mark.parametrize(
    ("raw", "terms", "text"),
    [
        ("Müller^Zoë".encode("latin-1"), ["ISO_IR 100"], "Müller^Zoë"),
        ("Müller^Zoë".encode(), ["ISO_IR 192"], "Müller^Zoë"),
        ("Wang^XiaoDong=王^小东".encode("gb18030"), ["GB18030"], "Wang^XiaoDong=王^小东"),
        (
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎",
        ),
        (b"Plain^Name ", [""], "Plain^Name"),
    ],
)
def test_a_name_in_its_declared_character_set_is_read(
    raw: bytes, terms: list[str], text: str
) -> None:
    assert decoded(raw, "PN", terms) == (text, True)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_name_without_a_declared_character_set_is_not_lost(encoding: str) -> None:
    assert decoded("Müller^Zoë".encode(encoding), "PN", [""]) == ("Müller^Zoë", False)


def test_latin_1_bytes_declared_as_utf_8_are_not_lost() -> None:
    assert decoded("Müller".encode("latin-1"), "LO", ["ISO_IR 192"]) == ("Müller", False)
