"""What a job is predicted to take: measured before told before estimated, and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.card import Card, load_card
from ai_models.types import Image, Volume
from dicom_node.errors import StorageFailed
from dicom_node.pipeline.memory import MeasuredMemory, estimated_mib, voxels_of
from tests.ai_models.tiny_models import threshold_onnx, write_model

GPU = "NVIDIA H100 80GB HBM3"
MILLION = 1_000_000


def card_of(folder: Path, **changes: Any) -> Card:
    return load_card(write_model(folder / str(len(list(folder.iterdir()))), b"w" * 9, **changes))


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return load_card(write_model(tmp_path / "bright", threshold_onnx(0.5)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.json"


def test_an_input_is_counted_at_the_grid_of_the_card(tmp_path: Path, card: Card) -> None:
    volume = Volume(np.zeros((10, 20, 30), dtype=np.int16), np.diag([4.0, 1.0, 1.0, 1.0]))
    assert voxels_of(card, volume) == 10 * 20 * 30 * 4 // 8
    as_it_is = card_of(tmp_path, input__spacing_mm=None)
    assert voxels_of(as_it_is, volume) == 6000
    assert voxels_of(card, Image(np.zeros((8, 9), dtype=np.uint8), None)) == 72
    assert voxels_of(card, Volume(volume.array, np.zeros((4, 4)))) == 1, "the model refuses it"


def test_an_estimate_grows_with_weights_windows_and_volume(tmp_path: Path, card: Card) -> None:
    small = estimated_mib(card, MILLION)
    assert estimated_mib(card, 100 * MILLION) > small + 1000
    assert estimated_mib(card_of(tmp_path, runtime__batch=64), MILLION) > small + 100
    torch = {
        "runtime__backend": "torchscript", "weights__path": "w.ts", "runtime__batch": 64
    }
    full, half = (
        card_of(tmp_path, **torch, runtime__precision=precision) for precision in ("fp32", "fp16")
    )
    assert estimated_mib(half, MILLION) < estimated_mib(full, MILLION)
    heavy = load_card(write_model(tmp_path / "heavy", b"w" * (50 << 20), id="heavy"))
    assert estimated_mib(heavy, MILLION) == pytest.approx(small + 50, abs=1)
    (heavy.folder / "weights.onnx").unlink()
    assert estimated_mib(heavy, MILLION) == pytest.approx(small, abs=1)


def test_measured_goes_before_told_and_told_before_estimated(tmp_path: Path) -> None:
    told, memory = card_of(tmp_path, runtime__device_memory_mib=7000), MeasuredMemory(None)
    assert memory.predicted_mib(told, MILLION, GPU) == 7000
    memory.keep(told, MILLION, GPU, 900.0)
    assert memory.predicted_mib(told, MILLION, GPU) == 900
    assert memory.predicted_mib(told, MILLION, "cpu") == 7000
    memory.keep(told, MILLION, "cpu", 1200.0)
    assert memory.predicted_mib(told, MILLION, "") == 1200, "of a device that nobody knows"


def test_a_larger_input_is_predicted_larger_and_a_smaller_one_never_beyond_what_was_measured(
    card: Card,
) -> None:
    memory = MeasuredMemory(None)
    memory.keep(card, MILLION, GPU, 1000.0)
    assert memory.predicted_mib(card, MILLION // 10, GPU) == 1000
    assert memory.predicted_mib(card, 4 * MILLION, GPU) == pytest.approx(4000, rel=0.2)
    memory.keep(card, 4 * MILLION, GPU, 1800.0)
    assert memory.predicted_mib(card, 2 * MILLION, GPU) == 1800
    assert memory.predicted_mib(card, MILLION, GPU) == 1000


def test_what_was_measured_survives_the_process(card: Card, path: Path) -> None:
    MeasuredMemory(path).keep(card, MILLION, GPU, 1234.0)
    again = MeasuredMemory(path)
    assert again.predicted_mib(card, MILLION, GPU) == 1234
    again.keep(card, MILLION, GPU, 1000.0)
    assert MeasuredMemory(path).predicted_mib(card, MILLION, GPU) == 1234, "the most counts"


def test_what_is_no_news_is_not_written(card: Card, path: Path) -> None:
    memory = MeasuredMemory(path)
    memory.keep(card, MILLION, GPU, 1000.0)
    path.unlink()
    for peak in (999.0, 1010.0, float("nan"), -1.0):
        memory.keep(card, MILLION, GPU, peak)
    assert not path.exists()
    memory.keep(card, MILLION, GPU, 1100.0)
    assert path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00\xff\x00", b"[]", b"{}", b'{"version": 2, "cards": {}}',
        b'{"version": 1, "cards": {"a": 3}}', b'{"version": 1, "cards": {"a": {"cpu": {}}}}',
        b'{"version": 1, "cards": {"a": {"cpu": {"20": "much"}}}}',
        b'{"version": 1, "cards": {"a": {"cpu": {"20": NaN}}}}',
        b'{"version": 1, "cards": {"a": {"cpu": {"-1": 3}}}}',
        b'{"version": 1, "cards": {"a": {"cpu": {"20": 1.0',
    ],
)
def test_a_damaged_file_is_begun_anew(card: Card, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    memory = MeasuredMemory(path)
    assert memory.predicted_mib(card, MILLION, "cpu") == estimated_mib(card, MILLION)
    memory.keep(card, MILLION, "cpu", 77.0)
    assert MeasuredMemory(path).predicted_mib(card, MILLION, "cpu") == 77


def test_a_disk_that_refuses_is_told_and_the_figure_is_known_all_the_same(
    card: Card, tmp_path: Path
) -> None:
    memory = MeasuredMemory(tmp_path / "not there" / "memory.json")
    with pytest.raises(StorageFailed):
        memory.keep(card, MILLION, "cpu", 77.0)
    assert memory.predicted_mib(card, MILLION, "cpu") == 77


def test_the_file_does_not_grow_for_ever(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.pipeline.memory._MOST_CARDS", 2)
    memory = MeasuredMemory(path)
    cards = [card_of(tmp_path, version=str(number)) for number in range(3)]
    for one in (*cards, cards[1]):
        memory.keep(one, MILLION, "cpu", 50.0)
    kept = json.loads(path.read_text())["cards"]
    assert set(kept) == {cards[1].fingerprint, cards[2].fingerprint}
