"""A network that does not take the windows of its card is told by the key that sets them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ai_models.backends.window_sizes import refused_size
from ai_models.card import load_card
from ai_models.types import ModelError
from tests.ai_models.backends.function_networks import backend_of, image_of
from tests.ai_models.backends.test_tiled import unet_backend
from tests.ai_models.tiny_models import write_model


def test_windows_that_a_unet_cannot_halve_are_told_with_their_key(tmp_path: Path) -> None:
    _, backend = unet_backend(tmp_path / "m", runtime__roi=[17, 18, 15])
    with pytest.raises(ModelError) as caught:
        backend.predict(image_of(1, 32, 32, 32))
    assert caught.value.reason == "model.wrong_input"
    assert str(caught.value).startswith(
        "the network does not take windows of 17 x 18 x 15 (runtime.roi); edges are often "
        "multiples of 16 or 32"
    )


@pytest.mark.parametrize("said", [
    "Sizes of tensors must match except in dimension 1. Expected size 48 but got size 47",
    "The size of tensor a (98) must match the size of tensor b (97) at non-singleton dimension 4",
    "spatial dimensions [2] of input image (spatial shape: (97,)) must be divisible by 32.",
    "Non-zero status code while running Concat node. Non concat axis dimensions must match",
])
def test_every_library_has_its_own_words_for_it(tmp_path: Path, said: str) -> None:
    card = load_card(write_model(tmp_path / "m", b"w"))
    told = refused_size(RuntimeError(said), card, (97, 90, 95))
    assert told is not None and "windows of 97 x 90 x 95 (runtime.roi)" in str(told)


def test_what_fails_otherwise_is_told_as_it_was(tmp_path: Path) -> None:
    def broken(_windows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        backend_of(tmp_path / "m", broken).predict(image_of(1, 16, 16, 16))
