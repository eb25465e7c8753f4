"""What a worker does about memory, and which hosts it lets a request reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.predictor import Predictor
from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError, ModelInput, Prediction
from dicom_node.pipeline.worker import Worker
from dicom_node.pipeline.worker_network import NetworkGate
from tests.ai_models.tiny_models import card_text, card_values, threshold_onnx, write_model
from tests.pipeline.test_worker import request_for


def test_a_model_that_lacks_memory_beside_others_is_tried_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name, threshold_onnx(0.5), id=name)
    worker = Worker("cpu", Site())
    assert worker.answer(request_for("a", tmp_path))["evicted"] == []
    predict, tries = Predictor.predict, []

    def predict_alone(predictor: Predictor, source: ModelInput) -> Prediction:
        tries.append(predictor.card.id)
        if len(tries) == 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        return predict(predictor, source)

    monkeypatch.setattr(Predictor, "predict", predict_alone)
    answer = worker.answer(request_for("b", tmp_path))
    assert (tries, answer["evicted"], answer["loaded"]) == (["b", "b"], ["a"], ["b"])
    assert "prediction" in answer and len(answer["warm"]) == 1


def test_a_model_that_lacks_memory_alone_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    tries: list[str] = []

    def fail(predictor: Predictor, _source: ModelInput) -> Prediction:
        tries.append(predictor.card.id)
        # As a back-end does that has gone down its whole ladder.
        raise ModelError("no rung sufficed") from RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Predictor, "predict", fail)
    answer = Worker("cpu", Site()).answer(request_for("a", tmp_path))
    assert answer["error"]["reason"] == "worker.out_of_memory"
    assert tries == ["a"]


def test_an_answer_says_what_the_model_took_and_what_is_warm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    worker = Worker("cpu", Site())
    predict = Predictor.predict

    def take_much(predictor: Predictor, source: ModelInput) -> Prediction:
        # More than this process, which ran other tests, has lying about.
        taken = np.ones(256 << 20, np.uint8)
        assert taken[-1]
        return predict(predictor, source)

    monkeypatch.setattr(Predictor, "predict", take_much)
    answer = worker.answer(request_for("a", tmp_path))
    memory = answer["memory"]
    assert memory["held_mib"] >= 0 and 200 < memory["peak_mib"] < 4000
    (held,) = answer["warm"].values()
    assert held == pytest.approx(memory["held_mib"], abs=0.1)
    assert worker.ready["kind"] == "cpu" and worker.ready["budget_mib"] > 0
    assert Worker("cpu", Site(), 123.0).ready["budget_mib"] == 123.0


def test_a_model_is_loaded_ahead_only_into_room_that_nobody_has(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name, threshold_onnx(0.5), id=name)
    worker = Worker("cpu", Site(), 1000.0)
    ahead = {**request_for("a", tmp_path), "ahead": True, "need_mib": 900.0}
    assert worker.answer(ahead)["ahead"] is True
    worker._models._warm[next(iter(worker._models.held_mib))].held_mib = 500.0
    refused = worker.answer({**request_for("b", tmp_path), "ahead": True, "need_mib": 900.0})
    assert (refused["ahead"], refused["loaded"], refused["evicted"]) == (False, [], [])
    assert worker.answer(request_for("a", tmp_path))["loaded"] == []


def test_a_device_that_torch_does_not_have_is_measured_as_what_it_runs_on() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert Worker("cuda:0", Site()).ready["kind"] == "cpu"


def test_only_the_host_that_serves_a_model_may_be_reached_and_only_for_its_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(endpoints={"triton": Endpoint("http://triton.example:8000")})
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    values = card_values(
        id="served", runtime__backend="open_inference",
        runtime__endpoint={"name": "triton", "model": "m"},
    )
    del values["weights"]["path"]
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "model.yaml").write_text(card_text(values))
    gate = NetworkGate()
    worker = Worker("cpu", site, gate=gate)
    seen: dict[str, frozenset[tuple[str, int]]] = {}

    def look(predictor: Predictor) -> None:
        seen[predictor.card.id] = gate._hosts
        raise ModelError("enough", reason="model.load_failed")

    monkeypatch.setattr(Predictor, "load", look)
    for name in ("a", "served"):
        assert worker.answer(request_for(name, tmp_path))["error"]["message"] == "enough"
    assert seen == {"a": frozenset(), "served": frozenset({("triton.example", 8000)})}
    assert gate._hosts == frozenset()
