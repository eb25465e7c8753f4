"""What a score is said to rest on lies in the lesion, on the series' own grid, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.card import load_card
from ai_models.explain import maps
from ai_models.predictor import Predictor
from ai_models.types import ClassificationPrediction, Image, Volume
from tests.ai_models.backends.hf_models import IMAGE, SCORES, write_card
from tests.ai_models.explain.networks import (
    LESION_MM,
    RADIUS_MM,
    Finder,
    SequenceFinder,
    as_onnx,
    classifier,
    lesion,
    peak_lps,
    saved,
)
from tests.ai_models.marked_phantom import AXIAL, CENTRE_MM, SIGNED_PERMUTATIONS, rotation

GRIDS = [
    *(
        (AXIAL * np.array(signs), (2.5, 2.0, 2.0))
        for order, signs in SIGNED_PERMUTATIONS if order == (2, 1, 0)
    ),
    (rotation(0, 20) @ AXIAL, (2.5, 2.0, 2.0)),
    (AXIAL[:, [1, 0, 2]], (4.0, 1.5, 2.5)),
]


def explained(predictor: Predictor, source: Volume | Image) -> ClassificationPrediction:
    prediction = predictor.predict(source)
    assert isinstance(prediction, ClassificationPrediction)
    for one in prediction.saliency.values():
        assert one.shape == source.array.shape
        assert one.dtype == np.float32
        assert one.min() >= 0
        assert one.max() <= 1
    return prediction


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp"])
@pytest.mark.parametrize("grid", range(len(GRIDS)))
def test_the_peak_lies_in_the_lesion_on_every_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, grid: int
) -> None:
    spacing: dict[str, Any] = {"input__spacing_mm": [2.5, 2.5, 2.5]} if grid % 2 else {}
    predictor = classifier(tmp_path / "m", method, saved(Finder()), monkeypatch, **spacing)
    volume = lesion(*GRIDS[grid])
    prediction = explained(predictor, volume)
    assert list(prediction.saliency) == ["bright", "nothing"]
    assert prediction.saliency_method == method
    peak = peak_lps(prediction.saliency["bright"], volume)
    assert np.linalg.norm(peak - (CENTRE_MM + LESION_MM)) < RADIUS_MM / 2
    assert "explain" in prediction.seconds_by_stage


def test_occlusion_of_a_torch_network_peaks_in_the_lesion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = classifier(tmp_path / "m", "occlusion", saved(Finder()), monkeypatch)
    volume = lesion(*GRIDS[3])
    prediction = explained(predictor, volume)
    assert prediction.saliency_method == "occlusion"
    peak = peak_lps(prediction.saliency["bright"], volume)
    assert np.linalg.norm(peak - (CENTRE_MM + LESION_MM)) < RADIUS_MM


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("method", ["occlusion", "grad_cam"])
def test_an_onnx_file_is_explained_by_occlusion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    predictor = classifier(
        tmp_path / "m", "occlusion", as_onnx(Finder(), (32, 32, 32)), monkeypatch,
        weights__path="weights.onnx", runtime={"backend": "onnx"},
    )
    entry = predictor.card.explanation
    assert entry is not None
    predictor.card = predictor.card.model_copy(
        update={"explanation": entry.model_copy(update={"method": method})}
    )
    volume = lesion(*GRIDS[0])
    prediction = explained(predictor, volume)
    assert prediction.saliency_method == "occlusion"
    assert any("instead of grad-CAM" in note for note in prediction.notes) == (
        method == "grad_cam"
    )
    peak = peak_lps(prediction.saliency["bright"], volume)
    assert np.linalg.norm(peak - (CENTRE_MM + LESION_MM)) < RADIUS_MM


def test_the_layers_of_a_hugging_face_folder_are_looked_into(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(3)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3,
    )
    ResNetForImageClassification(config).save_pretrained(tmp_path / "model")
    folder = write_card(
        tmp_path, task="classification", input=IMAGE, output=SCORES,
        explanation={"method": "grad_cam", "from_score": 0.0},
    )
    predictor = Predictor(load_card(folder))
    predictor.load()
    ramp = np.linspace(0, 1, 40 * 48, dtype=np.float32).reshape(40, 48)
    prediction = explained(predictor, Image(ramp, None))
    assert prediction.saliency_method == "grad_cam"
    assert set(prediction.saliency) == {"nodule", "effusion"}


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "occlusion"])
def test_a_score_that_rests_on_nothing_gives_a_flat_map_and_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    predictor = classifier(
        tmp_path / "m", method, saved(Finder()), monkeypatch,
        explanation={"method": method, "scores": ["nothing"]},
    )
    prediction = explained(predictor, lesion(*GRIDS[0]))
    assert list(prediction.saliency) == ["nothing"]
    assert (prediction.saliency["nothing"] == 0).all()
    assert prediction.notes[-1] == (
        f"{method} of nothing: no part of the input raises this score, by this method"
    )


def test_occlusion_is_the_same_by_whichever_way_the_network_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = classifier(
        tmp_path / "m", "occlusion", saved(Finder(2, 1)), monkeypatch,
        input={"kind": "image", "modality": ["DX"], "ndim": 2,
               "intensity": {"unit": "displayed"}, "size": {"edges": [48, 48]}},
        runtime={"backend": "state_dict", "network": {
            "name": "tests.Finder", "arguments": {"dims": 2}}, "batch": 16},
    )
    array = np.zeros((48, 64), dtype=np.float32)
    array[20:32, 30:44] = 1.0
    together = explained(predictor, Image(array, None)).saliency["bright"]
    monkeypatch.setattr(maps, "network_of", lambda _backend: None)
    one_by_one = explained(predictor, Image(array, None)).saliency["bright"]
    assert np.abs(together - one_by_one).max() < 1e-3


def test_scores_below_the_cards_bound_are_not_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = classifier(
        tmp_path / "m", "grad_cam", saved(Finder()), monkeypatch,
        explanation={"method": "grad_cam", "from_score": 0.6},
    )
    assert list(explained(predictor, lesion(*GRIDS[0])).saliency) == ["bright"]
    empty = Volume(np.full((20, 20, 20), -1000, np.int16), np.diag([2.0, 2, 2, 1]))
    prediction = explained(predictor, empty)
    assert prediction.saliency == {}
    assert prediction.saliency_method == ""


@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_a_radiograph_is_explained_in_its_own_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    predictor = classifier(
        tmp_path / "m", method, saved(Finder(2, 3)), monkeypatch,
        input={
            "kind": "image", "modality": ["DX"], "ndim": 2, "repeat": 3,
            "intensity": {"unit": "displayed"}, "size": {"edges": [64, 64], "fit": "pad"},
        },
        runtime={"backend": "state_dict", "network": {
            "name": "tests.Finder", "arguments": {"dims": 2, "in_channels": 3}}, "batch": 16},
    )
    array = np.zeros((120, 200), dtype=np.float32)
    array[80:100, 30:50] = 1.0
    prediction = explained(predictor, Image(array, None))
    peak = np.argwhere(prediction.saliency["bright"] > 0.98).mean(axis=0)
    assert np.abs(peak - [89.5, 39.5]).max() < 10


@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_of_a_network_that_looks_at_slices_the_slice_with_the_lesion_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    predictor = classifier(
        tmp_path / "m", method, saved(Finder(2)), monkeypatch,
        input__ndim=2, input__size={"edges": [40, 40], "fit": "stretch"},
        output={
            "activation": "sigmoid", "channels": 2, "per": "slice",
            "scores": [{"name": "bright", "channel": 1}],
        },
        runtime={"backend": "state_dict", "network": {
            "name": "tests.Finder", "arguments": {"dims": 2}}},
    )
    volume = lesion(AXIAL * np.array([-1.0, 1.0, 1.0]), (2.5, 2.0, 2.0))
    prediction = explained(predictor, volume)
    peak = peak_lps(prediction.saliency["bright"], volume)
    assert np.linalg.norm(peak - (CENTRE_MM + LESION_MM)) < RADIUS_MM
    shown = prediction.saliency["bright"].max(axis=(1, 2)) > 0
    assert np.array_equal(shown, prediction.by_slice["bright"] >= 0.5)


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "occlusion"])
def test_of_a_network_that_answers_a_sequence_of_slices_the_peak_lies_in_the_lesion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    predictor = classifier(
        tmp_path / "m", method, saved(SequenceFinder()), monkeypatch,
        input__size={"edges": [40, 40], "fit": "stretch"},
        output={
            "activation": "sigmoid", "channels": 2, "per": "sequence",
            "scores": [{"name": "bright", "channel": 1}],
        },
        runtime={"backend": "state_dict", "network": {"name": "tests.SequenceFinder"}},
    )
    volume = lesion(AXIAL * np.array([-1.0, 1.0, 1.0]), (2.5, 2.0, 2.0))
    prediction = explained(predictor, volume)
    assert prediction.saliency_method == method, prediction.notes
    peak = peak_lps(prediction.saliency["bright"], volume)
    # What occlusion covers is a seventh of each edge.
    assert np.linalg.norm(peak - (CENTRE_MM + LESION_MM)) < RADIUS_MM * 1.5
    shown = prediction.saliency["bright"].max(axis=(1, 2)) > 0
    if method != "occlusion":
        assert np.array_equal(shown, prediction.by_slice["bright"] >= 0.5)


def test_two_explanations_give_the_same_bytes_and_leave_the_network_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = classifier(tmp_path / "m", "grad_cam", saved(Finder()), monkeypatch)
    volume = lesion(*GRIDS[0])
    first, second = explained(predictor, volume), explained(predictor, volume)
    assert first.scores == second.scores
    assert first.saliency["bright"].tobytes() == second.saliency["bright"].tobytes()
    module: torch.nn.Module = predictor._backend.networks[0].module  # type: ignore[attr-defined]
    assert all(not part._forward_hooks for part in module.modules())
    assert all(one.grad is None for one in module.parameters())
