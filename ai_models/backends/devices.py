"""Which CUDA devices this process could use, and what it would use them with."""

from __future__ import annotations

from typing import Any


def find_cuda_devices() -> list[str]:
    """``cuda:<n>`` for every device that torch or ONNX Runtime could use, empty without any."""
    try:
        import torch
    except ImportError:
        return []
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def describe_devices() -> dict[str, Any]:
    """Versions of the libraries, what each could use, and every CUDA device with its memory."""
    found: dict[str, Any] = {"torch": "", "cuda": "", "devices": [], "onnxruntime": ""}
    found["providers"] = []
    try:
        import torch
    except ImportError:
        pass
    else:
        found["torch"], found["cuda"] = str(torch.__version__), str(torch.version.cuda or "")
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            found["devices"].append({
                "name": torch.cuda.get_device_name(number),
                "free_mib": free >> 20, "total_mib": total >> 20,
            })
    try:
        import onnxruntime
    except ImportError:
        return found
    found["onnxruntime"] = str(onnxruntime.__version__)
    found["providers"] = list(onnxruntime.get_available_providers())
    return found
