"""The worker's own rules: what it keeps warm, what it refuses, what it calls which failure."""

from __future__ import annotations

import io
import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import ModelError, SegmentationPrediction, Volume
from dicom_node.events import Events
from dicom_node.pipeline import worker
from dicom_node.pipeline.exchange import write_source
from dicom_node.pipeline.inference import InferencePool
from dicom_node.pipeline.worker import Pulse, Worker
from tests.ai_models.drafting.writers import writer_folder
from tests.ai_models.tiny_models import threshold_onnx, write_model

BRIGHT = Volume(np.full((9, 9, 9), 700, dtype=np.int16), np.eye(4))


def request_for(model_id: str, folder: Path) -> dict[str, Any]:
    card = load_card(folder / model_id)
    return {
        "request": "1", "card": str(card.folder), "content": card.content.decode(),
        "source": write_source(folder, BRIGHT), "output": str(folder), "need_mib": 10.0,
    }


def test_changed_card_is_loaded_anew(tmp_path: Path) -> None:
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    worker = Worker("cpu", Site())
    first = worker.answer(request_for("a", tmp_path))
    assert np.load(tmp_path / "labels.npy").all()
    write_model(tmp_path / "a", threshold_onnx(0.9), id="a", version="2.0")
    second = worker.answer(request_for("a", tmp_path))
    assert (first["loaded"], second["loaded"]) == (["a"], ["a"])
    assert second["evicted"] == ["a"], "nobody can ask for the old one"
    assert second["prediction"]["algorithm"]["version"] == "2.0"
    assert not np.load(tmp_path / "labels.npy").any()


@pytest.mark.parametrize("now", ["surprise: 1\n", None])
def test_a_card_that_was_good_is_used_whatever_its_file_says_now(
    tmp_path: Path, now: str | None
) -> None:
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a", version="1.0")
    request = request_for("a", tmp_path)
    if now is None:
        write_model(tmp_path / "a", threshold_onnx(0.5), id="a", version="2.0")
    else:
        (tmp_path / "a" / "model.yaml").write_text(now)
    answer = Worker("cpu", Site()).answer(request)
    assert answer["prediction"]["algorithm"]["version"] == "1.0"


@pytest.mark.parametrize("whole", [True, False])
def test_weights_of_a_folder_that_is_being_changed_are_waited_for(
    tmp_path: Path, whole: bool
) -> None:
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a", version="1.0")
    request = request_for("a", tmp_path)
    write_model(tmp_path / "a", threshold_onnx(0.9), id="a", version="2.0")
    if not whole:
        (tmp_path / "a" / "weights.onnx").unlink()
        (tmp_path / "a" / "model.yaml").unlink()
    answer = Worker("cpu", Site()).answer(request)
    assert answer["error"]["reason"] == "model.card_changed" and not answer["ends"]


def test_weights_of_a_folder_that_nobody_changes_are_not_waited_for(tmp_path: Path) -> None:
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    request = request_for("a", tmp_path)
    (tmp_path / "a" / "weights.onnx").write_bytes(b"others")
    assert Worker("cpu", Site()).answer(request)["error"]["reason"] == "model.hash_mismatch"


@pytest.mark.parametrize(
    ("error", "reason", "ends"),
    [
        (MemoryError(), "worker.out_of_memory", True),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "worker.out_of_memory", False),
        (OSError(28, "No space left on device"), "worker.storage_failed", False),
        (PermissionError("socket.connect is refused"), "model.failed", False),
        (RuntimeError("CUDNN_STATUS_EXECUTION_FAILED"), "model.failed", False),
    ],
)
def test_failure_that_no_type_foresaw_gets_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, ends: bool
) -> None:
    def fail(_predictor: Predictor, _volume: Volume) -> None:
        raise error

    monkeypatch.setattr(Predictor, "predict", fail)
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    request = request_for("a", tmp_path)
    answer = Worker("cpu", Site()).answer(request)
    assert answer["error"]["reason"] == reason
    assert answer["ends"] is ends


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("words", "reason", "ends"),
    [
        ("CUDA error: an illegal memory access was encountered", "worker.device_failed", True),
        ("CUDA error: device-side assert triggered", "worker.device_failed", True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "worker.device_failed", True),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", "worker.out_of_memory", False),
    ],
)
def test_a_gpu_that_failed_ends_its_worker_even_where_a_back_end_wraps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, reason: str, ends: bool,
    wrapped: bool,
) -> None:
    def fail(_predictor: Predictor, _volume: Volume) -> None:
        if wrapped:
            raise ModelError("the network of the bundle failed") from RuntimeError(words)
        raise RuntimeError(words)

    monkeypatch.setattr(Predictor, "predict", fail)
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    worker = Worker("cpu", Site())
    worker._device = "cuda:0"  # the model itself was opened for what is here
    answer = worker.answer(request_for("a", tmp_path))
    assert answer["error"]["reason"] == reason
    # What is not understood ends a worker with a GPU as ever.
    assert answer["ends"] is (ends or not wrapped)


