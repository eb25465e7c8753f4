"""What another host answers off the card, too late or not at all is refused, with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends import NetworkInput, open_backend
from ai_models.backends.open_inference import OpenInferenceNetwork
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
from tests.ports import free_port


@pytest.fixture(params=HOSTS)
def kind(request: pytest.FixtureRequest) -> Any:
    """Makes a host, one of each way to speak the protocol."""
    return HOSTS[request.param]


@pytest.mark.parametrize(("mode", "words", "reason"), [
    ("not_ready", "not ready", "worker.endpoint_unavailable"),
    ("loading", "bright is not ready", "worker.endpoint_unavailable"),
    ("unknown_model", "know|NOT_FOUND", "model.endpoint_refused"),
    ("other_input", "takes other FP32; one input input FP32", "model.wrong_input"),
])
def test_host_that_cannot_serve_the_card_is_known_at_load(
    tmp_path: Path, kind: Any, mode: str, words: str, reason: str,
) -> None:
    with kind(mode) as host, pytest.raises(ModelError, match=words) as caught:
        loaded(tmp_path, host)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("changes", "words", "reason"), [
    ({"input_type": "FP16"}, "FP16", "model.wrong_input"),
    ({"input_shape": [-1, 1, 16, 16, 8]}, r"\[any, 1, 16, 16, 8\].*\[batch, 1, 16, 16, 16\]",
     "model.wrong_input"),
    ({"input_shape": [-1, 16, 16]}, "windows of", "model.wrong_input"),
    ({"outputs": {"logits": ("FP32", [-1])}}, "gives logits; output expected",
     "model.wrong_output"),
    ({"outputs": {"output": ("BYTES", [-1])}}, "no numbers", "model.wrong_output"),
    ({"outputs": {"output": ("INT64", [-1])}}, "FP32 expected", "model.wrong_output"),
])
def test_model_that_is_described_otherwise_than_by_the_card_is_refused(
    tmp_path: Path, kind: Any, changes: dict[str, Any], words: str, reason: str,
) -> None:
    with kind(model=Model(**changes)) as host, pytest.raises(ModelError, match=words) as caught:
        loaded(tmp_path, host)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("mode", "words", "reason"), [
    ("400", "unexpected shape", "model.endpoint_refused"),
    ("500", "out of memory", "worker.endpoint_unavailable"),
    ("nan", "NaN or infinity", "model.not_finite"),
    ("missing_output", "does not give output", "model.wrong_output"),
    ("short", "output", "model.wrong_output"),
    ("text", "no numbers", "model.wrong_output"),
])
def test_answer_that_is_none_is_refused(
    tmp_path: Path, kind: Any, mode: str, words: str, reason: str,
) -> None:
    with kind() as host:
        network = loaded(tmp_path, host)
        host.mode = mode
        with pytest.raises(ModelError, match=words) as caught:
            network.run(random_windows(1, 1, 16, 16, 16))
        network.close()
    assert caught.value.reason == reason


def test_answer_of_another_shape_is_refused(tmp_path: Path, kind: Any) -> None:
    array = np.random.default_rng(0).random((1, 16, 16, 16), dtype=np.float32)
    with kind() as host:
        backend = open_backend(served_card(tmp_path), "cpu", site_of(host))
        backend.load()
        host.mode = "wrong_shape"
        with pytest.raises(ModelError) as caught:
            backend.predict(NetworkInput(array, np.eye(4), (2.0, 2.0, 2.0)))
        backend.close()
    assert caught.value.reason == "model.wrong_output"


def test_answer_for_another_number_of_windows_is_refused(tmp_path: Path) -> None:
    model = Model(run=lambda windows: {"output": np.zeros((1, 2, 16, 16, 16), np.float32)})
    with FakeOpenInference(model=model) as host:
        network = loaded(tmp_path, host)
        with pytest.raises(ModelError, match="for 2 windows") as caught:
            network.run(random_windows(2, 1, 16, 16, 16))
        network.close()
    assert caught.value.reason == "model.wrong_output"


@pytest.mark.parametrize("kind", [FakeOpenInference, FakeGrpcInference])
def test_answer_beyond_all_bounds_is_not_read(tmp_path: Path, kind: Any) -> None:
    with kind() as host:
        network = loaded(tmp_path, host)
        host.mode = "huge"
        with pytest.raises(ModelError, match="more than") as caught:
            network.run(random_windows(1, 1, 16, 16, 16))
        network.close()
    assert caught.value.reason == "model.wrong_output"


@pytest.mark.parametrize(("mode", "reason"), [
    ("redirect", "model.endpoint_refused"), ("malformed", "model.wrong_output"),
])
def test_http_that_is_no_answer_is_refused(tmp_path: Path, mode: str, reason: str) -> None:
    with FakeOpenInference() as host:
        network = loaded(tmp_path, host)
        host.mode = mode
        with pytest.raises(ModelError) as caught:
            network.run(random_windows(1, 1, 16, 16, 16))
        network.close()
    assert caught.value.reason == reason
    assert not any(one.path == "/elsewhere" for one in host.asked)


def test_host_that_does_not_answer_in_time_is_left_to_a_later_attempt(
    tmp_path: Path, kind: Any,
) -> None:
    with kind() as host:
        network = loaded(tmp_path, host, timeout_s=0.5)
        host.mode = "slow"
        with pytest.raises(ModelError, match=r"within 0\.5 s") as caught:
            network.run(random_windows(1, 1, 16, 16, 16))
        network.close()
    assert caught.value.reason == "worker.endpoint_unavailable"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_host_that_is_not_there_is_left_to_a_later_attempt(tmp_path: Path, scheme: str) -> None:
    site = Site(endpoints={"farm": Endpoint(f"{scheme}://127.0.0.1:{free_port()}", None, 5.0)})
    network = OpenInferenceNetwork(served_card(tmp_path), "cpu", site)
    network.probe()
    with pytest.raises(ModelError, match="the host farm") as caught:
        network.load()
    assert caught.value.reason == "worker.endpoint_unavailable"


def test_server_of_something_else_is_refused(tmp_path: Path) -> None:
    class Elsewhere(FakeOpenInference):
        def answer(self, asked: Any) -> Any:
            asked = type(asked)(asked.method, "/nothing", asked.fields, asked.body)
            return super().answer(asked)

    with Elsewhere() as host, pytest.raises(ModelError, match="Open Inference") as caught:
        loaded(tmp_path, host)
    assert caught.value.reason == "model.endpoint_refused"


def test_input_that_is_not_finite_is_not_sent(tmp_path: Path) -> None:
    with FakeOpenInference() as host:
        network = loaded(tmp_path, host)
        with pytest.raises(ModelError, match="NaN") as caught:
            network.run(torch.full((1, 1, 16, 16, 16), float("nan")))
        network.close()
    assert caught.value.reason == "input.not_finite"
    assert host.seen == []


def test_host_that_the_site_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"models\.endpoints") as caught:
        OpenInferenceNetwork(served_card(tmp_path), "cpu", Site()).probe()
    assert caught.value.reason == "model.endpoint_unknown"


def test_member_of_an_ensemble_is_refused(tmp_path: Path) -> None:
    card = served_card(tmp_path)
    with pytest.raises(ModelError, match="ensemble") as caught:
        OpenInferenceNetwork(card, "cpu", Site(), tmp_path / "fold", "0" * 64).probe()
    assert caught.value.reason == "model.task"


def test_run_before_load_is_an_error(tmp_path: Path) -> None:
    network = OpenInferenceNetwork(served_card(tmp_path), "cpu", Site())
    with pytest.raises(ModelError, match="before load") as caught:
        network.run(random_windows(1, 1, 16, 16, 16))
    assert caught.value.reason == "model.not_loaded"
