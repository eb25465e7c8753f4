"""What automatic mixed precision saves of a GPU's memory while a network of the chest learns."""

from __future__ import annotations

import pytest
import torch

from ai_models.networks.res_att_unet import ResAttUNet
from tests.gpu.device import DEVICE, needs_gpu

pytestmark = [pytest.mark.gpu, needs_gpu]
_MOST_OF_FP32 = 0.65


def _peak_bytes(*, bf16: bool) -> int:
    torch.manual_seed(3)
    network = ResAttUNet(1, 2, (16, 32, 64, 128, 256)).to(DEVICE)
    image = torch.randn(2, 1, 96, 96, 96, device=DEVICE)
    truth = (image[:, 0] > 1.0).long()
    for _ in range(2):  # the first step also measures which algorithms there are
        torch.cuda.reset_peak_memory_stats(DEVICE)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=bf16):
            logits = network(image)
        torch.nn.functional.cross_entropy(logits.float(), truth).backward()
        network.zero_grad()
    peak = int(torch.cuda.max_memory_allocated(DEVICE))
    del network, image, truth, logits
    torch.cuda.empty_cache()
    return peak


def test_a_step_in_bf16_takes_at_most_two_thirds_of_the_memory_of_one_in_fp32() -> None:
    full = _peak_bytes(bf16=False)
    half = _peak_bytes(bf16=True)

    print(f"peak {full / 2**20:.0f} MiB in fp32, {half / 2**20:.0f} in bf16: {half / full:.2f}")
    assert half / full <= _MOST_OF_FP32
