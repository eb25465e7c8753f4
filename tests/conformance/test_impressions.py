"""A report with a drafted impression is valid in every form that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicom_node.results.report_forms import as_class, as_text
from tests.conformance import validators
from tests.results.test_report_impression import ENHANCED_SR, chest

pytestmark = pytest.mark.long


def test_validators_find_nothing_to_say_on_a_drafted_impression(tmp_path: Path) -> None:
    plain, drafted, _, _ = chest()
    paths = []
    for name, document in (
        ("plain", plain), ("drafted", drafted), ("enhanced", as_class(drafted, ENHANCED_SR)),
        ("text", as_text(drafted)),
    ):
        paths.append(tmp_path / f"{name}.dcm")
        document.save_as(paths[-1], enforce_file_format=True)
    try:
        complaints = [
            one for path in paths
            for one in (*validators.dciodvfy(path), *validators.dsrdump(path))
        ]
        complaints += validators.dicom_validator(paths, tmp_path / "tables")
        complaints += validators.pixelmed("sr", paths[:2])
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))
    # TID 1500 may be extended, and pixelmed warns of every extension.
    extension = re.compile(r"pixelmed-sr: .*Warning.*\(121072,DCM.*Content Item not in template")
    rest = [one for one in validators.unexplained(complaints) if not extension.search(str(one))]
    assert rest == []
