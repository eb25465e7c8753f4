from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends import open_backend
from ai_models.backends.fallbacks import ladder
from ai_models.backends.protocol import NetworkInput
from ai_models.card import load_card
from ai_models.types import ModelError
from tests.ai_models.backends.bundle_runs import (
    HU,
    RADIOGRAPH,
    RAS_2_MM,
    bright,
    card_labels,
    opened,
    predict,
    trusting,
    with_postprocessing,
)
from tests.ai_models.backends.folder_models import (
    bundle_configuration,
    bundle_weights,
    write_monai_bundle,
)


def test_bright_voxels_are_labelled_on_the_grid_of_the_input(tmp_path: Path) -> None:
    answer = predict(write_monai_bundle(tmp_path))
    assert answer.label_map is not None and answer.label_map.dtype == np.uint8
    assert np.array_equal(answer.label_map, bright())
    assert "MONAI" in answer.notes[0] and "cpu" in answer.notes[0]


def test_the_table_of_backends_opens_it_and_it_warms_up(tmp_path: Path) -> None:
    folder = write_monai_bundle(tmp_path)
    backend = open_backend(load_card(folder), "cpu", trusting(folder))
    backend.probe()
    backend.load()
    backend.warm_up()
    backend.close()
    with pytest.raises(ModelError) as raised:
        backend.predict(NetworkInput(HU, RAS_2_MM, (2.0, 2.0, 2.0)))
    assert raised.value.reason == "model.not_loaded"


AXES = [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1),
        (-1, -1, -1)]


@pytest.mark.parametrize("signs", AXES)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_any_sense_of_the_axes_is_turned_to_ras_and_back(
    tmp_path: Path, signs: tuple[int, int, int], order: tuple[int, int, int]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = 2.0 * np.diag(signs)[:, list(order)]
    affine[:3, 3] = (40.0, -30.0, 120.0)
    answer = predict(write_monai_bundle(tmp_path), HU, affine)
    assert np.array_equal(answer.label_map, bright())


def test_the_network_sees_the_patient_in_ras(tmp_path: Path) -> None:
    seen = {
        "_target_": "Lambdad", "keys": "image", "overwrite": True,
        "func": "$lambda x: x - 1000 * (torch.arange(x.shape[1])[:, None, None] < 4)",
    }
    steps = bundle_configuration()["preprocessing"]["transforms"]
    steps.insert(4, seen)
    chain = {"preprocessing": {"_target_": "Compose", "transforms": steps}}
    folder = write_monai_bundle(tmp_path, configuration=chain)
    array = np.full((1, 10, 12, 14), 500, dtype=np.float32)
    # The columns grow to the left: what the bundle darkens at the right has the low columns.
    affine = np.eye(4)
    affine[:3, :3] = 2.0 * np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    label_map = predict(folder, array, affine).label_map
    assert label_map is not None
    assert label_map[:, :, :-4].all() ^ label_map[:, :, 4:].all()
    assert label_map[:, :, :10].all() and not label_map[:, :, 10:].any()


def test_another_spacing_is_resampled_by_the_bundle_and_answered_on_the_grid_of_the_input(
    tmp_path: Path,
) -> None:
    array = np.full((1, 22, 18, 30), -500, dtype=np.float32)
    array[0, 6:14, 6:12, 10:20] = 500
    answer = predict(write_monai_bundle(tmp_path), array, np.diag([-2.5, -3.0, 1.0, 1.0]))
    assert answer.label_map is not None and answer.label_map.shape == array.shape[1:]
    both = 2 * np.sum((array[0] > 100) & (answer.label_map == 1))
    assert both / (bright(array).sum() + answer.label_map.sum()) > 0.85


def test_an_oblique_input_is_answered_where_it_lies(tmp_path: Path) -> None:
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, :3] = 2.0 * np.array([
        [np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1],
    ])
    array = np.full((1, 24, 24, 20), -500, dtype=np.float32)
    array[0, 4:12, 14:20, 6:12] = 500
    label_map = predict(write_monai_bundle(tmp_path), array, affine).label_map
    assert label_map is not None
    found = np.argwhere(label_map).mean(axis=0)
    assert np.allclose(found, np.argwhere(bright(array)).mean(axis=0), atol=0.5)


def test_two_runs_are_bit_identical(tmp_path: Path) -> None:
    backend = opened(write_monai_bundle(tmp_path, output__probabilities=True))
    image = NetworkInput(HU, RAS_2_MM, (2.0, 2.0, 2.0))
    first, second = backend.predict(image).scores, backend.predict(image).scores
    assert first is not None and second is not None and first.tobytes() == second.tobytes()


