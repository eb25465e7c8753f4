"""Licences by their text: known ones by their SPDX name, everything else by none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.scaffold.licences import licence_beside, spdx_of
from tests.source_tree import ROOT

MIT = (
    "MIT License\nPermission is hereby granted, free of charge, to any person obtaining a copy of "
    "this software, to deal in the Software without restriction"
)


def test_the_licence_of_this_project_is_known() -> None:
    assert licence_beside(ROOT) == ("Apache-2.0", "LICENSE")


@pytest.mark.parametrize(("text", "expected"), [
    (MIT, "MIT"),
    ("SPDX-License-Identifier: BSD-3-Clause", "BSD-3-Clause"),
    ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International", "CC-BY-NC-SA-4.0"),
    ("GNU GENERAL PUBLIC LICENSE Version 3: only occasionally and noncommercially", "GPL-3.0-only"),
    ("My own licence: do what you want", ""),
    ("", ""),
])
def test_a_text_is_told_by_its_words(text: str, expected: str) -> None:
    assert spdx_of(text) == expected


def test_a_known_text_that_somebody_restricted_is_none() -> None:
    assert spdx_of(f"{MIT}\nFor non-commercial use.") == ""


def test_a_folder_without_a_licence_has_none(tmp_path: Path) -> None:
    assert licence_beside(tmp_path) == ("", "")
