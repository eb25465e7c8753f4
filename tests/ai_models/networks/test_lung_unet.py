"""The network keeps the shape of its input, fits the size limit and ships as documented."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.array.phantom import chest_phantom
from ai_models.networks.lung_unet import CLASSES, DOWNSAMPLING, LungUNet
from ai_models.training.evaluation import ROI, dice_by_side, segment, window_probabilities

MODEL = Path(__file__).parents[3] / "ai_models" / "zoo" / "lungs-ct"


def test_logits_have_the_shape_of_the_image_and_one_channel_per_class() -> None:
    with torch.inference_mode():
        logits = LungUNet().eval()(torch.zeros(2, 1, 16, 32, 48))
    assert logits.shape == (2, CLASSES, 16, 32, 48)


def test_network_stays_below_eight_mebibytes() -> None:
    parameters = sum(parameter.numel() for parameter in LungUNet().parameters())
    assert parameters * 4 < 8 * 1024 * 1024


def test_window_is_a_multiple_of_the_downsampling() -> None:
    assert all(extent % DOWNSAMPLING == 0 for extent in ROI)


def test_windows_of_a_voxelwise_network_join_without_seams() -> None:
    image = np.random.default_rng(0).random((70, 150, 100), dtype=np.float32)

    def predict(windows: np.ndarray) -> np.ndarray:
        return np.concatenate([0.0 * windows, windows, -windows], axis=1)

    joined = window_probabilities(image, predict)
    logits = np.stack([0.0 * image, image, -image])
    expected = np.exp(logits) / np.exp(logits).sum(axis=0)
    assert np.abs(joined - expected).max() < 1e-5


@pytest.mark.skipif(not (MODEL / "weights.onnx").exists(), reason="weights are not in this tree")
def test_shipped_weights_are_those_of_the_training_record() -> None:
    record = json.loads((MODEL / "training.json").read_text())
    weights = (MODEL / "weights.onnx").read_bytes()
    assert record["onnx"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert len(weights) <= 8 * 1024 * 1024


@pytest.mark.skipif(not (MODEL / "weights.onnx").exists(), reason="weights are not in this tree")
def test_shipped_weights_find_both_lungs_of_an_unseen_phantom_lying_feet_first() -> None:
    from ai_models.training.lungs_ct import onnx_predict

    phantom = chest_phantom(4242, (60, 96, 96), (5.0, 4.0, 4.0), feet_first=True)
    found, _ = segment(phantom.volume_hu, phantom.affine_lps, onnx_predict(MODEL / "weights.onnx"))
    scores = dice_by_side(found, phantom.label_map)
    assert min(scores.values()) > 0.9