def test_probabilities_are_answered_before_the_bundle_decides(tmp_path: Path) -> None:
    folder = write_monai_bundle(
        tmp_path, labels=3, output__labels=card_labels(1, 2, 3), output__probabilities=True,
    )
    scores = predict(folder).scores
    assert scores is not None and scores.shape == (4, *HU.shape[1:]) and scores.dtype == np.float32
    assert np.allclose(scores.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(scores.argmax(axis=0), np.digitize(HU[0], [100, 300, 500]))


def test_several_labels_are_answered_by_their_numbers(tmp_path: Path) -> None:
    folder = write_monai_bundle(tmp_path, labels=3, output__labels=card_labels(1, 2, 3))
    assert np.array_equal(predict(folder).label_map, np.digitize(HU[0], [100, 300, 500]))


def test_overlapping_labels_are_answered_as_one_score_each(tmp_path: Path) -> None:
    sigmoid = with_postprocessing(
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
         "orig_keys": "image", "nearest_interp": False},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
    )
    folder = write_monai_bundle(
        tmp_path, configuration=sigmoid, output__labels=card_labels(1, 2),
        output__activation="sigmoid", output__overlapping=True,
    )
    scores = predict(folder).scores
    assert scores is not None and scores.shape == (2, *HU.shape[1:])
    assert np.array_equal(scores[1] > 0.5, HU[0] > 100)


def test_a_chain_without_inversion_is_inverted_all_the_same(tmp_path: Path) -> None:
    plain = with_postprocessing({"_target_": "AsDiscreted", "keys": "pred", "argmax": True})
    affine = np.diag([2.0, 2.0, -4.0, 1.0])
    answer = predict(write_monai_bundle(tmp_path, configuration=plain), HU, affine)
    assert answer.label_map is not None and answer.label_map.shape == HU.shape[1:]
    assert np.mean(answer.label_map == bright()) > 0.98


def test_a_bundle_without_postprocessing_gets_the_activation_of_the_card(tmp_path: Path) -> None:
    folder = write_monai_bundle(
        tmp_path, configuration=with_postprocessing(), output__probabilities=True,
    )
    scores = predict(folder).scores
    assert scores is not None and np.allclose(scores.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(scores[1] > 0.5, HU[0] > 100)


def test_a_chain_that_is_a_plain_list_is_taken_as_one(tmp_path: Path) -> None:
    steps = bundle_configuration()["preprocessing"]["transforms"]
    decide = with_postprocessing({"_target_": "AsDiscreted", "keys": "pred", "argmax": True})
    folder = write_monai_bundle(
        tmp_path, configuration={"transforms": steps, "preprocessing": "$@transforms", **decide},
    )
    assert np.array_equal(predict(folder).label_map, bright())


def test_a_classifier_of_images_gets_columns_first_and_answers_scores(tmp_path: Path) -> None:
    network = {
        "network_def": "$torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), "
        "torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())",
        "preprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            # Left of the middle, in MONAI's order: the first axis is of the columns.
            {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x[:, :4]"},
        ]},
        "inferer": {"_target_": "SimpleInferer"},
    }
    weights = {"0.weight": torch.tensor([0.0, 9.0]).reshape(2, 1, 1, 1),
               "0.bias": torch.tensor([0.0, -4.5])}
    folder = write_monai_bundle(
        tmp_path, weights=weights,
        configuration=with_postprocessing(
            {"_target_": "Activationsd", "keys": "pred", "softmax": True}, **network
        ),
        task="classification", input=RADIOGRAPH,
        output={"channels": 2, "scores": [{"name": "bright", "channel": 1}]},
    )
    image = np.zeros((1, 6, 10), dtype=np.float32)
    assert predict(folder, image, None).scores == pytest.approx([0.989, 0.011], abs=1e-3)
    image[0, 5, 3] = 1
    assert predict(folder, image, None).scores == pytest.approx([0.011, 0.989], abs=1e-3)
    image[0, 5, 3], image[0, 5, 9] = 0, 1
    assert predict(folder, image, None).scores == pytest.approx([0.989, 0.011], abs=1e-3)


def test_a_step_that_fails_says_which_part_it_was(tmp_path: Path) -> None:
    chain = {"preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "ScaleIntensityd", "keys": "label"},
    ]}}
    with pytest.raises(ModelError) as raised:
        predict(write_monai_bundle(tmp_path, configuration=chain))
    assert "preprocessing" in str(raised.value) and "label" in str(raised.value)


