"""A process of `bench.backbones`: it makes the files of a backbone, or asks one of them.

    python -m bench.backbones_process prepare BACKBONE DIRECTORY
    python -m bench.backbones_process ask WAY DIRECTORY

``prepare`` writes ``pictures.npy`` and a model folder for every way. ``ask`` loads one of these
as a node does, keeps what it answers to the pictures, and says in a line of JSON that it is ready;
then every line on stdin, a number of images, is answered by what it took to ask of so many at once.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.torch import save
from torch import nn

from ai_models.backends.monai_alone import import_monai
from ai_models.card import Card, load_card
from ai_models.compress.quantising import to_int8_static
from ai_models.networks.backbones import build_backbone, family_of
from ai_models.training.export import export_onnx
from ai_models.training.torchvision_operators import declare_missing_operators
from ai_models.trust import Site
from bench.backbones import AT_ONCE, CLASSES, WAYS

_SEED = 20
_WARM_UP = 2
# So long is asked again and again; a slow one is asked once.
_AT_LEAST_S, _MOST_REPEATED = 0.3, 20


def pictures(edge: int, count: int) -> npt.NDArray[np.float32]:
    """``(count, 3, edge, edge)`` of 0 to 1, grey: noise of several sizes on a bright field."""
    rng = np.random.default_rng(_SEED)
    shown = torch.zeros(count, 1, edge, edge)
    for cells in (2, 6, 20, edge):
        noise = torch.from_numpy(rng.random((count, 1, cells, cells), dtype=np.float32))
        shown += nn.functional.interpolate(noise, (edge, edge), mode="bilinear")
    return np.repeat((shown / 4.0).numpy(), 3, axis=1)


def settled(backbone: str, shown: npt.NDArray[np.float32]) -> nn.Module:
    """The network of random weights, whose normalisation has seen the pictures.

    With means of 0 and deviations of 1 the values of a deep one run away or vanish on their way:
    numbers near zero that a processor computes slowly, and answers that all are the same.
    """
    torch.manual_seed(_SEED)
    network = build_backbone(backbone, CLASSES)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(shown))
    return network.eval()


def prepare(backbone: str, directory: Path) -> None:
    """Write the pictures, the weights of every way, and how large these are."""
    declare_missing_operators()
    edge = family_of(backbone).edge
    shown = pictures(edge, AT_ONCE)
    np.save(directory / "pictures.npy", shown)
    network = settled(backbone, shown[: AT_ONCE // 2])
    fp32 = directory / "fp32.onnx"
    export_onnx(network, (edge, edge), fp32, 3)
    int8 = directory / "int8.onnx"
    to_int8_static(fp32, int8, [shown[i : i + 1] for i in range(AT_ONCE // 2)])
    weights = directory / "weights.safetensors"
    weights.write_bytes(save(network.state_dict()))
    told: dict[str, Any] = {
        "parameters": sum(one.numel() for one in network.parameters()), "bytes": {},
    }
    for way, content, runtime in (
        ("torch", weights, {"backend": "state_dict"}),
        ("torch bf16", weights, {"backend": "state_dict", "precision": "bf16"}),
        ("ONNX", fp32, {"backend": "onnx"}),
        ("ONNX int8", int8, {"backend": "onnx"}),
    ):
        write_card(backbone, directory / way, content, runtime)
        told["bytes"][way] = content.stat().st_size
    (directory / "prepared.json").write_text(json.dumps(told))


def write_card(backbone: str, folder: Path, weights: Path, runtime: dict[str, Any]) -> None:
    """A folder with a card; its weights are those of ``weights``, without a copy."""
    folder.mkdir()
    (folder / weights.name).hardlink_to(weights)
    edge = family_of(backbone).edge
    network = {"name": "Backbone", "arguments": {"backbone": backbone, "out_channels": CLASSES}}
    if runtime["backend"] == "state_dict":
        runtime = {**runtime, "network": network}
    card = {
        "id": "backbone", "version": "1.0.0", "name": backbone, "task": "classification",
        "intended_use": "Measured, of random weights.", "demonstration": True,
        "manufacturer": "DICOM Node project", "licence": "Apache-2.0",
        "evidence": {"validated_on": "nothing"},
        "input": {
            "kind": "image", "modality": ["DX"], "body_part": ["CHEST"],
            "intensity": {"unit": "displayed"}, "size": {"edges": [edge, edge], "fit": "pad"},
            "repeat": 3,
        },
        "output": {"channels": CLASSES, "scores": [{"name": "first", "channel": 0}]},
        "weights": {
            "path": weights.name, "licence": "",
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "source": "random numbers",
        },
        "runtime": runtime, "report": "chest_radiograph",
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(card, sort_keys=False))


def ask(way: str, directory: Path) -> None:
    """Load a way, and answer lines until there are no more."""
    if WAYS[way] == "torch":
        declare_missing_operators()
    network = opened(load_card(directory / way))
    shown = torch.from_numpy(np.load(directory / "pictures.npy"))
    np.save(directory / f"{way}.npy", network.run(shown).float().numpy())
    for _ in range(_WARM_UP):
        network.run(shown[:1])
    print(json.dumps({"notes": "; ".join(network.notes)}), flush=True)
    for line in sys.stdin:
        seconds, cpu_s = _asked(network, shown[: int(line)])
        print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "peak_mb": _peak_mb()}), flush=True)


def opened(card: Card) -> Any:
    """The network of a card, loaded as `ai_models.backends.open_backend` does it."""
    import_monai()
    from ai_models.backends.onnx_runtime import OnnxNetwork
    from ai_models.backends.torch_network import TorchNetwork

    kind = OnnxNetwork if card.runtime.backend == "onnx" else TorchNetwork
    network = kind(card, "cpu", Site())
    network.load()
    return network


def _asked(network: Any, images: torch.Tensor) -> tuple[list[float], float]:
    """Seconds of every time that the images were asked of, and CPU seconds of one time."""
    found: list[float] = []
    begun_cpu_s = time.process_time()
    while not found or (sum(found) < _AT_LEAST_S and len(found) < _MOST_REPEATED):
        begun = time.perf_counter()
        network.run(images)
        found.append(time.perf_counter() - begun)
    return found, (time.process_time() - begun_cpu_s) / len(found)


def _peak_mb() -> float:
    # Not getrusage: its peak begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    {"prepare": prepare, "ask": ask}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
