"""What cards may ask of back-ends is what the back-ends do."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from ai_models.backends import _BACKENDS, _NETWORKS, monai_bundle
from ai_models.backends.huggingface import HuggingFaceNetwork
from ai_models.backends.open_inference import OpenInferenceNetwork
from ai_models.card import TASKS
from ai_models.card_abilities import ABILITIES, a_model, listed
from ai_models.card_runtime import Backend, Fallback, Runtime


def test_every_back_end_has_its_row() -> None:
    assert set(ABILITIES) == set(get_args(Backend)) == {*_NETWORKS, *_BACKENDS}


def test_plain_networks_are_those_that_are_tiled() -> None:
    assert {name for name, one in ABILITIES.items() if one.is_network} == set(_NETWORKS)


@pytest.mark.parametrize("name", sorted(ABILITIES))
def test_a_row_names_only_what_there_is(name: str) -> None:
    row = ABILITIES[name]
    assert set(row.tasks) <= set(TASKS)
    assert set(row.fallbacks) <= set(get_args(Fallback))
    assert not row.options or row.options in Runtime.model_fields
    assert bool(row.suffixes) == (row.weights == "file")
    assert not row.needed_trust or row.needed_trust in row.trust
    keys = {*Runtime.model_fields, "mirror", "calibration", "ensemble", "grad_cam", "monitor.layer"}
    assert set(row.follows) <= keys


def test_fall_backs_are_those_of_the_networks() -> None:
    networks: dict[str, Any] = {
        "open_inference": OpenInferenceNetwork, "huggingface": HuggingFaceNetwork,
    }
    for name, network in networks.items():
        assert set(ABILITIES[name].fallbacks) == network.fallbacks


def test_tasks_of_a_bundle_are_those_of_its_back_end() -> None:
    assert ABILITIES["monai_bundle"].tasks == monai_bundle._TASKS


def test_sentences_are_english() -> None:
    assert a_model("onnx") == "an onnx model"
    assert a_model("nnunet") == "an nnunet model"
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a or b"
    assert listed(["a", "b", "c"]) == "a, b or c"
