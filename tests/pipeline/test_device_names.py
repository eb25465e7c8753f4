"""What a worker is told of its device."""

from __future__ import annotations

import pytest

from dicom_node.pipeline.device_names import seen_from_inside

MIG = "MIG-d0e4c1a2-6b1f-5c0f-8f0e-3b1a2c3d4e5f"
LISTED = {"CUDA_VISIBLE_DEVICES": f"3, {MIG},GPU-7"}
ORDERED = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
BY_BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("device", "inherited", "inside", "visible", "more"),
    [
        ("cpu", {}, "cpu", "", {}),
        ("cpu", LISTED, "cpu", "", {}),
        (MIG, {}, "cuda:0", MIG, {}),
        (MIG, LISTED, "cuda:0", MIG, {}),
        ("GPU-8f1", LISTED, "cuda:0", "GPU-8f1", {}),
        ("cuda:0", {}, "cuda:0", "0", BY_BUS),
        ("cuda:2", {}, "cuda:0", "2", BY_BUS),
        ("cuda:2", ORDERED, "cuda:0", "2", {}),
        ("cuda:0", LISTED, "cuda:0", "3", {}),
        ("cuda:1", LISTED, "cuda:0", MIG, {}),
        ("cuda:2", LISTED, "cuda:0", "GPU-7", {}),
    ],
)
def test_a_worker_sees_its_device_and_no_other(
    device: str, inherited: dict[str, str], inside: str, visible: str, more: dict[str, str]
) -> None:
    changes = {"CUDA_VISIBLE_DEVICES": visible, **more}
    assert seen_from_inside(device, inherited) == (inside, changes)


def test_a_number_beyond_what_is_visible_is_left_for_cuda_to_refuse() -> None:
    assert seen_from_inside("cuda:3", LISTED) == ("cuda:3", {})
    assert seen_from_inside("cuda:0", {"CUDA_VISIBLE_DEVICES": ""}) == ("cuda:0", {})
