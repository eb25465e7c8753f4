"""Memory that really does not suffice: each rung of the ladder, and the answer on it.

The rest of the GPU's memory is taken, so that the driver itself refuses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from ai_models.backends.fallbacks import Reached, Rung
from ai_models.backends.protocol import NetworkInput
from ai_models.backends.tiled import TiledBackend, free_memory
from ai_models.backends.torch_network import TorchNetwork
from ai_models.card import Card, load_card
from ai_models.networks.meshnet import MeshNet
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import FloatArray, SegmentationPrediction, Volume
from tests.ai_models.backends.function_networks import label
from tests.ai_models.tiny_models import write_model
from tests.gpu.device import DEVICE, GIB, needs_gpu, room_of

pytestmark = [pytest.mark.gpu, needs_gpu, pytest.mark.timeout(600)]
LABELS, SHAPE, ROI = 24, (128, 224, 224), (128, 128, 128)
MIB = 1 << 20


def write_meshnet(folder: Path, labels: int, dilations: list[int], **changes: Any) -> Card:
    arguments = {"in_channels": 1, "channels": 32, "classes": labels + 1, "dilations": dilations}
    if not dilations:
        arguments["channels"] = 1
    torch.manual_seed(4)
    module = MeshNet(**arguments)
    return load_card(write_model(
        folder, save(module.state_dict()), weights__path="w.safetensors",
        runtime={"backend": "state_dict", "batch": 4, "overlap": 0.25, "roi": list(ROI),
                 "network": {"name": "MeshNet", "arguments": arguments}, **changes},
        output__labels=[label(value) for value in range(1, labels + 1)],
    ))


@pytest.fixture(scope="module")
def image() -> NetworkInput:
    array = np.random.default_rng(9).random((1, *SHAPE), dtype=np.float32)
    return NetworkInput(array, np.eye(4), (2.0, 2.0, 2.0))


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiledBackend]:
    card = write_meshnet(
        tmp_path_factory.mktemp("ladder") / "m", LABELS, [1, 2],
        fallbacks=["batch", "offload", "half", "roi", "cpu"],
    )
    made = TiledBackend(card, DEVICE, Site(), TorchNetwork)
    made.load()
    made.warm_up()
    yield made
    made.close()


def on_rung(
    backend: TiledBackend, image: NetworkInput, rung: Rung, number: int
) -> tuple[FloatArray, float]:
    """The scores on this rung with all memory there is, and what it took at most."""
    free_memory()
    before = torch.cuda.memory_reserved(DEVICE)
    torch.cuda.reset_peak_memory_stats(DEVICE)
    began = time.monotonic()
    scores = backend._answer(image, rung, number).scores
    taken = torch.cuda.max_memory_reserved(DEVICE) - before
    print(f"LADDER rung {number} {rung.taken}: {taken / MIB:.0f} MiB, "
          f"{time.monotonic() - began:.2f} s")
    backend._reached = Reached()
    assert scores is not None
    return scores, taken


def test_each_rung_is_reached_when_the_driver_refuses_and_answers_as_with_room(
    backend: TiledBackend, image: NetworkInput
) -> None:
    rungs = backend._rungs
    assert [rung.taken[-1:] for rung in rungs] == [
        (), ("batch",), ("batch",), ("offload",), ("half",), ("roi",), ("cpu",)]
    known = [on_rung(backend, image, rung, number) for number, rung in enumerate(rungs)]
    seen: set[str] = set()
    least = known[0][1]
    for number in range(1, len(rungs)):
        needed = known[number][1]
        is_last = number + 1 == len(rungs)
        if not is_last and needed > 0.85 * least:
            continue  # memory that this rung would not save either
        room = 6 * MIB if is_last else int(needed + 0.3 * (least - needed))
        least = min(least, needed)
        backend._reached = Reached()
        began = time.monotonic()
        with room_of(room):
            answer = backend.predict(image)
        reached = rungs.index(backend._last)
        assert answer.scores is not None
        same = np.array_equal(answer.scores, known[reached][0])
        off = float(np.abs(answer.scores - known[reached][0]).max())
        print(f"LADDER room {room / MIB:.0f} MiB: rung {reached} (expected {number}) "
              f"{backend._last.taken} in {time.monotonic() - began:.2f} s, "
              f"to the last bit: {same}, off by {off:.1e}; {answer.notes[-1]}; {answer.parameters}")
        assert 0 < reached <= number + 1
        assert off <= 1e-4
        assert answer.notes[-1].startswith("memory did not suffice")
        assert answer.parameters.get("fall_back", "").split() == list(backend._last.changing)
        if not backend._last.changing:
            np.testing.assert_allclose(answer.scores, known[0][0], atol=1e-5, rtol=0)
        seen |= set(backend._last.taken)
    assert seen == {"batch", "offload", "roi", "half", "cpu"}


def test_many_labels_larger_than_the_memory_are_summed_on_the_host(tmp_path: Path) -> None:
    card = write_meshnet(
        tmp_path / "m", 120, [], roi=[40, 96, 96], fallbacks=["batch", "offload", "roi"]
    )
    random = np.random.default_rng(2).integers(-1000, 1000, (40, 512, 512), dtype=np.int16)
    volume = Volume(random, np.diag([2.0, 2.0, 2.0, 1.0]))
    predictor = Predictor(card, DEVICE)
    predictor.load()
    predictor.warm_up()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    began = time.monotonic()
    whole = predictor.predict(volume)
    print(f"LADDER 120 labels of 40x512x512 with room: {time.monotonic() - began:.1f} s, "
          f"{torch.cuda.max_memory_allocated(DEVICE) / MIB:.0f} MiB")
    began = time.monotonic()
    with room_of(4 * GIB):
        found = predictor.predict(volume)
    stages = {stage: round(one, 2) for stage, one in found.seconds_by_stage.items()}
    print(f"LADDER 120 labels in 4 GiB: {time.monotonic() - began:.1f} s {stages}; {found.notes}")
    predictor.close()
    assert any("sums in the host's memory" in note for note in found.notes)
    assert "fall_back" not in found.algorithm.parameters
    assert isinstance(whole, SegmentationPrediction) and isinstance(found, SegmentationPrediction)
    np.testing.assert_array_equal(found.label_map, whole.label_map)
