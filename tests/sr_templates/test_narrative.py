from __future__ import annotations

import pytest

from ai_models.types import Label
from sr_templates import narrative
from sr_templates.template import load_template
from tests.results import samples


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(2400.25, 1, "2400.2"), (-0.04, 1, "0.0"), (-0.06, 1, "-0.1"), (3, 0, "3")],
)
def test_a_number_is_written_as_a_report_shows_it(value: float, decimals: int, text: str) -> None:
    assert narrative.written(value, decimals) == text


def test_a_name_with_braces_is_text_and_not_a_placeholder() -> None:
    label = Label(1, "{labels}", samples.STRUCTURE, samples.LUNG, (1, 2, 3))
    template = load_template("lungs")
    assert "{labels}: not found" in narrative.closing(template, [label], ())[0]


def test_a_note_ends_with_one_stop() -> None:
    assert narrative.closing(load_template("lungs"), (), ["tilted.", "thick"]) == [
        "Input: tilted.",
        "Input: thick.",
    ]
