"""One way to segment one chest, in a process of its own: what it cost, as one line of JSON.

    python -m bench.inference_process WAY DIRECTORY DEVICE

DIRECTORY holds ``volume.npy`` and ``affine.npy`` and a model folder for every card, as
`bench.inference` makes them; the label map is written there. Loading and warming up come before
the clock. Every way goes through the same preparation and the same way back; what differs is
what runs the network.
"""

from __future__ import annotations

import json
import sys
import time
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


def main() -> None:
    """Measure the way that is named."""
    way, directory, device = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    folder, is_plain = WAYS[way]
    predictor = Predictor(load_card(directory / folder), device)
    if is_plain:
        backend = PlainMonai(predictor)
        predictor._backend = backend  # type: ignore[assignment]
        backend.warm_up()
    else:
        predictor.load()
        predictor.warm_up()
    infer_cpu_s = _clocked(predictor)
    volume = Volume(np.load(directory / "volume.npy"), np.load(directory / "affine.npy"))
    before_mb = _peak_mb()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    start, start_cpu_s = time.perf_counter(), time.process_time()
    prediction = predictor.predict(volume)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu_s
    if not isinstance(prediction, SegmentationPrediction):
        raise TypeError(type(prediction))
    peak_mb = _peak_mb()
    np.save(directory / f"{way}.npy", prediction.label_map)
    print(json.dumps({
        **{f"{stage}_s": one for stage, one in prediction.seconds_by_stage.items()},
        "seconds": seconds, "cpu_s": cpu_s, "infer_cpu_s": sum(infer_cpu_s),
        "peak_mb": peak_mb, "added_mb": peak_mb - before_mb,
        "device_mb": torch.cuda.max_memory_allocated() / 1e6 if device != "cpu" else 0.0,
        "notes": "; ".join(prediction.notes),
    }))


def _clocked(predictor: Predictor) -> list[float]:
    """CPU seconds of every call of the back-end from now on."""
    found: list[float] = []
    predict = predictor._backend.predict

    def clocked(image: NetworkInput) -> Answer:
        start = time.process_time()
        answer = predict(image)
        found.append(time.process_time() - start)
        return answer

    predictor._backend.predict = clocked  # type: ignore[method-assign]
    return found


def _peak_mb() -> float:
    # Not getrusage: its peak begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
