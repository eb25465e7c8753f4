"""A scanner whose inputs lie apart from the reference is told of, once there are enough of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ai_models.monitoring.picture import picture
from ai_models.monitoring.scanners import REFERENCE, Terms, look_at

Seen = list[tuple[str, tuple[float, ...]]]


def _seen(scanner: str, count: int, at: float = 0.0, seed: int = 0) -> Seen:
    rows = np.random.default_rng(seed).normal(at, 1, (count, 8))
    return [(scanner, tuple(float(one) for one in row)) for row in rows]


def _reference(count: int = 60) -> np.ndarray:
    return np.random.default_rng(99).normal(0, 1, (count, 8)).astype(np.float32)


def test_the_scanner_apart_raises_the_alarm_and_the_other_does_not() -> None:
    look = look_at([*_seen("A", 40, seed=1), *_seen("B", 40, at=3.0, seed=2)], _reference())
    alarms = {one.scanner: one.shift is not None and one.shift.is_alarm for one in look.scanners}
    assert alarms == {"A": False, "B": True}
    assert look.source == "card"
    assert look.groups.count(REFERENCE) == 60 and len(look.rows) == 140


def test_without_a_reference_the_first_inputs_of_the_site_are_it() -> None:
    first = _seen("A", 50, seed=1)
    assert look_at(first[:49], None).source == ""
    look = look_at([*first, *_seen("A", 30, seed=3), *_seen("B", 30, at=3.0, seed=2)], None)
    assert look.source == "site"
    alarms = {one.scanner: one.shift is not None and one.shift.is_alarm for one in look.scanners}
    assert alarms == {"A": False, "B": True}


def test_few_inputs_are_counted_and_not_judged() -> None:
    look = look_at(_seen("B", 7, at=9.0), _reference())
    assert [(one.shift, one.why_not) for one in look.scanners] == [(None, "7 of 20 inputs")]
    look = look_at(_seen("B", 30, at=9.0), _reference(10))
    assert look.scanners[0].why_not == "the reference has 10 of 20 inputs"


def test_a_scanner_that_changed_is_judged_by_its_newest_inputs() -> None:
    seen = [*_seen("A", 300, seed=1), *_seen("A", 100, at=3.0, seed=2)]
    (found,) = look_at(seen, _reference(), Terms(newest=100)).scanners
    assert found.shift is not None and found.shift.is_alarm and found.inputs == 400


def test_features_of_another_card_are_left_out() -> None:
    old = [("A", (1.0, 2.0))] * 30
    look = look_at([*old, *_seen("A", 30)], _reference())
    assert look.scanners[0].inputs == 30
    assert look_at([], None).scanners == ()


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_picture_is_a_png_whatever_is_kept(method: str) -> None:
    many: Seen = [one for number in range(25) for one in _seen(f"Scanner {number}" * 9, 3)]
    for seen, reference in ((many, _reference()), ([], None), (_seen("A", 1), None)):
        content = picture(look_at(seen, reference), "lungs-ct 1", method)  # type: ignore[arg-type]
        with Image.open(io.BytesIO(content)) as image:
            assert image.format == "PNG" and image.size == (900, 640)
