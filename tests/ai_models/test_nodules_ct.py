"""The nodule models that are shipped: what they find in a chest that they never saw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ai_models.array.measurements import measure
from ai_models.catalog import Catalog
from ai_models.predictor import Predictor
from ai_models.training.metrics import dice, match_centers
from ai_models.training.phantoms.chest import NoduleChest, nodule_chest
from ai_models.training.phantoms.scanners import SCANNERS
from ai_models.types import DetectionPrediction, ModelError, SegmentationPrediction, Volume

# The detector looks at every window whole, which takes it most of a minute.
MODELS = ("nodules-ct", pytest.param("nodules-detect-ct", marks=pytest.mark.long))
FIELD_MM = (64.0, 250.0, 320.0)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Iterator[Predictor]:
    predictor = Predictor(Catalog([]).get(request.param))
    predictor.load()
    yield predictor
    predictor.close()


@pytest.fixture(scope="module")
def chest() -> NoduleChest:
    return nodule_chest(95003, SCANNERS[2], 3, kinds=("solid",), diameters_mm=(9.0, 16.0),
                        field_mm=FIELD_MM)


def test_each_nodule_is_a_finding_of_its_own_at_its_place(
    model: Predictor, chest: NoduleChest
) -> None:
    volume = Volume(chest.volume_hu, chest.affine_lps)
    found = model.predict(volume)
    if isinstance(found, SegmentationPrediction):
        assert dice(found.label_map > 0, chest.label_map > 0) > 0.6
        measured = measure(found.label_map, volume)
        places = [one.centroid_lps_mm for one in measured.values()]
        names = [label.name for label in found.labels]
        assert names[: len(places)] == [f"Nodule {n}" for n in range(1, len(places) + 1)]
        volumes = [one.volume_ml for one in measured.values()]
        assert volumes == sorted(volumes, reverse=True)
    else:
        assert isinstance(found, DetectionPrediction)
        places = [one.center_lps_mm for one in found.detections]
    truth = [one.centroid_lps_mm for one in measure(chest.label_map, volume).values()]
    matched = match_centers(places, [1.0] * len(places), truth, 5.0)
    assert len(truth) == 3
    assert np.isfinite(matched.hits).all()


def test_a_scan_of_air_alone_is_refused(model: Predictor) -> None:
    noise = np.random.default_rng(0).normal(-1000, 20, (24, 60, 60)).astype(np.int16)
    with pytest.raises(ModelError) as caught:
        model.predict(Volume(noise, np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]]))
    assert caught.value.reason == "input.no_foreground"
