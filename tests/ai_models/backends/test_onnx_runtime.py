"""ONNX Runtime loads only what the card vouches for, and says what it really runs on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ai_models.backends import NetworkInput, open_backend
from ai_models.backends.onnx_runtime import CPU, CUDA, TENSORRT, OnnxNetwork, run_bound
from ai_models.backends.protocol import is_out_of_memory
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.backends.tiny_onnx import (
    boxes_onnx,
    channel_sum_onnx,
    declared,
    mean_onnx,
    model_bytes,
)
from tests.ai_models.tiny_models import LUNG, STRUCTURE, threshold_onnx, write_model

LABEL = {
    "value": 1, "name": "Bright", "category": STRUCTURE, "type": LUNG, "color_rgb": [255, 0, 0],
}
FLAT: dict[str, object] = {"input__ndim": 2, "runtime__roi": [8, 12]}
CLASSES: dict[str, object] = {
    "task": "classification",
    "output": {"channels": 3, "scores": [{"name": "effusion", "channel": 1}]},
    "runtime": {"backend": "onnx"},
}
FINDINGS: dict[str, object] = {
    "task": "detection", "output": {"labels": [LABEL]}, "runtime": {"backend": "onnx"},
    "input__size": {"edges": [8, 10, 12]},
}
BOXES, SCORES = [[1, 1, 1, 4, 5, 6], [2, 2, 2, 7, 8, 9]], [0.9, 0.6]


def network_of(
    folder: Path, content: bytes, device: str = "cpu", **changes: object
) -> OnnxNetwork:
    card = load_card(write_model(folder / "m", content, **changes))
    return OnnxNetwork(card, device, Site())


def loaded(folder: Path, content: bytes, device: str = "cpu", **changes: object) -> OnnxNetwork:
    network = network_of(folder, content, device, **changes)
    network.probe()
    network.load()
    return network


def random_windows(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))


def test_logits_have_the_shape_of_the_windows(tmp_path: Path) -> None:
    windows = random_windows(3, 1, 16, 16, 16)
    logits = loaded(tmp_path, threshold_onnx(0.5)).run(windows)
    assert logits.shape == (3, 2, 16, 16, 16)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[:, 1], 40 * (windows[:, 0] - 0.5), atol=1e-4, rtol=0)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_file_with_a_fixed_batch_is_filled_up(tmp_path: Path, batch: int) -> None:
    windows = random_windows(3, 1, 16, 16, 16)
    network = loaded(tmp_path, threshold_onnx(0.5, batch=batch))
    torch.testing.assert_close(
        network.run(windows)[:, 1], 40 * (windows[:, 0] - 0.5), atol=1e-4, rtol=0)
    assert "batch" not in network.fallbacks


def test_network_of_slices_with_several_channels_is_run(tmp_path: Path) -> None:
    windows = random_windows(4, 3, 8, 12)
    network = loaded(
        tmp_path, channel_sum_onnx([8, 12], channels=3, answers=4), input__repeat=3, **FLAT)
    expected = windows.sum(dim=1, keepdim=True) * torch.arange(4).reshape(1, 4, 1, 1)
    torch.testing.assert_close(network.run(windows), expected)


def test_classification_answers_one_row_for_each_input(tmp_path: Path) -> None:
    windows = random_windows(2, 1, 5, 6, 7)
    network = loaded(tmp_path, mean_onnx(["s", "r", "c"], answers=3), **CLASSES)
    mean = windows.mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(network.run(windows), torch.outer(mean, torch.arange(3) + 1.0))


def test_file_in_16_bits_is_run_and_said_to_be_one(tmp_path: Path) -> None:
    content = channel_sum_onnx([8, 12], kind=TensorProto.FLOAT16)
    windows = random_windows(2, 1, 8, 12)
    network = loaded(tmp_path, content, **FLAT)
    logits = network.run(windows)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[:, 1], windows[:, 0], atol=1e-3, rtol=0)
    assert network.notes[0].endswith("fp16")


@pytest.mark.parametrize("names", [("boxes", "scores", "labels"), ("box", "label_scores", "label")])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_detector_answers_boxes_scores_and_labels_in_one_run(
    tmp_path: Path, names: tuple[str, str, str], order: tuple[int, int, int],
) -> None:
    content = boxes_onnx(
        BOXES, SCORES, [0, 0], shape=["batch", 1, 8, 10, 12], names=names, order=order)
    boxes, scores, labels = loaded(tmp_path, content, **FINDINGS).detect(
        random_windows(1, 1, 8, 10, 12))
    assert boxes.tolist() == BOXES
    assert scores.tolist() == pytest.approx(SCORES)
    assert labels.tolist() == [0, 0]


def test_detector_without_a_batch_is_given_one_input(tmp_path: Path) -> None:
    content = boxes_onnx(BOXES, SCORES, [0, 0], shape=[1, "s", "r", "c"])
    boxes, _, _ = loaded(tmp_path, content, **FINDINGS).detect(random_windows(1, 1, 8, 10, 12))
    assert boxes.tolist() == BOXES


def test_detector_that_answers_a_batch_of_one_is_understood(tmp_path: Path) -> None:
    content = boxes_onnx([BOXES], [SCORES], [[0, 0]], shape=[1, 1, 8, 10, 12])
    boxes, scores, labels = loaded(tmp_path, content, **FINDINGS).detect(
        random_windows(1, 1, 8, 10, 12))
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 6), (2,), (2,))


def test_detector_without_labels_is_refused(tmp_path: Path) -> None:
    network = loaded(tmp_path, channel_sum_onnx([8, 10, 12]), **FINDINGS)
    with pytest.raises(ModelError, match="boxes, scores and labels") as caught:
        network.detect(random_windows(1, 1, 8, 10, 12))
    assert caught.value.reason == "model.wrong_output"


def test_member_of_an_ensemble_has_a_file_and_a_digest_of_its_own(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", threshold_onnx(0.5))
    content = threshold_onnx(0.25)
    (folder / "fold.onnx").write_bytes(content)
    card, windows = load_card(folder), random_windows(1, 1, 16, 16, 16)
    network = OnnxNetwork(
        card, "cpu", Site(), folder / "fold.onnx", hashlib.sha256(content).hexdigest())
    network.load()
    torch.testing.assert_close(
        network.run(windows)[:, 1], 40 * (windows[:, 0] - 0.25), atol=1e-4, rtol=0)
    with pytest.raises(ModelError, match=r"fold\.onnx") as caught:
        OnnxNetwork(card, "cpu", Site(), folder / "fold.onnx", "0" * 64).load()
    assert caught.value.reason == "model.hash_mismatch"


def test_volume_is_segmented_by_windows_of_the_file(tmp_path: Path) -> None:
    backend = open_backend(load_card(write_model(tmp_path / "m", threshold_onnx(0.5))), "cpu")
    backend.probe()
    backend.load()
    backend.warm_up()
    array = np.random.default_rng(0).random((1, 20, 24, 18), dtype=np.float32)
    scores = backend.predict(NetworkInput(array, np.eye(4), (2.0, 2.0, 2.0))).scores
    backend.close()
    assert scores is not None
    np.testing.assert_allclose(scores[1], 1 / (1 + np.exp(-40 * (array[0] - 0.5))), atol=1e-4)


def test_altered_weights_are_not_loaded(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", threshold_onnx(0.5))
    (folder / "weights.onnx").write_bytes(threshold_onnx(0.51))
    with pytest.raises(ModelError, match="the card says") as caught:
        open_backend(load_card(folder), "cpu").load()
    assert caught.value.reason == "model.hash_mismatch"


@pytest.mark.parametrize("step", ["probe", "load"])
def test_missing_weights_are_named(tmp_path: Path, step: str) -> None:
    network = network_of(tmp_path, b"")
    (tmp_path / "m" / "weights.onnx").unlink()
    with pytest.raises(ModelError, match=r"weights\.onnx") as caught:
        getattr(network, step)()
    assert caught.value.reason == "model.weights_missing"


def test_weights_that_are_no_plain_file_are_not_waited_for(tmp_path: Path) -> None:
    network = network_of(tmp_path, b"")
    (tmp_path / "m" / "weights.onnx").unlink()
    os.mkfifo(tmp_path / "m" / "weights.onnx")
    with pytest.raises(ModelError, match="plain file") as caught:
        network.load()
    assert caught.value.reason == "model.weights_missing"


@pytest.mark.parametrize("content", [b"", b"not a network", threshold_onnx(0.5)[:99]])
def test_file_that_is_no_onnx_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match="cannot load") as caught:
        network_of(tmp_path, content).load()
    assert caught.value.reason == "model.load_failed"


def test_operator_of_a_further_library_is_an_error(tmp_path: Path) -> None:
    node = helper.make_node("Warp", ["image"], ["logits"], domain="tiny")
    shape = ["batch", 1, 16, 16, 16]
    content = model_bytes([node], [declared("image", shape)], [declared("logits", shape)])
    with pytest.raises(ModelError, match="Warp") as caught:
        network_of(tmp_path, content).load()
    assert caught.value.reason == "model.load_failed"


def test_file_for_other_windows_than_the_card_names_both(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        network_of(tmp_path, threshold_onnx(0.5, roi=(8, 16, 16))).load()
    assert caught.value.reason == "model.wrong_input"
    assert "takes [batch, 1, 8, 16, 16]" in str(caught.value)
    assert "windows of [batch, 1, 16, 16, 16]" in str(caught.value)


@pytest.mark.parametrize("changes", [FLAT, {"input__repeat": 3}, CLASSES | {"input__repeat": 2}])
def test_file_with_other_axes_or_channels_than_the_card_is_an_error(
    tmp_path: Path, changes: dict[str, object],
) -> None:
    with pytest.raises(ModelError, match="windows of") as caught:
        network_of(tmp_path, threshold_onnx(0.5), **changes).load()
    assert caught.value.reason == "model.wrong_input"


def test_file_that_takes_whole_numbers_is_an_error(tmp_path: Path) -> None:
    shape = ["batch", 1, 16, 16, 16]
    content = model_bytes(
        [helper.make_node("Identity", ["image"], ["logits"])],
        [declared("image", shape, TensorProto.INT32)],
        [declared("logits", shape, TensorProto.INT32)],
    )
    with pytest.raises(ModelError, match="float32 input") as caught:
        network_of(tmp_path, content).load()
    assert caught.value.reason == "model.wrong_input"


def test_file_that_answers_whole_numbers_is_an_error(tmp_path: Path) -> None:
    shape = ["batch", 1, 16, 16, 16]
    content = model_bytes(
        [helper.make_node("Cast", ["image"], ["logits"], to=TensorProto.INT64)],
        [declared("image", shape)], [declared("logits", shape, TensorProto.INT64)],
    )
    with pytest.raises(ModelError, match="float32 output") as caught:
        network_of(tmp_path, content).load()
    assert caught.value.reason == "model.wrong_output"


def test_lack_of_memory_is_known_as_such(tmp_path: Path) -> None:
    """The runtime's own error: the file answers 16 TiB."""
    content = model_bytes(
        [helper.make_node("Expand", ["image", "wide"], ["logits"])],
        [declared("image", ["batch", 1, 16, 16, 16])], [declared("logits", ["n", "c", 1, 1, 1])],
        [numpy_helper.from_array(np.array([1 << 14, 1 << 14, 16, 16, 16]), "wide")],
    )
    network = loaded(tmp_path, content)
    with pytest.raises(Exception, match="allocate") as caught:
        network.run(random_windows(1, 1, 16, 16, 16))
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("words", [
    "BFCArena: Available memory of 1024 is smaller than requested bytes of 4096",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc((void**)&p, size);",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
    "bad allocation", "std::bad_alloc",
])
def test_every_wording_for_a_lack_of_memory_is_known(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))


