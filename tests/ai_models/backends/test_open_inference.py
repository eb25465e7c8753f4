"""Another host answers windows as a network beside the card would."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ai_models.backends import NetworkInput, open_backend
from ai_models.backends.open_inference import OpenInferenceNetwork
from ai_models.card import load_card
from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError
from tests.ai_models.backends.fake_open_inference import (
    FakeGrpcInference,
    FakeOpenInference,
    Model,
)
from tests.ai_models.backends.served_models import (
    HOSTS,
    loaded,
    random_windows,
    served_card,
    site_of,
)
from tests.ai_models.tiny_models import (
    LUNG,
    STRUCTURE,
    threshold_onnx,
    write_model,
)
from tests.ports import free_port

LABEL = {
    "value": 1, "name": "Bright", "category": STRUCTURE, "type": LUNG, "color_rgb": [255, 0, 0],
}
BOXES = np.array([[1, 1, 1, 4, 5, 6], [2, 2, 2, 7, 8, 9]], dtype=np.float32)


@pytest.fixture(params=HOSTS)
def kind(request: pytest.FixtureRequest) -> Any:
    """Makes a host, one of each way to speak the protocol."""
    return HOSTS[request.param]


def test_logits_come_back_bit_by_bit(tmp_path: Path, kind: Any) -> None:
    windows = random_windows(3, 1, 16, 16, 16)
    with kind() as host:
        network = loaded(tmp_path, host)
        logits = network.run(windows)
        network.close()
    assert logits.dtype == torch.float32
    assert torch.equal(logits[:, 1], 40 * (windows[:, 0] - 0.5))
    assert np.array_equal(host.seen[0], windows.numpy())


def test_volume_is_segmented_as_by_the_same_network_here(tmp_path: Path, kind: Any) -> None:
    array = np.random.default_rng(0).random((1, 20, 24, 18), dtype=np.float32)
    image = NetworkInput(array, np.eye(4), (2.0, 2.0, 2.0))
    here = open_backend(load_card(write_model(tmp_path / "here", threshold_onnx(0.5))), "cpu")
    here.load()
    with kind() as host:
        there = open_backend(served_card(tmp_path / "there"), "cpu", site_of(host))
        there.probe()
        there.load()
        there.warm_up()
        answer = there.predict(image)
        there.close()
    expected = here.predict(image).scores
    assert answer.scores is not None
    assert expected is not None
    np.testing.assert_allclose(answer.scores, expected, atol=1e-5)
    assert "bright version 3 on the host farm (onnxruntime_onnx)" in answer.notes[0]
    assert "SHA-256 was not checked here" in answer.notes[1]
    assert answer.parameters == {"served_version": "3"}


def test_images_of_several_channels_are_classified(tmp_path: Path, kind: Any) -> None:
    model = Model(
        input_shape=[-1, 3, -1, -1], outputs={"output": ("FP32", [-1, 2])},
        run=lambda windows: {"output": windows.sum(axis=(2, 3))[:, :2]},
    )
    windows = random_windows(2, 3, 8, 12)
    with kind(model=model) as host:
        network = loaded(
            tmp_path, host, task="classification", input__ndim=2, input__repeat=3,
            output={
                "channels": 2, "per": "slice", "scores": [{"name": "effusion", "channel": 1}],
            },
            runtime={
                "backend": "open_inference", "endpoint": {"name": "farm", "model": "bright"},
            },
        )
        torch.testing.assert_close(network.run(windows), windows.sum(dim=(2, 3))[:, :2])
        network.close()


def findings(**named: object) -> dict[str, object]:
    endpoint = {"name": "farm", "model": "bright", "outputs": ["boxes", "scores", "labels"]}
    return {
        "task": "detection", "output": {"labels": [LABEL]}, "input__size": {"edges": [8, 10, 12]},
        "runtime": {"backend": "open_inference", "endpoint": endpoint}, **named,
    }


def found(_windows: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    return {
        "labels": np.zeros(2, dtype=np.int64), "boxes": BOXES,
        "scores": np.array([0.9, 0.6], dtype=np.float32),
    }


@pytest.mark.parametrize("shape", [[-1, 1, 8, 10, 12], [1, 8, 10, 12]])
def test_detector_answers_boxes_scores_and_labels(
    tmp_path: Path, kind: Any, shape: list[int],
) -> None:
    outputs = {
        "labels": ("INT64", [-1]), "boxes": ("FP32", [-1, 6]), "scores": ("FP32", [-1]),
    }
    model = Model(input_shape=shape, outputs=outputs, run=found)
    with kind(model=model) as host:
        network = loaded(tmp_path, host, **findings())
        boxes, scores, labels = network.detect(random_windows(1, 1, 8, 10, 12))
        network.close()
    assert boxes.tolist() == BOXES.tolist()
    assert scores.tolist() == pytest.approx([0.9, 0.6])
    assert labels.tolist() == [0, 0]
    assert host.seen[0].ndim == len(shape)


def test_model_with_a_fixed_batch_is_sent_full_batches(tmp_path: Path, kind: Any) -> None:
    windows = random_windows(3, 1, 16, 16, 16)
    with kind(model=Model(input_shape=[2, 1, 16, 16, 16])) as host:
        network = loaded(tmp_path, host)
        logits = network.run(windows)
        network.close()
    assert torch.equal(logits[:, 1], 40 * (windows[:, 0] - 0.5))
    assert [len(one) for one in host.seen] == [2, 2]


@pytest.mark.parametrize("datatype", ["FP16", "FP64"])
def test_other_floats_than_of_32_bits_are_taken(tmp_path: Path, datatype: str) -> None:
    windows = random_windows(1, 1, 16, 16, 16)
    model = Model(outputs={"output": (datatype, [-1, 2, 16, 16, 16])})
    for binary in (True, False):
        with FakeOpenInference(model=model, binary=binary) as host:
            network = loaded(tmp_path, host)
            logits = network.run(windows)
            network.close()
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits[:, 1], 40 * (windows[:, 0] - 0.5), atol=0.02, rtol=0)


def test_version_of_the_card_is_the_one_that_is_asked(tmp_path: Path, kind: Any) -> None:
    endpoint = {"name": "farm", "model": "bright", "version": "3"}
    with kind() as host:
        network = loaded(tmp_path, host, runtime__endpoint=endpoint)
        network.run(random_windows(1, 1, 16, 16, 16))
        host.model.version = "4"
        with pytest.raises(ModelError) as caught:
            network.run(random_windows(1, 1, 16, 16, 16))
        network.close()
    assert caught.value.reason in ("model.wrong_output", "model.endpoint_refused")


def test_version_that_the_host_does_not_have_is_refused(tmp_path: Path) -> None:
    endpoint = {"name": "farm", "model": "bright", "version": "7"}
    with (
        FakeGrpcInference() as host,
        pytest.raises(ModelError, match="no version 7 of bright, it has 3") as caught,
    ):
        loaded(tmp_path, host, runtime__endpoint=endpoint)
    assert caught.value.reason == "model.endpoint_refused"


def test_two_versions_never_make_one_result(tmp_path: Path, kind: Any) -> None:
    windows = random_windows(1, 1, 16, 16, 16)
    with kind() as host:
        network = loaded(tmp_path, host)
        network.run(windows)
        host.model.version = "4"
        with pytest.raises(ModelError, match="from version 3 of bright to 4") as caught:
            network.run(windows)
        network.run(windows)
        network.close()
    assert caught.value.reason == "worker.endpoint_unavailable"
    assert "bright version 4" in network.notes[0]


def test_host_without_memory_is_sent_fewer_windows(tmp_path: Path, kind: Any) -> None:
    array = np.random.default_rng(0).random((1, 16, 16, 40), dtype=np.float32)
    with kind("memory") as host:
        backend = open_backend(served_card(tmp_path), "cpu", site_of(host))
        backend.load()
        answer = backend.predict(NetworkInput(array, np.eye(4), (2.0, 2.0, 2.0)))
        backend.close()
    assert "one window at a time" in answer.notes[-1]


def run_again(network: OpenInferenceNetwork, windows: torch.Tensor) -> torch.Tensor:
    """As the node does: later, and again later."""
    latest = time.monotonic() + 10
    while True:
        try:
            return network.run(windows)
        except ModelError:
            if time.monotonic() > latest:
                raise
            time.sleep(0.1)


def test_host_that_went_away_and_came_back_is_asked_again(tmp_path: Path, kind: Any) -> None:
    windows = random_windows(1, 1, 16, 16, 16)
    with kind() as host:
        network = loaded(tmp_path, host)
        network.run(windows)
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            network.run(windows)
        assert caught.value.reason == "worker.endpoint_unavailable"
    with host:
        logits = run_again(network, windows)
    network.close()
    assert torch.equal(logits[:, 1], 40 * (windows[:, 0] - 0.5))


def test_key_goes_to_the_host_and_into_no_message(tmp_path: Path, kind: Any) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-very-secret\n")
    with kind(key="sk-very-secret") as host:
        network = loaded(tmp_path, host, key_file=key_file)
        network.run(random_windows(1, 1, 16, 16, 16))
        network.close()
        key_file.write_text("sk-another-secret\n")
        with pytest.raises(ModelError, match="does not take the key") as caught:
            loaded(tmp_path, host, key_file=key_file)
    assert caught.value.reason == "model.endpoint_refused"
    assert "secret" not in str(caught.value)


def test_proxy_of_the_environment_is_not_used(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with kind() as host:
        network = loaded(tmp_path, host)
        network.run(random_windows(1, 1, 16, 16, 16))
        network.close()


def test_request_holds_the_array_and_names_of_the_card_and_nothing_else(tmp_path: Path) -> None:
    with FakeOpenInference(binary=False) as host:
        network = loaded(tmp_path, host)
        network.run(random_windows(1, 1, 16, 16, 16))
        network.close()
    document = json.loads(host.asked[-1].body)
    (tensor,) = document["inputs"]
    assert set(document) == {"inputs", "outputs"}
    assert set(tensor) == {"name", "shape", "datatype", "data"}
    assert document["outputs"] == [{"name": "output"}]


def test_path_below_the_host_is_kept_for_http_and_refused_for_grpc(tmp_path: Path) -> None:
    class Below(FakeOpenInference):
        def answer(self, asked: Any) -> Any:
            assert asked.path.startswith("/serving/v2")
            path = asked.path.removeprefix("/serving")
            return super().answer(type(asked)(asked.method, path, asked.fields, asked.body))

    card = served_card(tmp_path)
    with Below() as host:
        site = Site(endpoints={"farm": Endpoint(f"{host.url}/serving")})
        network = OpenInferenceNetwork(card, "cpu", site)
        network.load()
        network.run(random_windows(1, 1, 16, 16, 16))
        network.close()
    site = Site(endpoints={"farm": Endpoint("grpc://127.0.0.1:1/serving")})
    with pytest.raises(ModelError, match="ends with the port") as caught:
        OpenInferenceNetwork(card, "cpu", site).probe()
    assert caught.value.reason == "model.endpoint_wrong"
