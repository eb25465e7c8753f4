"""Which CUDA devices this process could use."""

from __future__ import annotations


def find_cuda_devices() -> list[str]:
    """``cuda:<n>`` for every device that torch or ONNX Runtime could use, empty without any."""
    try:
        import torch
    except ImportError:
        return []
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
