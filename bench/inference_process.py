"""One way to segment one chest, in a process of its own: what it cost, as one line of JSON.

    python -m bench.inference_process WAY DIRECTORY DEVICE

DIRECTORY holds ``volume.npy`` and ``affine.npy`` and a model folder for every card, as
`bench.inference` makes them; the label map is written there. Loading and warming up come before
the clock. Every way goes through the same preparation and the same way back; what differs is
what runs the network. It begins when a line comes on stdin, so that several processes can start
beside each other and measure one after another.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference

from ai_models.backends.onnx_runtime import OnnxNetwork
from ai_models.backends.protocol import Answer, NetworkInput
from ai_models.backends.torch_network import TorchNetwork
from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import SegmentationPrediction, Volume

TORCH_AS_IT_COMES = "MONAI, torch as it comes"
# The way, the folder of its card, and whether MONAI alone runs the network.
WAYS: dict[str, tuple[str, bool]] = {
    "node, ONNX": ("onnx", False),
    "node, ONNX, no foreground crop": ("onnx-whole", False),
    "MONAI, ONNX": ("onnx-whole", True),
    "node, torch": ("torch", False),
    "node, torch, no foreground crop": ("torch-whole", False),
    "MONAI, torch": ("torch-whole", True),
    "node, torch bf16": ("torch-bf16", False),
}
# Of a GPU: ONNX Runtime's figures there are those of another package, which not everyone has.
CUDA_WAYS: dict[str, tuple[str, bool]] = {
    **{way: one for way, one in WAYS.items() if "ONNX" not in way},
    TORCH_AS_IT_COMES: ("torch-whole", True),
    "node, torch fp16": ("torch-fp16", False),
    "node, torch bf16, channels_last": ("torch-bf16-last", False),
    "node, torch bf16, 8 windows at once": ("torch-bf16-batch", False),
    "node, torch bf16, torch.compile": ("torch-bf16-compile", False),
}
# On a GPU a first volume comes before the clock as well: libraries settle on how to compute. What
# then takes a second, or milliseconds, is measured several times.
_VOLUMES, _REPEATED = 3, 7


class PlainMonai:
    """What a developer writes: `sliding_window_inference` over the whole, and the softmax of it."""

    def __init__(self, predictor: Predictor) -> None:
        card = predictor.card
        kind = OnnxNetwork if card.runtime.backend == "onnx" else TorchNetwork
        self._card = card
        self._network: Any = kind(card, predictor.device, Site())
        self._network.load()

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._network.notes)

    @torch.inference_mode()
    def predict(self, image: NetworkInput) -> Answer:
        runtime = self._card.runtime
        inputs = torch.from_numpy(np.ascontiguousarray(image.array))[None].to(self._network.device)
        logits = sliding_window_inference(
            inputs, runtime.roi or (), runtime.batch, self._network.run,
            overlap=runtime.overlap, mode="gaussian", cval=image.background,
        )
        scores = torch.softmax(logits, dim=1)[0]  # type: ignore[arg-type]
        return Answer(scores=scores.cpu().numpy(), notes=self.notes)

    def warm_up(self) -> None:
        self._network.run(torch.zeros(1, 1, *self._card.runtime.roi or ()).to(self._network.device))


def prepared(way: str, folder: str) -> Callable[[], dict[str, float]]:
    """One way on the CPU, loaded and warmed up, to be done again and again (`bench.child`)."""
    directory = Path(folder)
    predictor = _ready(way, directory, "cpu")
    volume = Volume(np.load(directory / "volume.npy"), np.load(directory / "affine.npy"))

    def work() -> dict[str, float]:
        found, _ = _one(predictor, volume)
        return {"value": found["infer_s"], "all_s": found["seconds"]}

    work()
    return work


def network_alone(folder: str) -> Callable[[], None]:
    """The ONNX network on every window that the node gives it for the volume, and nothing else."""
    directory, seen = Path(folder), []
    predictor = _ready("node, ONNX", directory, "cpu")
    volume = Volume(np.load(directory / "volume.npy"), np.load(directory / "affine.npy"))
    run = OnnxNetwork.run

    def noted(network: OnnxNetwork, windows: torch.Tensor) -> torch.Tensor:
        seen.append((network, windows.clone()))
        return run(network, windows)

    OnnxNetwork.run = noted  # type: ignore[method-assign]
    predictor.predict(volume)
    OnnxNetwork.run = run  # type: ignore[method-assign]
    if not seen:
        raise RuntimeError("the network was given no window")

    def work() -> None:
        for network, windows in seen:
            run(network, windows)

    return work


def main() -> None:
    """Measure the way that is named."""
    way, directory, device = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if not sys.stdin.readline():
        sys.exit("nobody waits for it any more")
    begun = time.perf_counter()
    predictor = _ready(way, directory, device)
    load_s = time.perf_counter() - begun
    infer_cpu_s, images = _clocked(predictor)
    volume = Volume(np.load(directory / "volume.npy"), np.load(directory / "affine.npy"))
    before_mb = _peak_mb()
    if device == "cpu":
        found = [_one(predictor, volume)]
    else:
        first_s = _one(predictor, volume)[0]["seconds"]
        torch.cuda.reset_peak_memory_stats()
        found = [_one(predictor, volume) for _ in range(_VOLUMES)]
    peak_mb = _peak_mb()
    device_mb = torch.cuda.max_memory_allocated() / 1e6 if device != "cpu" else 0.0
    answer: dict[str, Any] = {
        key: statistics.median(one[key] for one, _ in found) for key in found[0][0]
    }
    answer["infer_cpu_s"] = statistics.median(infer_cpu_s)
    if device != "cpu":
        again_s = _again(predictor, images[0])
        answer |= {
            "first_s": first_s, "again_s": statistics.median(again_s),
            "again_spread_s": max(again_s) - min(again_s),
        }
    prediction = found[-1][1]
    np.save(directory / f"{way}.npy", prediction.label_map)
    print(json.dumps({
        **answer, "load_s": load_s, "peak_mb": peak_mb, "added_mb": peak_mb - before_mb,
        "device_mb": device_mb, "notes": "; ".join(prediction.notes),
    }))


def _ready(way: str, directory: Path, device: str) -> Predictor:
    folder, is_plain = {**WAYS, **CUDA_WAYS}[way]
    predictor = Predictor(load_card(directory / folder), device)
    if is_plain:
        backend = PlainMonai(predictor)
        predictor._backend = backend  # type: ignore[assignment]
        if way == TORCH_AS_IT_COMES:
            torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False
        backend.warm_up()
    else:
        predictor.load()
        predictor.warm_up()
    return predictor


def _one(predictor: Predictor, volume: Volume) -> tuple[dict[str, float], SegmentationPrediction]:
    """Seconds by stage, seconds, CPU seconds, and what was predicted."""
    start, start_cpu_s = time.perf_counter(), time.process_time()
    prediction = predictor.predict(volume)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu_s
    if not isinstance(prediction, SegmentationPrediction):
        raise TypeError(type(prediction))
    stages = {f"{stage}_s": one for stage, one in prediction.seconds_by_stage.items()}
    return {**stages, "seconds": seconds, "cpu_s": cpu_s}, prediction


def _again(predictor: Predictor, image: NetworkInput) -> list[float]:
    """Seconds of the network on the input that it just had; its answer comes back to the host."""
    found = []
    for _ in range(_REPEATED):
        start = time.perf_counter()
        predictor._backend.predict(image)
        found.append(time.perf_counter() - start)
    return found


def _clocked(predictor: Predictor) -> tuple[list[float], list[NetworkInput]]:
    """CPU seconds and inputs of every call of the back-end from now on."""
    found: list[float] = []
    images: list[NetworkInput] = []
    predict = predictor._backend.predict

    def clocked(image: NetworkInput) -> Answer:
        images.append(image)
        start = time.process_time()
        answer = predict(image)
        found.append(time.process_time() - start)
        return answer

    predictor._backend.predict = clocked  # type: ignore[method-assign]
    return found, images


def _peak_mb() -> float:
    # Not getrusage: its peak begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