def test_answers_on_another_grid_are_refused(tmp_path: Path) -> None:
    cut = with_postprocessing(
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x.as_tensor()[:, 1:]",
         "overwrite": True},
        {"_target_": "Invertd", "keys": "other", "transform": "@preprocessing",
         "orig_keys": "image", "allow_missing_keys": True},
    )
    with pytest.raises(ModelError) as raised:
        predict(write_monai_bundle(tmp_path, configuration=cut))
    assert raised.value.reason == "model.wrong_output"


def test_values_that_are_no_label_numbers_are_refused(tmp_path: Path) -> None:
    half = with_postprocessing(
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[:1] * 0 + 0.5"},
    )
    with pytest.raises(ModelError) as raised:
        predict(write_monai_bundle(tmp_path, configuration=half))
    assert raised.value.reason == "model.wrong_output"


def test_the_card_may_set_windows_and_overlap(tmp_path: Path) -> None:
    backend = opened(write_monai_bundle(
        tmp_path, runtime__roi=[8, 12, 16], runtime__overlap=0.5, runtime__batch=1,
    ))
    backend.warm_up()
    inferer = backend._loaded().inferer
    assert tuple(inferer.roi_size) == (8, 12, 16) and inferer.overlap == 0.5
    assert inferer.sw_batch_size == 1


def test_without_memory_the_rungs_of_the_card_are_tried_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["batch", "offload", "roi"]
    backend = opened(write_monai_bundle(tmp_path, runtime__roi=[24, 24, 24]))
    parts = backend._loaded()
    with monkeypatch.context() as patched:
        patched.setattr(backend, "_runs_on", torch.device("cuda:0"))
        able = backend._able(parts)
    assert able == {"batch", "offload", "roi", "cpu", "half"}
    backend._rungs = ladder(backend._rungs[0], words, able)
    plain = parts.network.forward

    def only_small_windows(windows: torch.Tensor) -> torch.Tensor:
        if windows.shape[-1] > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(windows)

    monkeypatch.setattr(parts.network, "forward", only_small_windows)
    answer = backend.predict(NetworkInput(HU, RAS_2_MM, (2.0, 2.0, 2.0)))
    assert np.array_equal(answer.label_map, bright())
    assert "memory did not suffice" in answer.notes[-1]
    assert answer.parameters == {"fall_back": "roi"}


def test_no_memory_on_the_last_rung_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(write_monai_bundle(tmp_path))

    def full(_windows: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backend._loaded().network, "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        backend.predict(NetworkInput(HU, RAS_2_MM, (2.0, 2.0, 2.0)))


def flat_parts() -> dict[str, Any]:
    return {
        "network_def": {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2,
                        "kernel_size": 1},
        "preprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 1000,
             "b_min": 0.0, "b_max": 1.0},
        ]},
        "inferer": {"_target_": "SimpleInferer"},
    }


def flat_weights() -> dict[str, torch.Tensor]:
    return {name: value[..., 0] if value.ndim > 1 else value
            for name, value in bundle_weights(1).items()}


def test_a_flat_network_answers_a_volume_slice_by_slice(tmp_path: Path) -> None:
    folder = write_monai_bundle(
        tmp_path, weights=flat_weights(), configuration=flat_parts(), input__ndim=2,
    )
    assert np.array_equal(predict(folder).label_map, bright())
    folder = write_monai_bundle(
        tmp_path, weights=flat_weights(), configuration=flat_parts(), input__ndim=2,
        output__probabilities=True,
    )
    scores = predict(folder).scores
    assert scores is not None and scores.shape == (2, *HU.shape[1:])


def test_labels_of_an_image_have_its_rows_first(tmp_path: Path) -> None:
    folder = write_monai_bundle(
        tmp_path, weights=flat_weights(), configuration=flat_parts(), input=RADIOGRAPH,
    )
    label_map = predict(folder, HU[:, 5], None).label_map
    assert np.array_equal(label_map, bright()[5])


def test_a_map_where_scores_are_expected_is_refused(tmp_path: Path) -> None:
    folder = write_monai_bundle(
        tmp_path, weights=flat_weights(), configuration={**flat_parts(), **with_postprocessing()},
        task="classification", input=RADIOGRAPH,
        output={"channels": 2, "scores": [{"name": "bright", "channel": 1}]},
    )
    with pytest.raises(ModelError) as raised:
        predict(folder, HU[:, 5], None)
    assert raised.value.reason == "model.wrong_output"
