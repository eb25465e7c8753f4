"""An input unlike those that the model was tried on is told of, and no other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.monitoring.input_features import (
    FEATURES_OF_A_CHANNEL,
    features_of_input,
    input_features,
)
from ai_models.monitoring.noticing import UNUSUAL
from ai_models.monitoring.reference import read_rows, reference_of, write_rows
from ai_models.predictor import Predictor
from ai_models.types import CardError, ModelError
from tests.ai_models.monitoring.watched_models import noisy, watched_onnx, watched_unet
from tests.ai_models.tiny_models import threshold_onnx, write_model


def _rows(card_folder: Path, make: object) -> np.ndarray:
    predictor = Predictor(make(card_folder))  # type: ignore[operator]
    predictor.load()
    answers = [predictor.predict(noisy(seed, noise_hu=18 + seed % 5)) for seed in range(12)]
    return np.array([one.features for one in answers], dtype=np.float32)  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [watched_onnx, watched_unet])
def test_a_noisier_scanner_is_told_of_and_a_like_one_is_not(tmp_path: Path, make: object) -> None:
    rows = _rows(tmp_path / "first", make)
    (tmp_path / "second").mkdir()
    sha256 = write_rows(tmp_path / "second" / "seen.npy", rows)
    predictor = Predictor(make(  # type: ignore[operator]
        tmp_path / "second", monitor__reference="seen.npy", monitor__sha256=sha256
    ))
    predictor.load()
    assert not [note for note in predictor.predict(noisy(50)).notes if UNUSUAL in note]
    told = predictor.predict(noisy(50, noise_hu=150)).notes
    assert [note for note in told if note.startswith(UNUSUAL)]


def test_without_a_layer_the_numbers_are_of_the_input(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path, threshold_onnx(0.5), monitor={}))
    predictor = Predictor(card)
    predictor.load()
    assert len(predictor.predict(noisy(1)).features) == FEATURES_OF_A_CHANNEL  # type: ignore[union-attr]


def test_what_is_known_of_the_patient_is_no_feature() -> None:
    entry = load_card(ZOO / "fdg-pet-ct").input
    pictures = np.random.default_rng(0).random((2, 4, 8, 8)).astype(np.float32)
    kept = set()
    for age in (0.3, -2.0):
        known = np.full((entry.constant_channels, 4, 8, 8), age, dtype=np.float32)
        kept.add(features_of_input(np.concatenate([pictures, known]), entry))
    assert kept == {input_features(pictures)}


def test_series_of_four_and_of_ten_phases_have_the_same_features() -> None:
    entry = load_card(ZOO / "lesion-dce-mr").input
    phases = np.random.default_rng(0).random((10, 4, 8, 8)).astype(np.float32)
    few, many = (features_of_input(phases[:count], entry) for count in (4, 10))
    assert len(few) == len(many) == 2 * FEATURES_OF_A_CHANNEL
    assert few[0] == pytest.approx(float(phases[:4].mean()), abs=1e-6)
    assert few[FEATURES_OF_A_CHANNEL] == pytest.approx(
        float(phases[:4].mean(axis=(1, 2, 3)).std()), abs=1e-6)


def test_without_a_monitor_nothing_is_kept(tmp_path: Path) -> None:
    predictor = Predictor(load_card(write_model(tmp_path, threshold_onnx(0.5))))
    predictor.load()
    assert predictor.predict(noisy(1)).features == ()  # type: ignore[union-attr]


def test_the_noise_of_an_input_is_found_where_there_is_no_structure() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 16, 32, 32)).astype(np.float32)
    assert input_features(noise)[9] == pytest.approx(0.1, rel=0.05)


def test_what_hardly_varied_does_not_count_without_bounds() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (20, 3)).astype(np.float32)
    rows[:, 2] = 7.0
    assert reference_of(rows).ratio((0.0, 0.0, 7.0)) < 1
    assert np.isfinite(reference_of(rows).ratio((0.0, 0.0, 7.1)))


@pytest.mark.parametrize("rows", [np.zeros((2, 3)), np.full((9, 2), np.nan), np.zeros((9, 0))])
def test_rows_that_are_no_reference_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(ModelError) as refused:
        reference_of(rows.astype(np.float32))
    assert refused.value.reason == "model.monitor"


def test_features_of_another_layer_are_refused() -> None:
    with pytest.raises(ModelError, match="of another layer"):
        reference_of(np.eye(6, dtype=np.float32)).ratio((1.0, 2.0))


def test_a_reference_is_read_only_as_the_card_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "seen.npy"
    sha256 = write_rows(path, np.eye(6, dtype=np.float32))
    assert np.array_equal(read_rows(path, sha256), np.eye(6))
    with pytest.raises(ModelError) as changed:
        read_rows(path, "0" * 64)
    assert changed.value.reason == "model.hash_mismatch"
    with pytest.raises(ModelError) as absent:
        read_rows(tmp_path / "none.npy", sha256)
    assert absent.value.reason == "model.weights_missing"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match="no array"):
        read_rows(path, digest)


@pytest.mark.parametrize(("changes", "key"), [
    ({"monitor__reference": "/elsewhere.npy"}, "monitor.reference"),
    ({"monitor__reference": "../a.npy", "monitor__sha256": "0" * 64}, "monitor.reference"),
    ({"monitor__reference": "a.pkl", "monitor__sha256": "0" * 64}, "monitor.reference"),
    ({"monitor__reference": "a.npy"}, "monitor.sha256"),
    ({"monitor__sha256": "0" * 64}, "monitor.sha256"),
    ({"monitor__layer": "a", "runtime__backend": "torchscript", "weights__path": "w.ts"},
     "monitor.layer"),
])
def test_a_monitor_that_cannot_work_is_refused_with_its_place(
    tmp_path: Path, changes: dict[str, object], key: str
) -> None:
    with pytest.raises(CardError) as refused:
        load_card(write_model(tmp_path, b"", **changes))
    assert refused.value.key_path == key
