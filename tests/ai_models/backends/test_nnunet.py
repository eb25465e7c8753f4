from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends import nnunet, open_backend
from ai_models.backends.nnunet import NnunetBackend
from ai_models.backends.protocol import Answer, NetworkInput
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.backends.folder_models import (
    nnunet_plans,
    write_card,
    write_nnunet_model,
)
from tests.ai_models.tiny_models import LUNG, STRUCTURE

pytest.importorskip("nnunetv2")

THREE = {"background": 0, "soft": 1, "bone": 2, "metal": 3}
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}
# Never nearer than 5 HU to where a label begins: nnU-Net gathers logits in 16 bits.
HU = (np.linspace(-20, 70, 24 * 20 * 28) // 1 * 10 + 5).astype(np.float32).reshape(1, 24, 20, 28)


def card_labels(*values: int) -> list[dict[str, Any]]:
    return [
        {"value": value, "name": f"label {value}", "category": STRUCTURE, "type": LUNG,
         "color_rgb": [value, 0, 0]}
        for value in values
    ]


def volume(array: np.ndarray = HU, spacing_mm: tuple[float, ...] = (2.0, 2.0, 2.0)) -> NetworkInput:
    return NetworkInput(array, np.diag([*spacing_mm, 1.0]), spacing_mm, -1000.0)


def opened(folder: Path, site: Site | None = None) -> NnunetBackend:
    backend = NnunetBackend(load_card(folder), "cpu", site or Site())
    backend.load()
    return backend


def predict(folder: Path, image: NetworkInput | None = None, site: Site | None = None) -> Answer:
    return opened(folder, site).predict(image or volume())


def refused(folder: Path, site: Site | None = None) -> ModelError:
    with pytest.raises(ModelError) as raised:
        opened(folder, site)
    return raised.value


def test_bright_voxels_are_labelled_on_the_grid_of_the_input(tmp_path: Path) -> None:
    answer = predict(write_nnunet_model(tmp_path))
    assert answer.label_map is not None and answer.label_map.dtype == np.uint8
    assert np.array_equal(answer.label_map, (HU[0] > 100).astype(np.uint8))
    assert "nnunetv2" in answer.notes[0] and "cpu" in answer.notes[0]


def test_the_table_of_backends_opens_it_and_it_warms_up(tmp_path: Path) -> None:
    backend = open_backend(load_card(write_nnunet_model(tmp_path)), "cpu")
    backend.probe()
    backend.load()
    backend.warm_up()
    backend.close()
    with pytest.raises(ModelError) as raised:
        backend.predict(volume())
    assert raised.value.reason == "model.not_loaded"


def test_two_runs_are_bit_identical_and_leave_no_process_behind(tmp_path: Path) -> None:
    backend = opened(write_nnunet_model(tmp_path, output__probabilities=True))
    threads = torch.get_num_threads()
    children = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children"
    before = Path(children).read_text()
    first, second = backend.predict(volume()), backend.predict(volume())
    assert first.scores is not None and second.scores is not None
    assert first.scores.tobytes() == second.scores.tobytes()
    assert Path(children).read_text() == before
    assert torch.get_num_threads() == threads


def test_an_input_of_another_spacing_is_resampled_by_nnunet_and_answered_on_its_grid(
    tmp_path: Path,
) -> None:
    array = np.full((1, 30, 18, 22), -500, dtype=np.float32)
    array[0, 10:20, 6:12, 8:16] = 500
    answer = predict(write_nnunet_model(tmp_path), volume(array, (1.0, 3.0, 2.5)))
    assert answer.label_map is not None and answer.label_map.shape == array.shape[1:]
    expected = array[0] > 100
    shared = 2 * np.sum(expected & (answer.label_map == 1))
    assert shared / (expected.sum() + answer.label_map.sum()) > 0.85


def test_axes_that_the_plans_exchange_are_exchanged_back(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path, transpose=(2, 0, 1), spacing_mm=(1.0, 2.0, 3.0))
    answer = predict(folder, volume(HU, (2.0, 3.0, 1.0)))
    assert np.array_equal(answer.label_map, (HU[0] > 100).astype(np.uint8))


def test_probabilities_have_a_channel_for_the_background_first(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path, labels=THREE, output__labels=card_labels(1, 2, 3),
                                output__probabilities=True)
    scores = predict(folder).scores
    assert scores is not None and scores.shape == (4, *HU.shape[1:]) and scores.dtype == np.float32
    assert np.allclose(scores.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(scores.argmax(axis=0), np.digitize(HU[0], [100, 300, 500]))


def test_labels_that_the_card_ignores_are_not_reported(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path, labels=THREE, output__labels=card_labels(1, 3),
                                output__ignored=[2])
    label_map = predict(folder).label_map
    assert label_map is not None and set(np.unique(label_map)) == {0, 1, 3}
    assert not label_map[(HU[0] > 300) & (HU[0] < 500)].any()


def test_labels_that_the_folder_does_not_answer_are_refused(tmp_path: Path) -> None:
    error = refused(write_nnunet_model(tmp_path, output__labels=card_labels(1, 2)))
    assert error.reason == "model.wrong_output" and "1, 2" in str(error)


def test_labels_that_the_card_forgets_are_refused(tmp_path: Path) -> None:
    error = refused(write_nnunet_model(tmp_path, labels=THREE, output__labels=card_labels(1, 2)))
    assert error.reason == "model.wrong_output" and "1, 2, 3" in str(error)


def test_regions_are_answered_as_nnunet_orders_them(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path, labels=REGIONS, output__labels=card_labels(1, 2))
    label_map = predict(folder).label_map
    assert np.array_equal(label_map, np.digitize(HU[0], [100, 200]))


def test_overlapping_regions_are_answered_as_one_score_each(tmp_path: Path) -> None:
    folder = write_nnunet_model(
        tmp_path, labels=REGIONS, output__labels=card_labels(1, 2), output__activation="sigmoid",
        output__overlapping=True,
    )
    scores = predict(folder).scores
    assert scores is not None and scores.shape == (2, *HU.shape[1:])
    assert np.array_equal(scores[0] > 0.5, HU[0] > 100)
    assert np.array_equal(scores[1] > 0.5, HU[0] > 200)


def test_probabilities_of_regions_that_may_not_overlap_are_refused(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path, labels=REGIONS, output__labels=card_labels(1, 2),
                                output__probabilities=True)
    assert refused(folder).reason == "model.wrong_output"


def test_folds_are_averaged(tmp_path: Path) -> None:
    answer = predict(write_nnunet_model(tmp_path, folds=(0, 3)))
    assert np.array_equal(answer.label_map, (HU[0] > 100).astype(np.uint8))
    assert "fold 0, 3" in answer.notes[0]


def test_mirroring_is_done_where_the_card_asks_for_it(tmp_path: Path) -> None:
    backend = opened(write_nnunet_model(tmp_path, transpose=(2, 0, 1), output__mirror=[0, 2]))
    assert backend._predictor.use_mirroring
    assert set(backend._predictor.allowed_mirroring_axes) == {1, 0}
    answer = backend.predict(volume())
    assert np.array_equal(answer.label_map, (HU[0] > 100).astype(np.uint8))


def test_mirroring_that_training_did_not_have_is_refused(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path, mirror_axes=(0, 1), output__mirror=[2])
    assert refused(folder).reason == "model.wrong_input"


def test_an_input_of_zeros_is_background(tmp_path: Path) -> None:
    answer = predict(write_nnunet_model(tmp_path), volume(np.zeros_like(HU)))
    assert answer.label_map is not None and not answer.label_map.any()
    assert "zero everywhere" in answer.notes[-1]


def test_a_changed_folder_is_refused_before_anything_in_it_is_read(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path)
    (folder / "trained" / "plans.json").write_text("no JSON")
    assert refused(folder).reason == "model.hash_mismatch"


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
def test_a_folder_that_lacks_a_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = write_nnunet_model(tmp_path)
    (folder / "trained" / name).unlink()
    error = refused(folder)
    assert error.reason == "model.weights_missing" and Path(name).name in str(error)


class _Program:
    """What a pickle may hold: a call that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (os.mkdir, (str(self._trace),))


def test_a_checkpoint_that_is_a_program_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = write_nnunet_model(tmp_path / "model", checkpoint={"extra": _Program(trace)})
    error = refused(folder)
    assert error.reason == "model.pickle" and "mkdir" in str(error)
    assert not trace.exists()


@pytest.mark.parametrize("asks, trusted", [(True, False), (False, True)])
def test_neither_the_card_nor_the_site_alone_allows_a_pickle(
    tmp_path: Path, asks: bool, trusted: bool
) -> None:
    trace = tmp_path / "trace"
    folder = write_nnunet_model(
        tmp_path / "model", checkpoint={"extra": _Program(trace)}, trust__pickle=asks,
    )
    site = Site(trusted_folders=(tmp_path,)) if trusted else Site()
    assert refused(folder, site).reason == "model.pickle"
    assert not trace.exists()


def test_a_trusted_folder_is_read_as_nnunet_reads_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = write_nnunet_model(
        tmp_path / "model", checkpoint={"extra": _Program(trace)}, trust__pickle=True,
    )
    answer = predict(folder, site=Site(trusted_folders=(tmp_path,)))
    assert trace.exists()
    assert np.array_equal(answer.label_map, (HU[0] > 100).astype(np.uint8))


def test_a_torn_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path)
    path = folder / "trained" / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:500])
    write_card(folder, "trained", runtime__backend="nnunet", runtime__nnunet={"folds": [0]})
    assert refused(folder).reason == "model.load_failed"


def test_a_trainer_that_is_not_installed_is_named(tmp_path: Path) -> None:
    error = refused(write_nnunet_model(tmp_path, trainer="nnUNetTrainerOfSomebody"))
    assert error.reason == "model.architecture_unknown"
    assert "nnUNetTrainerOfSomebody" in str(error)


@pytest.mark.parametrize("key, name", [
    ("network_class_name", "os.system"),
    ("network_class_name", "dynamic_network_architectures.architectures.unet.np.fromfile"),
    ("conv_op", "subprocess.Popen"),
    ("conv_op", "torch.nn.modules.module.torch.load"),
])
def test_plans_that_name_anything_but_a_network_are_refused(
    tmp_path: Path, key: str, name: str
) -> None:
    plans = nnunet_plans((0, 1, 2), (2.0, 2.0, 2.0), "SimpleITKIO")
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    place = architecture if key in architecture else architecture["arch_kwargs"]
    place[key] = name
    error = refused(write_nnunet_model(tmp_path, plans=plans))
    assert error.reason == "model.architecture_unknown" and name in str(error)


def test_the_second_stage_of_a_cascade_is_refused(tmp_path: Path) -> None:
    plans = nnunet_plans((0, 1, 2), (2.0, 2.0, 2.0), "SimpleITKIO")
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    error = refused(write_nnunet_model(tmp_path, plans=plans))
    assert error.reason == "model.wrong_input" and "cascade" in str(error)


def test_a_card_that_scales_intensities_is_refused_for_nnunet_does(tmp_path: Path) -> None:
    folder = write_nnunet_model(
        tmp_path, input__normalisation="zscore",
    )
    assert refused(folder).reason == "card.invalid"


def test_a_card_of_other_channels_is_refused(tmp_path: Path) -> None:
    error = refused(write_nnunet_model(tmp_path, input__repeat=3))
    assert error.reason == "model.wrong_input" and "CT" in str(error)


def test_the_one_reader_that_turns_its_files_fixes_the_axes(tmp_path: Path) -> None:
    folder = write_nnunet_model(tmp_path / "wrong", reader="NibabelIOWithReorient")
    assert "[S, A, R]" in str(refused(folder))
    folder = write_nnunet_model(
        tmp_path / "right", reader="NibabelIOWithReorient", input__axes=["S", "A", "R"],
    )
    assert predict(folder).label_map is not None


def test_nnunet_answers_labels_and_nothing_else(tmp_path: Path) -> None:
    folder = write_nnunet_model(
        tmp_path, task="regression",
        output={"quantities": [{"name": "age", "unit": "mo", "minimum": 0, "maximum": 228}]},
    )
    assert refused(folder).reason == "card.invalid"


def test_no_memory_on_the_device_moves_the_sum_to_the_host_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(write_nnunet_model(tmp_path))
    backend._predictor.perform_everything_on_device = True
    plain = backend._predictor._internal_maybe_mirror_and_predict
    calls: list[int] = []

    def once_out_of_memory(windows: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(windows)

    monkeypatch.setattr(
        backend._predictor, "_internal_maybe_mirror_and_predict", once_out_of_memory
    )
    answer = backend.predict(volume())
    assert "offload" in answer.notes[-1]
    assert np.array_equal(answer.label_map, (HU[0] > 100).astype(np.uint8))
    assert "offload" not in backend.predict(volume()).notes[-1]


def test_no_memory_at_all_on_the_device_ends_on_the_cpu_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(write_nnunet_model(tmp_path))
    predictor, plain = backend._predictor, nnunet._answer
    predictor.device = torch.device("cuda:0")

    def full(predictor: Any, *arguments: Any) -> Any:
        if predictor.device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(predictor, *arguments)

    monkeypatch.setattr(nnunet, "_answer", full)
    answer = backend.predict(volume())
    assert answer.notes[-1] == "memory did not suffice: cpu"
    assert answer.parameters == {"fall_back": "cpu"}
    assert np.array_equal(answer.label_map, (HU[0] > 100).astype(np.uint8))
    assert predictor.device.type == "cuda"


def test_no_memory_and_no_fall_back_in_the_card_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(write_nnunet_model(tmp_path, runtime__fallbacks=[]))
    backend._predictor.device = torch.device("cuda:0")
    monkeypatch.setattr(nnunet, "_answer", _raise_out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        backend.predict(volume())


def _raise_out_of_memory(*_arguments: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")
