"""When memory does not suffice, less of it is used, and the result says how."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends.tiled import TiledBackend
from tests.ai_models.backends.function_networks import Simple, backend_of, image_of, two

EVERYTHING = ("batch", "offload", "roi", "half", "cpu")
WINDOWS: dict[str, Any] = {"runtime__roi": [64, 64, 64], "runtime__batch": 4}


class Tight:
    """A network for which more than so many voxels at once are too many."""

    def __init__(self, voxels: int) -> None:
        self.voxels = voxels
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.asked.append(tuple(windows.shape))
        if windows.numel() > self.voxels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return two(windows)


def test_less_memory_gives_the_same_numbers_and_says_how(tmp_path: Path) -> None:
    tight = Tight(64**3)
    backend = backend_of(
        tmp_path / "m", tight, EVERYTHING, runtime__fallbacks=["batch"], **WINDOWS)
    image = image_of(1, 64, 64, 200)
    answer = backend.predict(image)
    assert answer.scores is not None
    reference = backend_of(tmp_path / "n", two, **WINDOWS).predict(image).scores
    np.testing.assert_allclose(answer.scores, reference, atol=1e-6)
    assert [shape[0] for shape in tight.asked] == [4, 2, 1, 1, 1, 1]
    assert answer.parameters == {}
    assert answer.notes == (
        "a function", "memory did not suffice: computed one window at a time")


def test_smaller_windows_are_said_in_the_results_identity(tmp_path: Path) -> None:
    tight = Tight(32**3)
    backend = backend_of(
        tmp_path / "m", tight, EVERYTHING, runtime__fallbacks=["batch", "roi"], **WINDOWS)
    answer = backend.predict(image_of(1, 64, 64, 64))
    assert answer.parameters == {"fall_back": "roi"}
    assert "in windows of half the size" in answer.notes[-1]
    assert tight.asked[-1] == (1, 1, 32, 32, 32)


def test_rung_is_kept_for_inputs_as_large_and_not_for_smaller_ones(tmp_path: Path) -> None:
    tight = Tight(64**3)
    backend = backend_of(
        tmp_path / "m", tight, EVERYTHING, runtime__fallbacks=["batch"], **WINDOWS)
    backend.predict(image_of(1, 64, 64, 200))
    tight.asked.clear()
    backend.predict(image_of(1, 64, 64, 201))
    assert {shape[0] for shape in tight.asked} == {1}
    tight.asked.clear()
    answer = backend.predict(image_of(1, 64, 64, 64))
    assert [shape[0] for shape in tight.asked] == [1]
    assert answer.notes == ("a function",)


def test_half_and_cpu_are_asked_of_the_network(tmp_path: Path) -> None:
    backend: TiledBackend

    def picky(windows: torch.Tensor) -> torch.Tensor:
        network = backend.networks[0]
        assert isinstance(network, Simple)
        if network.settled[-1] != (False, True):
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return two(windows)

    backend = backend_of(
        tmp_path / "m", picky, EVERYTHING, runtime__fallbacks=["half", "cpu"])
    answer = backend.predict(image_of(1, 16, 16, 16))
    network = backend.networks[0]
    assert isinstance(network, Simple)
    assert network.settled == [(False, False), (True, False), (False, True)]
    assert answer.parameters == {}
    assert answer.notes[-1] == "memory did not suffice: computed on the CPU"


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate "
                 "memory: you tried to allocate 400 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError("Failed to allocate memory for requested buffer of size 400"),
])
def test_when_no_rung_is_left_the_librarys_own_error_comes_out(
    tmp_path: Path, error: Exception
) -> None:
    asked = []

    def never(windows: torch.Tensor) -> torch.Tensor:
        asked.append(len(windows))
        raise error

    backend = backend_of(
        tmp_path / "m", never, EVERYTHING, runtime__fallbacks=["batch"], **WINDOWS)
    with pytest.raises(type(error)) as caught:
        backend.predict(image_of(1, 64, 64, 200))
    assert caught.value is error
    assert asked == [4, 2, 1]


def test_other_errors_do_not_go_down_the_ladder(tmp_path: Path) -> None:
    asked = []

    def broken(windows: torch.Tensor) -> torch.Tensor:
        asked.append(len(windows))
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    backend = backend_of(tmp_path / "m", broken, EVERYTHING, **WINDOWS)
    with pytest.raises(RuntimeError, match="illegal"):
        backend.predict(image_of(1, 64, 64, 200))
    assert asked == [4]


def test_what_was_computed_in_vain_is_let_go_before_the_next_attempt(tmp_path: Path) -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def tight(windows: torch.Tensor) -> torch.Tensor:
        if len(windows) > 1:
            large = torch.zeros(1000)
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert all(reference() is None for reference in held)
        return two(windows)

    backend = backend_of(
        tmp_path / "m", tight, EVERYTHING, runtime__fallbacks=["batch"], **WINDOWS)
    backend.predict(image_of(1, 64, 64, 200))
    assert len(held) == 2
