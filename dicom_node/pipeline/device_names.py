"""Names of devices as an administrator writes them, and what a worker process is told of its own.

``cpu``, ``cuda:0``, ``GPU-<uuid>`` and ``MIG-<uuid>`` (as ``nvidia-smi -L`` prints them). Each
worker sees its one device and no other, so that in it a CUDA device is always ``cuda:0``, and a
library that takes whatever it finds finds the right one.
"""

from __future__ import annotations

from collections.abc import Mapping

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"


def seen_from_inside(
    device: str, inherited: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The device's name in its worker, and what is to be changed in the inherited environment.

    ``cuda:<n>`` counts within an inherited ``CUDA_VISIBLE_DEVICES``, as it does for CUDA itself;
    without one it counts as ``nvidia-smi`` does. A number beyond the list stays as it is, so that
    CUDA says itself that there is none.
    """
    if device == "cpu":
        return "cpu", {VISIBLE: ""}
    if not device.startswith("cuda:"):
        return "cuda:0", {VISIBLE: device}
    number = int(device.partition(":")[2])
    if VISIBLE not in inherited:
        order = {} if ORDER in inherited else {ORDER: "PCI_BUS_ID"}
        return "cuda:0", {VISIBLE: str(number), **order}
    listed = [one.strip() for one in inherited[VISIBLE].split(",") if one.strip()]
    if number >= len(listed):
        return device, {}
    return "cuda:0", {VISIBLE: listed[number]}
