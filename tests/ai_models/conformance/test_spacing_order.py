"""A spacing that may stand in another order than the axes of the card is spoken of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.conformance.spacing_order import spacing_doubt
from ai_models.types import Volume
from tests.ai_models.tiny_models import write_model


def volume(along_slices: int, *steps: float) -> Volume:
    """Slices along an axis of the patient (LPS), the others in their order."""
    affine, axes = np.eye(4), [along_slices, *({0, 1, 2} - {along_slices})]
    affine[:3, :3] = 0
    for column, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        affine[axis, column] = step
    return Volume(np.zeros((4, 4, 4), dtype=np.int16), affine)


@pytest.mark.parametrize(("spacing", "source", "said"), [
    ([5.0, 1.0, 1.0], None, ""),
    ([2.0, 2.0, 2.0], volume(2, 5, 1, 1), ""),
    ([1.0, 1.0, 5.0], None, "from left to right, that of most series across their slices"),
    ([5.0, 1.0, 1.0], volume(2, 5, 1, 1), ""),
    ([1.0, 1.0, 5.0], volume(2, 5, 1, 1), "left to right, that of this series from foot to head"),
    ([5.0, 1.0, 1.0], volume(0, 5, 1, 1), "foot to head, that of this series from left to right"),
    ([1.0, 1.0, 5.0], volume(2, 1, 1, 1), ""),
    (None, volume(2, 5, 1, 1), ""),
])
def test_largest_step_elsewhere_than_in_the_series_is_spoken_of(
    tmp_path: Path, spacing: list[float] | None, source: Volume | None, said: str
) -> None:
    card = load_card(write_model(tmp_path / "m", b"w", input__spacing_mm=spacing))
    told = spacing_doubt(card, source)
    assert said in told and bool(told) == bool(said)
