"""Which words of which library mean a lack of memory, and which a GPU that failed."""

from __future__ import annotations

import pytest

from ai_models.backends.protocol import is_device_failure, is_out_of_memory
from ai_models.types import ModelError

ILLEGAL = (
    "CUDA error: an illegal memory access was encountered\n"
    "Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com/cuda/cuda-runtime-api/"
    "group__CUDART__TYPES.html for more information.\nCUDA kernel errors might be asynchronously "
    "reported at some other API call, so the stacktrace below might be incorrect."
)


class AcceleratorError(RuntimeError):
    """As torch has it, which no processor raises."""


@pytest.mark.parametrize(
    "error",
    [
        AcceleratorError(ILLEGAL),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
        RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0"),
    ],
)
def test_a_gpu_that_failed_is_known_and_no_lack_of_memory(error: Exception) -> None:
    assert is_device_failure(error) and not is_out_of_memory(error)
    wrapped = ModelError("the network of the bundle failed")
    wrapped.__cause__ = error
    assert is_device_failure(wrapped) and not is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        MemoryError(),
    ],
)
def test_a_gpu_without_memory_has_not_failed(error: Exception) -> None:
    assert is_out_of_memory(error) and not is_device_failure(error)


def test_a_model_that_fails_by_itself_is_neither() -> None:
    for error in (None, RuntimeError("size mismatch"), ValueError("an illegal value")):
        assert not is_out_of_memory(error) and not is_device_failure(error)