def test_illegal_access_is_not_taken_for_a_lack_of_memory() -> None:
    error = RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0")
    assert not is_out_of_memory(error)


def test_cuda_that_is_not_there_is_never_claimed(tmp_path: Path) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("CUDA is there")
    network = loaded(tmp_path, threshold_onnx(0.5), "cuda:0", runtime__tensorrt=True)
    assert CPU in network.notes[0]
    assert "ran on the CPU" in network.notes[1]
    assert "TensorRT was asked for" in network.notes[2]
    assert network.device.type == "cpu"
    assert "cpu" not in network.fallbacks


@pytest.fixture
def asked_providers(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """What sessions are opened with, on a machine that seems to have every provider."""
    asked: list[list[Any]] = []
    real = onnxruntime.InferenceSession

    def opened(content: bytes, options: Any, providers: list[Any]) -> Any:
        asked.append(providers)
        return real(content, options, providers=[CPU])

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    return asked


def test_cuda_is_asked_for_by_its_number(
    tmp_path: Path, asked_providers: list[list[Any]],
) -> None:
    loaded(tmp_path, threshold_onnx(0.5), "cuda:3")
    ((cuda, options), cpu), = asked_providers
    assert (cuda, options["device_id"], cpu) == (CUDA, 3, CPU)


def test_tensorrt_keeps_no_engine_in_a_file(
    tmp_path: Path, asked_providers: list[list[Any]],
) -> None:
    loaded(tmp_path, threshold_onnx(0.5), "cuda:1", runtime__tensorrt=True)
    ((tensorrt, options), (cuda, _), _), = asked_providers
    assert (tensorrt, cuda) == (TENSORRT, CUDA)
    assert options["device_id"] == 1
    assert options["trt_engine_cache_enable"] is False


def test_cpu_asks_for_no_other_provider(
    tmp_path: Path, asked_providers: list[list[Any]],
) -> None:
    loaded(tmp_path, threshold_onnx(0.5), "cpu", runtime__tensorrt=True)
    assert asked_providers == [[CPU]]


def test_session_on_the_cpu_stands_in_where_the_device_has_no_memory(
    tmp_path: Path, asked_providers: list[list[Any]],
) -> None:
    network = loaded(tmp_path, threshold_onnx(0.5), "cuda:0")
    network.fallbacks |= {"cpu"}  # as after a load on a real device
    windows = random_windows(1, 1, 16, 16, 16)
    first = network.run(windows)
    network.settle(half=False, cpu=True)
    assert asked_providers[1:] == [[CPU]]
    assert network.device.type == "cpu"
    torch.testing.assert_close(network.run(windows), first)
    network.settle(half=False, cpu=False)
    torch.testing.assert_close(network.run(windows), first)


def test_windows_are_answered_where_they_lie(tmp_path: Path) -> None:
    """The way of CUDA tensors; ONNX Runtime takes it for the CPU's memory as well."""
    folder = write_model(tmp_path / "m", threshold_onnx(0.5))
    session = onnxruntime.InferenceSession(folder / "weights.onnx", providers=[CPU])
    windows = random_windows(2, 1, 16, 16, 16).flip(2)
    logits = run_bound(session, windows, (2, 2, 16, 16, 16))
    torch.testing.assert_close(logits[:, 1], 40 * (windows[:, 0] - 0.5), atol=1e-4, rtol=0)


def test_file_of_any_size_can_go_on_with_smaller_windows(tmp_path: Path) -> None:
    free = loaded(tmp_path / "free", channel_sum_onnx(["s", "r", "c"]))
    fixed = loaded(tmp_path / "fixed", channel_sum_onnx([16, 16, 16]))
    assert free.fallbacks == {"batch", "offload", "roi"}
    assert fixed.fallbacks == {"batch", "offload"}


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x", "cpu:1", ""])
def test_unknown_device_is_an_error(tmp_path: Path, device: str) -> None:
    with pytest.raises(ModelError) as caught:
        network_of(tmp_path, threshold_onnx(0.5), device).load()
    assert caught.value.reason == "model.device_unknown"


def test_run_before_load_and_after_close_is_an_error(tmp_path: Path) -> None:
    network = network_of(tmp_path, threshold_onnx(0.5))
    windows = random_windows(1, 1, 16, 16, 16)
    with pytest.raises(ModelError, match="before load"):
        network.run(windows)
    network.load()
    network.close()
    with pytest.raises(ModelError, match="before load") as caught:
        network.run(windows)
    assert caught.value.reason == "model.not_loaded"


@pytest.mark.gpu
def test_cuda_gives_the_logits_of_the_cpu(tmp_path: Path) -> None:
    if CUDA not in onnxruntime.get_available_providers() or not torch.cuda.is_available():
        pytest.skip("no GPU, or onnxruntime without CUDA")
    content = threshold_onnx(0.5, convolutions=2)
    windows = random_windows(2, 1, 16, 16, 16)
    expected = loaded(tmp_path / "cpu", content).run(windows)
    network = loaded(tmp_path / "cuda", content, "cuda:0")
    for _ in range(2):  # the second run is bound to the device
        logits = network.run(windows.to(network.device))
        assert logits.device == network.device
        torch.testing.assert_close(logits.cpu(), expected, atol=1e-3, rtol=1e-4)
