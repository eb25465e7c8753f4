from __future__ import annotations

import os
import re

import pytest

from tests.acceptance.model_zoo import (
    CONFIGURATIONS,
    DOCUMENT,
    bundles,
    document,
    try_bundle,
)
from tests.shared_data import needs_shared

pytestmark = [pytest.mark.slow, needs_shared("data", "models", "monai_bundle_configs", "models")]
NAMES = bundles() if CONFIGURATIONS.is_dir() else []


# Each takes a quarter of a minute to a whole one: `make test-long`.
LARGEST = frozenset({
    "swin_unetr_btcv_segmentation", "pathology_nuclei_segmentation_classification",
    "ventricular_short_axis_3label", "pediatric_abdominal_ct_segmentation",
    "wholeBody_ct_segmentation", "breast_density_classification",
})


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=[pytest.mark.long] if one in LARGEST else []) for one in NAMES],
)
def test_bundle_of_the_zoo_does_what_the_page_says(name: str) -> None:
    assert try_bundle(name).row in DOCUMENT.read_text().splitlines()


def test_the_counts_of_the_page_are_those_of_its_rows() -> None:
    text = DOCUMENT.read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| [a-z]\w+ \|", line)]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == NAMES
    predict = [row for row in rows if re.search(r"\| predicts .* \|$", row)]
    made = [row for row in rows if row.split(" | ")[2] != "no"]
    assert f"{len(rows)} bundles: {len(made)} networks can be made, {len(predict)}" in text
    assert f"{len(rows) - len(predict)} are refused" in text


@pytest.mark.timeout(1800)
@pytest.mark.skipif("MODEL_ZOO_WRITE" not in os.environ, reason="writes the page only when asked")
def test_the_page_is_written() -> None:
    DOCUMENT.write_text(document([try_bundle(name) for name in NAMES]))
