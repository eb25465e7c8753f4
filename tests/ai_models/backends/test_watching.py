"""The features of a layer are those of everything that the network saw of one input, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.backends.onnx_layers import layers_of, with_output
from ai_models.backends.watching import Watch
from ai_models.predictor import Predictor
from ai_models.types import ModelError
from tests.ai_models.monitoring.watched_models import noisy, watched_onnx, watched_unet
from tests.ai_models.tiny_models import threshold_onnx, write_model


def test_a_map_is_pooled_to_the_mean_and_the_deviation_of_each_channel() -> None:
    maps = torch.randn(3, 5, 4, 6, 7)
    watch = Watch("here")
    watch.begin()
    watch.add(maps[:1])
    watch.add(maps[1:])
    values = maps.movedim(1, 0).reshape(5, -1).double()
    expected = torch.cat([values.mean(dim=1), values.std(dim=1, correction=0)])
    assert np.allclose(watch.taken(), expected.numpy(), atol=1e-6)


def test_tokens_and_vectors_are_pooled_by_their_channels() -> None:
    tokens = torch.randn(2, 9, 4)
    watch = Watch("here")
    watch.add(tokens)
    assert np.allclose(watch.taken()[:4], tokens.mean(dim=(0, 1)), atol=1e-6)
    watch.begin()
    watch.add((tokens[:, 0], "what else it answers"))
    assert np.allclose(watch.taken()[:4], tokens[:, 0].mean(dim=0), atol=1e-6)


def test_a_layer_that_never_ran_has_no_features() -> None:
    with pytest.raises(ModelError) as refused:
        Watch("here").taken()
    assert refused.value.reason == "model.wrong_layer"


@pytest.mark.parametrize("make", [watched_onnx, watched_unet])
def test_one_input_has_the_same_features_twice_and_no_trace_of_the_one_before(
    tmp_path: Path, make: object
) -> None:
    predictor = Predictor(make(tmp_path))  # type: ignore[operator]
    predictor.load()
    first = predictor.predict(noisy(1))
    predictor.predict(noisy(2, noise_hu=80))
    again = predictor.predict(noisy(1))
    assert first.features == again.features  # type: ignore[union-attr]
    assert len(first.features) in (2, 8)  # type: ignore[union-attr]


def test_padding_of_a_file_with_a_fixed_batch_is_not_seen(tmp_path: Path) -> None:
    one = Predictor(watched_onnx(tmp_path / "any"))
    content = with_output(threshold_onnx(0.5, convolutions=2, batch=7), "t0")
    from ai_models.card import load_card

    fixed = Predictor(load_card(write_model(
        tmp_path / "fixed", content, monitor__layer="t0", runtime__batch=7,
        runtime__fallbacks=["cpu"],
    )))
    for predictor in (one, fixed):
        predictor.load()
    left, right = (one.predict(noisy(4)).features, fixed.predict(noisy(4)).features)  # type: ignore[union-attr]
    assert np.allclose(left, right, atol=1e-5)


def test_an_onnx_file_shows_a_layer_that_its_answer_is_made_of() -> None:
    content = threshold_onnx(0.5, convolutions=2)
    assert layers_of(content) == ("t0", "t1", "logits")
    assert with_output(with_output(content, "t0"), "t0") == with_output(content, "t0")
    with pytest.raises(ModelError, match="no tensor nowhere"):
        with_output(content, "nowhere")


@pytest.mark.parametrize("make", [watched_onnx, watched_unet])
def test_a_layer_that_is_not_there_is_refused_when_the_model_is_loaded(
    tmp_path: Path, make: object
) -> None:
    predictor = Predictor(make(tmp_path, monitor__layer="nowhere"))  # type: ignore[operator]
    with pytest.raises(ModelError) as refused:
        predictor.load()
    assert refused.value.reason == "model.wrong_layer"
