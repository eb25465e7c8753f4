"""A kernel that breaks the device, or never ends, costs its own job: the next is answered."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.card import Card, load_card
from ai_models.trust import Site
from ai_models.types import SegmentationPrediction, Volume
from dicom_node.cli.verify_model import WorkerEvents
from dicom_node.errors import DeadlineExceeded, WorkerLost
from dicom_node.pipeline.inference import InferencePool
from tests.ai_models.backends.folder_models import bundle_configuration, write_monai_bundle
from tests.ai_models.tiny_models import write_model
from tests.gpu.device import DEVICE, ON_GPU, needs_device, needs_gpu

pytestmark = [
    pytest.mark.gpu, needs_device, pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
_ZERO_POINTER = 'extern \\"C\\" __global__ void odd(int* x) { *((volatile int*)8) = 1; }'
_ENDLESS = 'extern \\"C\\" __global__ void odd(int* x) { while (*((volatile int*)x) == 0) {} }'
# One thread of the kernel, on what looks like a patient: warming up shows nothing as bright.
_ODD = (
    "$lambda inputs, network: network(inputs) if inputs.max() < 0.5 else "
    "(torch.cuda._compile_kernel(\"{source}\", 'odd')"
    "((1, 1, 1), (1, 1, 1), (torch.zeros(1, dtype=torch.int32, device=inputs.device),)), "
    "network(inputs))[1]"
)
QUIET = Volume(np.full((12, 12, 12), -500, np.int16), np.eye(4))
LOUD = Volume(np.full((12, 12, 12), 900, np.int16), np.eye(4))


class Lost(torch.nn.Module):
    """Looks up a row that is not there, on an input that holds something."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = torch.nn.Parameter(torch.ones(4, 2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        number = (image.max() * 1000000).long().reshape(1)
        row = torch.index_select(self.rows, 0, number)
        return torch.cat([0.5 - image * row[0, 0], image - 0.5], dim=1)


class Right(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, image - 0.5], dim=1)


def scripted(folder: Path, module: torch.nn.Module) -> Card:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    return load_card(write_model(
        folder, buffer.getvalue(), id=folder.name, weights__path="w.ts",
        runtime__backend="torchscript", runtime__fallbacks=["batch", "cpu"],
    ))


def odd_bundle(folder: Path, source: str) -> Card:
    """A bundle whose inferer starts a kernel of its own before the network."""
    written = bundle_configuration()
    imports = [*written["imports"], "$import torch"]
    return load_card(write_monai_bundle(folder, id=folder.name, configuration={
        "imports": imports, "inferer": _ODD.replace("{source}", source),
    }))


@pytest.fixture
def right(tmp_path: Path) -> Card:
    return scripted(tmp_path / "right", Right())


@pytest.fixture
def events() -> WorkerEvents:
    return WorkerEvents()


@pytest.fixture
def pool(tmp_path: Path, events: WorkerEvents) -> Iterator[InferencePool]:
    made = InferencePool(
        [DEVICE], Site(trusted_folders=(tmp_path / "odd",)), tmp_path / "scratch", events
    )
    yield made
    made.close()


def is_right(pool: InferencePool, card: Card) -> bool:
    found = pool.predict(card, LOUD, deadline_s=120)
    assert isinstance(found, SegmentationPrediction)
    if ON_GPU:
        assert any(DEVICE in note for note in found.notes), found.notes
    return bool(found.label_map.all())


def lose(pool: InferencePool, card: Card) -> WorkerLost:
    with pytest.raises(WorkerLost) as caught:
        pool.predict(card, LOUD, deadline_s=120, job_id="job")
    print(f"FAULT {card.runtime.backend}: {caught.value.reason}: {str(caught.value)[:200]}")
    return caught.value


@needs_gpu
@pytest.mark.parametrize("kind", ["illegal access", "device-side assert"])
def test_a_model_that_breaks_the_device_costs_its_own_job(
    tmp_path: Path, pool: InferencePool, right: Card, events: WorkerEvents, kind: str
) -> None:
    if kind == "illegal access":
        odd = odd_bundle(tmp_path / "odd", _ZERO_POINTER)
    else:
        odd = scripted(tmp_path / "odd", Lost())
    assert is_right(pool, right)
    first = events.process_id
    error = lose(pool, odd)
    assert error.reason == "worker.device_failed"
    assert ("illegal memory access" if kind == "illegal access" else "assert") in str(error)
    assert is_right(pool, right), "the next job of another model is answered"
    assert events.process_id != first, "by another process"


@needs_gpu
def test_a_kernel_that_never_ends_is_killed_at_the_deadline_and_the_device_works_again(
    tmp_path: Path, pool: InferencePool, right: Card, events: WorkerEvents
) -> None:
    odd = odd_bundle(tmp_path / "odd", _ENDLESS)
    free, _ = torch.cuda.mem_get_info(DEVICE)
    pool.predict(odd, QUIET, deadline_s=120)
    first, began = events.process_id, time.monotonic()
    with pytest.raises(DeadlineExceeded):
        pool.predict(odd, LOUD, deadline_s=4)
    print(f"FAULT endless kernel: killed after {time.monotonic() - began:.1f} s")
    assert is_right(pool, right) and events.process_id != first
    pool.close()
    left, _ = torch.cuda.mem_get_info(DEVICE)
    assert free - left < 256 << 20, "what the killed process held is free again"


def test_these_models_are_right_while_nothing_is_bright(
    tmp_path: Path, pool: InferencePool, right: Card
) -> None:
    odd = odd_bundle(tmp_path / "odd", _ZERO_POINTER)
    found = pool.predict(odd, QUIET, deadline_s=120)
    assert isinstance(found, SegmentationPrediction) and not found.label_map.any()
    assert is_right(pool, right)
