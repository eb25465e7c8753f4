"""The model that is shipped: what it answers where nobody is in the images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ai_models.catalog import Catalog
from ai_models.monitoring.noticing import UNUSUAL
from ai_models.predictor import Predictor
from ai_models.types import ModelError, SegmentationPrediction, Volume

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]]
SHAPE = (24, 80, 90)


@pytest.fixture(scope="module")
def lungs() -> Iterator[Predictor]:
    predictor = Predictor(Catalog([]).get("lungs-ct"))
    predictor.load()
    yield predictor
    predictor.close()


@pytest.mark.parametrize(
    ("air_hu", "noise_hu"), [(-1000, 0), (-1024, 0), (-1000, 20), (-1000, 100)]
)
def test_a_scan_of_air_alone_is_refused(lungs: Predictor, air_hu: int, noise_hu: int) -> None:
    noise = np.random.default_rng(0).normal(0, noise_hu, SHAPE)
    volume = Volume((air_hu + noise).astype(np.int16), AFFINE)
    with pytest.raises(ModelError, match="lungs-ct needs 1 ml") as caught:
        lungs.predict(volume)
    assert caught.value.reason == "input.no_foreground"


@pytest.mark.parametrize("what", ["a table", "a water phantom"])
def test_in_a_scan_without_a_patient_nothing_is_marked(lungs: Predictor, what: str) -> None:
    array = np.random.default_rng(0).normal(-1000, 20, SHAPE)
    if what == "a table":
        array[:, 60:62, 15:75] = -100
    else:
        row, column = np.ogrid[: SHAPE[1], : SHAPE[2]]
        array[:, (row - 40) ** 2 + (column - 45) ** 2 < 30**2] = 0
    prediction = lungs.predict(Volume(array.astype(np.int16), AFFINE))
    assert isinstance(prediction, SegmentationPrediction)
    assert not prediction.label_map.any()
    # A cylinder of water in air has the numbers of a body: not everything unlike is noticed.
    if what == "a table":
        assert any(note.startswith(UNUSUAL) for note in prediction.notes)
