"""Segmenting a chest CT beside MONAI's plain sliding_window_inference: seconds and memory.

    python -m bench inference [--shape 300x512x512] [--rounds N] [--device cpu]

The trained network of lungs-ct, as ONNX and as torch weights of the same numbers; every
measurement in a process of its own, rounds interleaved, medians. On a GPU torch alone is measured,
in more ways. Results of the full shape go to ``bench/results/inference.*``, of a GPU to
``inference-cuda.*``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ai_models.array.phantom import chest_phantom
from bench.inference_process import CUDA_WAYS, TORCH_AS_IT_COMES, WAYS
from bench.receive import machine

RESULTS = Path(__file__).parent / "results"
MODEL = Path(__file__).parents[1] / "ai_models" / "zoo" / "lungs-ct"
FULL = "300x512x512"
# For Python and its packages, of many processes at once.
_STARTING_S = 18.0
_SPACING_MM = (1.0, 0.7, 0.7)
_STAGES = ("prepare_s", "infer_s", "restore_s", "postprocess_s")
_PAIRS = (
    ("node, ONNX", "MONAI, ONNX"), ("node, ONNX, no foreground crop", "MONAI, ONNX"),
    ("node, torch", "MONAI, torch"), ("node, torch, no foreground crop", "MONAI, torch"),
    ("node, torch bf16", "MONAI, torch"), ("node, torch bf16", "node, torch"),
    ("node, torch", "node, ONNX"),
    ("node, torch", TORCH_AS_IT_COMES), ("node, torch bf16", TORCH_AS_IT_COMES),
    ("MONAI, torch", TORCH_AS_IT_COMES), ("node, torch fp16", "node, torch"),
    ("node, torch bf16, channels_last", "node, torch bf16"),
    ("node, torch bf16, 8 windows at once", "node, torch bf16"),
    ("node, torch bf16, torch.compile", "node, torch bf16"),
)


def prepare(directory: Path, shape: tuple[int, int, int]) -> None:
    """Write the phantom and a model folder for every card."""
    phantom = chest_phantom(11, shape, _SPACING_MM)
    np.save(directory / "volume.npy", phantom.volume_hu)
    np.save(directory / "affine.npy", phantom.affine_lps)
    onnx_bytes, torch_bytes = (MODEL / "weights.onnx").read_bytes(), torch_weights()
    torch_runtime = {"backend": "state_dict", "network": {"name": "LungUNet"}}
    bf16 = {**torch_runtime, "precision": "bf16"}
    for name, content, path, runtime in (
        ("onnx", onnx_bytes, "weights.onnx", {}),
        ("onnx-whole", onnx_bytes, "weights.onnx", {}),
        ("torch", torch_bytes, "weights.safetensors", torch_runtime),
        ("torch-whole", torch_bytes, "weights.safetensors", torch_runtime),
        ("torch-bf16", torch_bytes, "weights.safetensors", bf16),
        ("torch-fp16", torch_bytes, "weights.safetensors", {**bf16, "precision": "fp16"}),
        ("torch-bf16-last", torch_bytes, "weights.safetensors", {**bf16, "channels_last": True}),
        ("torch-bf16-batch", torch_bytes, "weights.safetensors", {**bf16, "batch": 8}),
        ("torch-bf16-compile", torch_bytes, "weights.safetensors", {**bf16, "compile": True}),
    ):
        card = yaml.safe_load((MODEL / "model.yaml").read_text())
        card["weights"] |= {"path": path, "sha256": hashlib.sha256(content).hexdigest()}
        card["runtime"] |= runtime
        # What it learned from is a file of the model's own folder, and watching costs the same.
        card.pop("monitor", None)
        if name.endswith("-whole"):
            del card["input"]["foreground"]
        folder = directory / name
        folder.mkdir()
        (folder / path).write_bytes(content)
        (folder / "model.yaml").write_text(yaml.safe_dump(card, sort_keys=False))


def torch_weights() -> bytes:
    """The numbers of the ONNX file, by the names that the network's parameters have."""
    import onnx
    import torch
    from onnx import numpy_helper
    from safetensors.torch import save

    graph = onnx.load(str(MODEL / "weights.onnx")).graph
    tensors = {
        one.name: torch.from_numpy(np.array(numpy_helper.to_array(one)))
        for one in graph.initializer
    }
    content: bytes = save(tensors)
    return content


def measure(directory: Path, rounds: int, device: str) -> dict[str, dict[str, Any]]:
    """Every way in turn, ``rounds`` times; medians by way."""
    ways = WAYS if device == "cpu" else CUDA_WAYS
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        # What a processor measures bears no other process that starts beside it.
        together = [[way] for way in ways] if device == "cpu" else [list(ways)]
        for some in together:
            for way, one in _measured(some, directory, device):
                found[way].append(one)
                print(f"  {way:36} {one['seconds']:7.2f} s, infer {one['infer_s']:.3f} s, "
                      f"again {one.get('again_s', 0.0):.4f} s", flush=True)
    return {
        way: {
            key: value if isinstance(value, str) else statistics.median(one[key] for one in many)
            for key, value in many[0].items()
        }
        for way, many in found.items() if many
    }


