"""What travels between the node and a worker arrives as it was sent, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.types import (
    Algorithm,
    ClassificationPrediction,
    Code,
    RegressionPrediction,
    TextPrediction,
    Volume,
)
from dicom_node.errors import ModelFailed
from dicom_node.pipeline.exchange import read_prediction, write_prediction

_ALGORITHM = Algorithm("m", "M", "1", "Us", "", Code("123110", "DCM", "AI"), True)
_SOURCE = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))


def test_features_of_an_input_arrive_as_they_were_sent(tmp_path: Path) -> None:
    sent = RegressionPrediction({"age": 3.0}, _ALGORITHM, features=(0.25, -1.5))
    got = read_prediction(tmp_path, write_prediction(tmp_path, sent, {}), _SOURCE)
    assert got == sent


def test_what_is_not_told_for_want_of_a_series_arrives_as_it_was_sent(tmp_path: Path) -> None:
    sent = ClassificationPrediction({}, _ALGORITHM, undetermined={"malignant_lesion": ("pt",)})
    got = read_prediction(tmp_path, write_prediction(tmp_path, sent, {}), _SOURCE)
    assert got == sent


@pytest.mark.parametrize("features", [[float("nan")], [0.0] * 9000])
def test_features_that_are_no_numbers_or_too_many_are_refused(
    tmp_path: Path, features: list[float]
) -> None:
    sent = RegressionPrediction({"age": 3.0}, _ALGORITHM)
    told = {**write_prediction(tmp_path, sent, {}), "features": features}
    with pytest.raises(ModelFailed) as refused:
        read_prediction(tmp_path, told, _SOURCE)
    assert refused.value.reason == "model.wrong_output"


def test_sentences_have_no_features(tmp_path: Path) -> None:
    told = write_prediction(tmp_path, TextPrediction("clear", _ALGORITHM), {})
    with pytest.raises(ModelFailed):
        read_prediction(tmp_path, {**told, "features": [1.0]}, _SOURCE)