def test_words_about_a_gpu_that_is_elsewhere_end_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_predictor: Predictor, _volume: Volume) -> None:
        raise ModelError("the host answers: CUDA error: an illegal memory access")

    monkeypatch.setattr(Predictor, "predict", fail)
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    answer = Worker("cpu", Site()).answer(request_for("a", tmp_path))
    assert answer["error"]["reason"] == "model.failed" and not answer["ends"]


class Noisy(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        print("noise from a model")
        return torch.cat([0.5 - image, image - 0.5], dim=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_model_prints_does_not_reach_the_protocol(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Noisy()), buffer)
    folder = write_model(
        tmp_path / "models" / "noisy", buffer.getvalue(), id="noisy", weights__path="w.ts",
        runtime__backend="torchscript",
    )
    pool = InferencePool(["cpu"], Site(), tmp_path / "scratch", Events())
    try:
        prediction = pool.predict(load_card(folder), BRIGHT, deadline_s=120)
        assert isinstance(prediction, SegmentationPrediction)
        assert prediction.label_map.all()
    finally:
        pool.close()


def test_listing_devices_prints_one_json_list() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node.pipeline.worker", "--list-devices"],
        capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[")


def test_the_node_itself_imports_nothing_heavy_for_the_pool() -> None:
    program = (
        "import sys, dicom_node.pipeline.inference\n"
        "print([m for m in ('torch', 'monai', 'onnxruntime', 'scipy') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Pipe(io.BytesIO):
    """Takes a few bytes at a time, as a pipe may, and tells when a line is whole."""

    def __init__(self) -> None:
        super().__init__()
        self.line = threading.Event()

    def write(self, data: Any) -> int:
        taken = bytes(data)[:5]
        super().write(taken)
        if taken.endswith(b"\n"):
            self.line.set()
        return len(taken)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


def test_heartbeats_are_whole_lines_before_the_answer_and_none_comes_after_it() -> None:
    pipe = Pipe()
    pulse = Pulse(pipe, 0.001)
    pulse.start()
    pulse.loading(True)
    assert pipe.getvalue() == b"", "nobody asked anything"
    pulse.begin()
    assert pipe.line.wait(60)
    pulse.loading(False)
    pulse.answer({"request": "1"})
    lines = pipe.lines()
    assert lines[0] == {"alive": True, "loading": True}
    assert {"alive": True, "loading": False} in lines
    assert lines[-1] == {"request": "1"} and lines.count({"request": "1"}) == 1
    pulse.loading(True)
    assert pipe.lines() == lines


def test_loading_is_told_before_and_after_and_only_when_something_is_loaded(
    tmp_path: Path
) -> None:
    write_model(tmp_path / "a", threshold_onnx(0.5), id="a")
    told: list[bool] = []
    worker = Worker("cpu", Site(), loading=told.append)
    for _ in range(2):
        worker.answer(request_for("a", tmp_path))
    assert told == [True, False]


def test_a_writer_that_is_not_what_its_card_says_is_told_and_the_worker_goes_on(
    tmp_path: Path,
) -> None:
    weights = {"path": "model", "sha256": "0" * 64, "licence": "MIT", "source": "test"}
    writer_folder(tmp_path, writer="huggingface", endpoint=None, weights=weights)
    request = {
        "request": "draft", "writer": str(tmp_path), "messages": [],
        "content": (tmp_path / "writer.yaml").read_text(),
    }
    loading: list[bool] = []
    worker = Worker("cpu", Site(), loading=loading.append)
    assert worker.answer(request)["error"]["reason"] == "model.weights_missing"
    (tmp_path / "model").mkdir()
    told = worker.answer(request)
    assert (told["error"]["reason"], told["ends"]) == ("model.hash_mismatch", False)
    assert loading == [True, False] * 2
    clinical = Worker("cpu", Site(use="clinical")).answer(request)
    assert clinical["error"]["reason"] == "model.refused"


def test_models_are_let_go_of_until_the_rest_fits_beside_others(tmp_path: Path) -> None:
    for name in "ab":
        write_model(tmp_path / name, threshold_onnx(0.5), id=name)
    worker = Worker("cpu", Site(), 1000.0)
    for name in "ab":
        worker.answer(request_for(name, tmp_path))
    for warm in worker._models._warm.values():
        warm.held_mib = 100.0
    assert worker.answer({"request": "room", "beside_mib": 850.0})["evicted"] == ["a"]
    told = worker.answer(request_for("a", tmp_path) | {"beside_mib": 995.0})
    assert (told["loaded"], told["evicted"]) == (["a"], ["b"])
    assert worker.answer({"request": "room", "beside_mib": 2000.0})["evicted"] == ["a"]


def test_a_worker_that_waits_gives_back_what_its_last_job_left_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    monkeypatch.setattr(worker, "_IDLE_S", 0.01)
    monkeypatch.setattr(worker, "give_back", lambda: waiting.put(b"the next one"))
    assert worker._next(waiting) == b"the next one"
