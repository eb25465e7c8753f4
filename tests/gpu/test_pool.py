"""Two models on one GPU: both stay loaded, or make room, and what they take is measured."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ai_models.card import Card
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import Prediction, SegmentationPrediction
from dicom_node.events import Events
from dicom_node.pipeline.inference import InferencePool, resolve_devices
from dicom_node.pipeline.memory import key_of
from tests.gpu.device import DEVICE, ON_GPU, dice, needs_device, needs_gpu
from tests.gpu.lungs import chest, write_lungs
from tests.pipeline.odd_models import Holding, write_torchscript

pytestmark = [
    pytest.mark.gpu, needs_device, pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
HELD_MIB = 600
MIB = float(1 << 20)


class Told(Events):
    def __init__(self) -> None:
        super().__init__()
        self.what: list[tuple[str, str]] = []

    def worker_changed(self, device: str, what: str, reason: str = "") -> None:
        self.what.append((what, reason))


def models(told: Told, what: str) -> list[str]:
    return [reason for said, reason in told.what if said == f"model {what}"]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def cards(tmp_path: Path) -> tuple[Card, Card]:
    heavy = write_torchscript(tmp_path / "heavy", Holding(HELD_MIB))
    return write_lungs(tmp_path / "lungs", precision="bf16"), heavy


def pool_of(
    tmp_path: Path, told: Told, budget_mib: float | None = None
) -> Iterator[InferencePool]:
    pool = InferencePool(
        [DEVICE], Site(), tmp_path / "scratch", told, measured=tmp_path / "memory.json",
        device_memory_mib=None if budget_mib is None else {DEVICE: budget_mib},
    )
    yield pool
    pool.close()


@pytest.fixture
def pool(tmp_path: Path, told: Told) -> Iterator[InferencePool]:
    yield from pool_of(tmp_path, told)


@pytest.fixture
def small_pool(tmp_path: Path, told: Told) -> Iterator[InferencePool]:
    yield from pool_of(tmp_path, told, HELD_MIB + 400.0)


def timed(pool: InferencePool, card: Card, what: str) -> Prediction:
    began = time.monotonic()
    found = pool.predict(card, chest(), deadline_s=200)
    stages = ", ".join(f"{stage} {one:.3f}" for stage, one in found.seconds_by_stage.items())
    print(f"POOL {card.id} {what}: {time.monotonic() - began:.2f} s ({stages})")
    return found


def test_two_models_stay_warm_beside_each_other_and_are_measured(
    tmp_path: Path, pool: InferencePool, told: Told, cards: tuple[Card, Card]
) -> None:
    first = [timed(pool, card, "cold") for card in cards]
    second = [timed(pool, card, "warm") for card in cards]
    assert models(told, "loaded") == [card.id for card in cards], "and no time more"
    assert models(told, "evicted") == []
    for one, other in zip(first, second, strict=True):
        assert isinstance(one, SegmentationPrediction)
        assert isinstance(other, SegmentationPrediction)
        assert dice(one.label_map, other.label_map) == 1.0
    held = pool._workers[0].warm_mib
    assert set(held) == {key_of(card) for card in cards}
    print(f"POOL held MiB: {held}")
    if ON_GPU:
        assert HELD_MIB - 8 <= held[key_of(cards[1])] <= HELD_MIB + 300
        assert pool._workers[0].kind.startswith("NVIDIA")
        _, total = torch.cuda.mem_get_info(DEVICE)
        assert pool._workers[0].budget_mib == pytest.approx(0.9 * total / MIB)


@needs_gpu
def test_the_peak_that_is_kept_is_what_the_allocator_says(
    tmp_path: Path, pool: InferencePool, cards: tuple[Card, Card]
) -> None:
    card = cards[0]
    timed(pool, card, "to be measured")
    pool.close()
    by_kind = json.loads((tmp_path / "memory.json").read_text())["cards"][card.fingerprint]
    ((kind, sizes),) = by_kind.items()
    (kept_mib,) = sizes.values()
    predictor = Predictor(card, DEVICE)
    predictor.load()
    predictor.warm_up()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    predictor.backend.predict(prepare(chest(), card).image)
    measured_mib = torch.cuda.max_memory_allocated(DEVICE) / MIB
    predictor.close()
    print(f"POOL peak on {kind}: kept {kept_mib:.0f} MiB, torch's allocator {measured_mib:.0f} MiB")
    assert measured_mib * 0.8 - 32 <= kept_mib <= measured_mib * 1.5 + 600


def test_a_model_makes_room_for_another_where_the_budget_is_small(
    small_pool: InferencePool, told: Told, cards: tuple[Card, Card]
) -> None:
    light, heavy = cards
    for card in (heavy, light, heavy):
        timed(small_pool, card, "with little room")
    assert models(told, "evicted")[:1] == [heavy.id]
    assert models(told, "loaded").count(heavy.id) == 2


@needs_gpu
def test_auto_finds_the_device() -> None:
    assert resolve_devices("auto") == [f"cuda:{n}" for n in range(torch.cuda.device_count())]


@needs_gpu
def test_a_compiled_network_marks_the_same_lungs_in_a_worker(
    tmp_path: Path, pool: InferencePool, cards: tuple[Card, Card]
) -> None:
    compiled = write_lungs(tmp_path / "compiled", precision="bf16", compile=True)
    plain = timed(pool, cards[0], "as it is")
    found = [timed(pool, compiled, what) for what in ("compiled, cold", "compiled, warm")]
    assert isinstance(plain, SegmentationPrediction)
    for one in found:
        assert isinstance(one, SegmentationPrediction)
        assert dice(one.label_map, plain.label_map) >= 0.99
