"""Trained weights of another project, through a card, on a real oblique sagittal MR."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ai_models.card import Card, load_card
from ai_models.predictor import Predictor
from ai_models.training.import_meshnet import write_model
from ai_models.types import ModelInput, Prediction, Volume
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.pipeline.summary import summary
from dicom_node.results.equipment import node_equipment
from dicom_node.results.gate import read_label_map
from tests.shared_data import needs_shared, shared

NETWORK = shared("data", "models", "brainchop", "public", "models", "model5_gw_ae")
SERIES = shared("data", "series", "mr_t1_studyforrest")
pytestmark = [
    needs_shared("data", "models", "brainchop"), needs_shared("data", "series"),
    pytest.mark.slow, pytest.mark.timeout(600),
]
WHITE, GREY = 1, 2


def predict(card: Card, source: ModelInput) -> Prediction:
    predictor = Predictor(card, "cpu")
    predictor.load()
    try:
        return predictor.predict(source)
    finally:
        predictor.close()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    folder = write_model(
        NETWORK / "model.json", NETWORK / "colormap3.json", tmp_path_factory.mktemp("tissue"),
        model_id="brain-tissue", quantiles=(0.0, 99.9),
    )
    paths = sorted(path for path in SERIES.rglob("*") if path.is_file() and _is_dicom(path))
    writing = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
    return analyse(paths, load_card(folder), predict, writing)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def test_white_and_grey_matter_are_as_large_as_those_of_an_adult(found: Analysis) -> None:
    white, grey = summary(found)["labels"]
    assert 400 < white["volume_ml"] < 800
    assert 450 < grey["volume_ml"] < 900
    assert white["mean_hu"] is None
    json.dumps(summary(found), allow_nan=False)


def test_the_segmentation_lies_on_the_tissue_that_it_names(found: Analysis) -> None:
    """T1: white matter is brighter than grey, and both than what surrounds the brain.

    A mask that is mirrored, shifted or turned lies on all of them alike.
    """
    volume = found.loaded.model_input
    assert isinstance(volume, Volume)
    segmentation = dict(found.objects)["segmentation"]
    label_map = read_label_map(
        segmentation, found.loaded.source_images, found.loaded.frame_numbers
    )
    values = np.asarray(volume.array, np.float32)
    spread = np.percentile(values, 99)
    white, grey = values[label_map == WHITE], values[label_map == GREY]
    assert white.mean() > 1.25 * grey.mean() > 1.25 * 0.3 * spread
    assert white.std() < 0.2 * white.mean()
    for axis in range(3):
        mirrored = values[np.flip(label_map, axis) == WHITE]
        # The brain is nearly its own mirror image from side to side.
        assert mirrored.std() > (1.2 if axis == 0 else 2.0) * white.std()


def test_no_part_of_the_report_speaks_of_hounsfield_units(found: Analysis) -> None:
    for kind, dataset in found.objects:
        if kind.endswith("report"):
            assert "hnsf" not in str(dataset)
