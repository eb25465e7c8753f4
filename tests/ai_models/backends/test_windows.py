"""Windows lie where MONAI lays them, and are put together to the same bits."""

from __future__ import annotations

import pytest
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import sliding_window_inference

from ai_models.backends.windows import blended, gaussian, places

CPU = torch.device("cpu")


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("edges", [(16, 16), (17, 40), (16, 47, 33), (100, 16, 31)])
def test_windows_lie_where_monai_lays_them(edges: tuple[int, ...], overlap: float) -> None:
    roi = (16, 16, 16)[: len(edges)]
    step = [max(1, int(16 * (1 - overlap)))] * len(edges)
    assert places(edges, roi, overlap) == dense_patch_slices(edges, roi, step)


@pytest.mark.parametrize("roi", [(1, 7), (16, 24), (8, 96, 96), (20, 21, 5)])
def test_a_voxel_counts_what_it_counts_with_monai(roi: tuple[int, ...]) -> None:
    wanted = compute_importance_map(roi, mode="gaussian", sigma_scale=0.125)
    assert torch.equal(gaussian(roi, CPU)[0, 0], wanted)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "shape", [(1, 1, 40, 30, 17), (2, 3, 12, 90), (1, 2, 5, 30, 11), (3, 1, 16, 16)]
)
def test_the_answer_is_that_of_monai_to_the_last_bit(shape: tuple[int, ...], batch: int) -> None:
    torch.manual_seed(4)
    image = torch.rand(shape)
    roi = (16, 16, 16)[: len(shape) - 2]

    def network(windows: torch.Tensor) -> torch.Tensor:
        return torch.cat([windows.sin(), windows.cumsum(dim=-1)], dim=1)

    ours = blended(
        image, network, roi=roi, overlap=0.3, batch=batch, padding=-2.0, windows_on=CPU,
        sums_on=CPU,
    )
    theirs = sliding_window_inference(
        image, roi, batch, network, overlap=0.3, mode="gaussian", cval=-2.0
    )
    assert torch.equal(ours, theirs)
