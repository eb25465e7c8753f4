from __future__ import annotations

import math

import pytest

from sr_templates.numbers import NumberRefused, evaluated, measured
from sr_templates.report_template import ReportTemplate
from sr_templates.template import load_template

NODULES = load_template("lung_nodules")
EMBOLISM = load_template("pulmonary_embolism")
SIZE = {"long_axis_mm": 9.96, "short_axis_mm": 5.0, "volume_ml": 0.2, "mean_hu": -0.04}


def values(template: ReportTemplate, numbers: dict[str, float]) -> list[float]:
    assert template.volumetric is not None
    return [one.value for one in measured(template, template.volumetric, numbers)]


def test_numbers_come_in_the_order_of_the_template_and_rounded_as_they_are_written() -> None:
    assert values(NODULES, SIZE) == [10.0, 5.0, 0.2, 0.0]
    assert math.copysign(1, values(NODULES, SIZE)[3]) == 1


@pytest.mark.parametrize(("volume_ml", "told"), [
    (0.004, "0.00400"), (0.0345, "0.0345"), (0.9, "0.900"), (1.234, "1.23"), (0.0, "0.00"),
])
def test_a_small_volume_is_never_told_as_nothing(volume_ml: float, told: str) -> None:
    template = load_template("structures")
    assert template.volumetric is not None
    (one,) = measured(template, template.volumetric, {"volume_ml": volume_ml})
    assert one.written == told and one.value == float(told)


def test_an_optional_number_may_be_absent_and_another_may_not() -> None:
    assert values(NODULES, {**SIZE, "volume_doubling_time_d": 400.0})[4:] == [400.0]
    without_volume = {name: value for name, value in SIZE.items() if name != "volume_ml"}
    with pytest.raises(NumberRefused, match="volume_ml") as refused:
        values(NODULES, without_volume)
    assert refused.value.kind == "missing_number"


def test_the_bounds_themselves_are_in_range() -> None:
    (group,) = EMBOLISM.image
    for bound in (0.0, 100.0):
        numbers = {"pulmonary_embolism": 0.5, "obstruction_index_percent": bound}
        assert measured(EMBOLISM, group, numbers)[-1].value == bound
    with pytest.raises(NumberRefused) as refused:
        measured(EMBOLISM, group, {"pulmonary_embolism": 0.5, "obstruction_index_percent": 100.1})
    assert refused.value.kind == "out_of_range"


def test_a_threshold_judges_the_number_before_it_is_rounded() -> None:
    (group,) = EMBOLISM.image
    numbers = {"pulmonary_embolism": 0.69999}
    assert measured(EMBOLISM, group, numbers)[0].written == "0.700"
    assert evaluated(EMBOLISM, group, numbers)[0].term.value.meaning == "Undetermined"


@pytest.mark.parametrize(
    ("profusion", "meaning"), [(0.49, 0), (0.5, 1), (1.4, 1), (1.5, 2), (2.49, 2), (2.5, 3)]
)
def test_profusion_is_the_nearest_category(profusion: float, meaning: int) -> None:
    template = load_template("pneumoconiosis")
    numbers = {"pneumoconiosis": 0.9, "profusion": profusion}
    terms = evaluated(template, template.image[0], numbers)
    assert [one.term.value.value for one in terms] == ["52101004", f"PROFUSION_{meaning}"]


def test_the_first_of_equally_large_outputs_counts() -> None:
    template = load_template("brain_tumour")
    scores = dict.fromkeys(("none", "pituitary", "meningioma", "glioma"), 0.25)
    (term,) = evaluated(template, template.image[0], scores)
    assert term.term.value.value == "GLIOMA"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_neither_measured_nor_judged(bad: float) -> None:
    (group,) = EMBOLISM.image
    for read in (measured, evaluated):
        with pytest.raises(NumberRefused) as refused:
            read(EMBOLISM, group, {"pulmonary_embolism": bad})
        assert refused.value.kind == "not_finite"