def _measured(
    ways: list[str], directory: Path, device: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Start a process for each way, and let one after the other measure."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.inference_process", way, str(directory), device],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for way in ways
    ]
    if len(processes) > 1:
        time.sleep(_STARTING_S)
    for way, process in zip(ways, processes, strict=True):
        said, complaint = process.communicate("go\n")
        if process.returncode:
            print(f"{way}: {complaint[-800:]}", file=sys.stderr, flush=True)
            continue
        yield way, json.loads(said.splitlines()[-1])


def pairs(ways: Collection[str]) -> list[tuple[str, str]]:
    """Which of the ways that were measured are compared."""
    return [(one, other) for one, other in _PAIRS if one in ways and other in ways]


def agreement(directory: Path, ways: Collection[str]) -> dict[str, dict[str, float]]:
    """Dice of the lungs, and share of voxels of another label, for each pair of ways."""
    found = {}
    for one, other in pairs(ways):
        first, second = (np.load(directory / f"{way}.npy") for way in (one, other))
        both = int(((first > 0) & (second > 0) & (first == second)).sum())
        total = int((first > 0).sum() + (second > 0).sum())
        found[f"{one} / {other}"] = {
            "dice": 2 * both / total if total else 1.0,
            "voxels": int((first != second).sum()),
        }
    return found


def name_of(device: str) -> str:
    """The device as the report calls it: a GPU by its make."""
    if device == "cpu":
        return device
    import torch

    return f"{torch.cuda.get_device_name(device)} (torch {torch.__version__})"


def report(result: dict[str, Any]) -> str:
    """The tables as Markdown."""
    counted = f"Medians of {result['rounds']}"
    if result["device"] != "cpu":
        counted = "Medians of three volumes, after a first one"
    lines = [
        "# Inference",
        "",
        f"{result['machine']}, {result['device']}. Phantom chest CT of {result['shape']} voxels, "
        f"1.0 x 0.7 x 0.7 mm, on the grid of lungs-ct (2.5 mm, windows of 64 x 112 x 144, overlap "
        f"0.25). {counted}, each way in a process of its own, loaded and warmed "
        "up before the clock. MONAI: its plain `sliding_window_inference` over the whole grid "
        "with the same network, between the same preparation and the same way back. Memory: the "
        "peak of the process, and what of it came on top of libraries, network and volume. A crop "
        "to the foreground moves the windows, and with them some voxels at the lungs' borders.",
        "",
        "| way | seconds | prepare | infer | restore | postprocess | CPU s | infer CPU s | peak MB "
        "| added MB | device MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {way} | {one['seconds']:.2f} | "
        + " | ".join(f"{one.get(stage, 0.0):.2f}" for stage in _STAGES)
        + f" | {one['cpu_s']:.1f} | {one['infer_cpu_s']:.1f} | {one['peak_mb']:.0f} "
        f"| {one['added_mb']:.0f} | {one['device_mb']:.0f} |"
        for way, one in result["ways"].items()
    ]
    if result["device"] != "cpu":
        lines += [
            "", "The network alone, asked again and again in the same process, median, to the "
            "scores in main memory; what loading and warming up took before; and all seconds of "
            "the first volume:", "",
            "| way | ms | spread ms | load s | first volume s |", "|---|---|---|---|---|",
            *(f"| {way} | {1000 * one['again_s']:.1f} | {1000 * one['again_spread_s']:.1f} "
              f"| {one['load_s']:.1f} | {one['first_s']:.2f} |"
              for way, one in result["ways"].items()),
        ]
    lines += ["", "Agreement of label maps on the grid of the volume:", ""]
    for pair, one in result["agreement"].items():
        lines.append(f"- {pair}: Dice {one['dice']:.6f}, {one['voxels']:.0f} voxels differ")
    # On a busy machine CPU seconds are what can be compared; of a GPU, they say nothing.
    key = "infer_cpu_s" if result["device"] == "cpu" else "again_s"
    lines += ["", f"Speed of the network alone (`{key}`):", ""]
    for one, other in pairs(result["ways"]):
        times = result["ways"][other][key] / result["ways"][one][key]
        lines.append(f"- {one}: {times:.2f} times as fast as {other}")
    lines += ["", "What ran:", ""]
    lines += [f"- {way}: {one['notes']}" for way, one in result["ways"].items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the results when the shape is the full one; 1: a way failed."""
    parser = argparse.ArgumentParser(prog="bench inference")
    parser.add_argument("--shape", default=FULL, help="slices x rows x columns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    slices, rows, columns = (int(part) for part in options.shape.split("x"))
    with tempfile.TemporaryDirectory(prefix="inference-") as scratch:
        prepare(Path(scratch), (slices, rows, columns))
        print(f"inference {options.shape} on {options.device}", flush=True)
        ways = measure(Path(scratch), options.rounds, options.device)
        result = {
            "machine": machine(), "device": name_of(options.device), "shape": options.shape,
            "rounds": options.rounds, "ways": ways, "agreement": agreement(Path(scratch), ways),
        }
    print(report(result))
    if options.shape == FULL:
        RESULTS.mkdir(exist_ok=True)
        name = "inference" if options.device == "cpu" else "inference-cuda"
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / f"{name}.md").write_text(report(result))
    return int(len(ways) < len(WAYS if options.device == "cpu" else CUDA_WAYS))


if __name__ == "__main__":
    sys.exit(main())
