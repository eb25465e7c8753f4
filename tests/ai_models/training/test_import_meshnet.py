"""A network of TensorFlow.js becomes a model folder that computes the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from ai_models.card import load_card
from ai_models.networks.meshnet import MeshNet
from ai_models.training.import_meshnet import read_layers_model, write_model
from ai_models.weights import verify_weights

COLOURS = {"labels": ["Unknown", "Thalamus", "Odd-Thing"], "R": [0, 1, 2], "G": [0, 9, 9],
           "B": [0, 0, 255]}


def layers_model(folder: Path, *, dtype: str = "float32", extra: str = "") -> Path:
    """Two 3x3x3 convolutions, the second dilated, and the last one."""
    random = np.random.default_rng(1)
    kernels = {
        "a": random.normal(size=(3, 3, 3, 1, 2)), "b": random.normal(size=(3, 3, 3, 2, 2)),
        "output": random.normal(size=(1, 1, 1, 2, 3)),
    }
    layers: list[dict[str, Any]] = [{"class_name": "InputLayer", "config": {"name": "input"}}]
    weights, content = [], b""
    for name, kernel in kernels.items():
        layers.append({"class_name": "Conv3D", "config": {
            "name": name, "filters": kernel.shape[-1],
            "dilation_rate": [2 if name == "b" else 1] * 3,
        }})
        if name != "output":
            layers.append({"class_name": "Activation", "config": {"activation": "elu"}})
        bias = random.normal(size=kernel.shape[-1])
        for part, values in (("kernel", kernel), ("bias", bias)):
            weights.append({"name": f"{name}/{part}", "shape": list(values.shape), "dtype": dtype})
            content += values.astype("<f4").tobytes()
    if extra:
        layers.append({"class_name": extra, "config": {}})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.bin").write_bytes(content)
    (folder / "colours.json").write_text(json.dumps(COLOURS))
    (folder / "model.json").write_text(json.dumps({
        "modelTopology": {"model_config": {"config": {"layers": layers}}},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": weights}],
    }))
    return folder / "model.json"


def test_the_first_layer_computes_what_tensorflow_would(tmp_path: Path) -> None:
    arguments, state = read_layers_model(layers_model(tmp_path))
    network = MeshNet(**arguments)
    network.load_state_dict(state, strict=True)
    image = np.random.default_rng(2).normal(size=(5, 6, 7)).astype(np.float32)
    with torch.inference_mode():
        found = network.layers[0](torch.from_numpy(image)[None, None])[0].numpy()
    stored = np.frombuffer((tmp_path / "weights.bin").read_bytes(), "<f4")
    kernel, bias = stored[:54].reshape(3, 3, 3, 1, 2), stored[54:56]
    for channel in range(2):
        expected = ndimage.correlate(image, kernel[..., 0, channel], mode="constant")
        np.testing.assert_allclose(found[channel], expected + bias[channel], atol=1e-4)


def test_the_card_carries_codes_colours_and_the_digest_of_the_weights(tmp_path: Path) -> None:
    folder = write_model(
        layers_model(tmp_path), tmp_path / "colours.json", tmp_path / "model", model_id="brain",
        quantiles=(0.0, 99.9),
    )
    card = load_card(folder)
    verify_weights(card)
    thalamus, odd = card.labels
    assert (thalamus.type.value, thalamus.color_rgb) == ("42695009", (1, 9, 1))
    assert (odd.type.scheme, odd.name) == ("99DCMNODE", "Odd Thing")


@pytest.mark.parametrize(
    ("changes", "words"), [({"dtype": "uint8"}, "float32 expected"), ({"extra": "Dense"}, "Dense")]
)
def test_another_kind_of_network_is_refused(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        read_layers_model(layers_model(tmp_path, **changes))  # type: ignore[arg-type]


def test_a_colour_table_of_another_network_is_refused(tmp_path: Path) -> None:
    model = layers_model(tmp_path)
    (tmp_path / "colours.json").write_text(json.dumps({**COLOURS, "labels": ["Unknown"]}))
    with pytest.raises(ValueError, match="1 labels for 3 classes"):
        write_model(model, tmp_path / "colours.json", tmp_path / "m", model_id="b",
                    quantiles=(0.0, 100.0))
