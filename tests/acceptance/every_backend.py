"""Models for every back-end whose answer is known, and the conformance suite on them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from ai_models.card import Card, load_card
from ai_models.conformance.check import Check
from ai_models.conformance.scene import scene_for
from ai_models.networks.meshnet import MeshNet
from ai_models.prediction.preparing import prepare
from ai_models.trust import Endpoint, Site
from dicom_node.cli.verify_suite import Bench, run_suite
from tests.ai_models.backends import folder_models, hf_models
from tests.ai_models.backends.command_models import BRIGHT, make_environment, write_command
from tests.ai_models.backends.fake_open_inference import FakeGrpcInference, FakeOpenInference
from tests.ai_models.backends.fake_openai import FakeOpenAi
from tests.ai_models.tiny_models import card_text, card_values, threshold_onnx, write_model

BRIGHT_NET: dict[str, Any] = {
    "name": "MeshNet",
    "arguments": {"in_channels": 1, "channels": 1, "classes": 2, "dilations": []},
}
BOXES = """
import nibabel, numpy as np
from scipy import ndimage
bright = nibabel.load(source / "image-0.nii.gz").get_fdata() > 0.6
parts, count = ndimage.label(bright)
sizes = ndimage.sum_labels(bright, parts, range(1, count + 1))
found = [
    {"corners": [[s.start for s in box], [s.stop for s in box]], "score": 0.9, "label": 1}
    for box, size in zip(ndimage.find_objects(parts), sizes) if size > 12
]
(target / "boxes.json").write_text(json.dumps(found))
"""
DETECTION = {"output__max_overlap": 1.0, "report": "lung_nodules"}


def bright_net() -> torch.nn.Module:
    """A voxel is bright from the middle of the range on, as `threshold_onnx` has it."""
    module = MeshNet(**BRIGHT_NET["arguments"])
    with torch.no_grad():
        module.layers[0].weight.copy_(torch.tensor([0.0, 40.0]).reshape(2, 1, 1, 1, 1))
        module.layers[0].bias.copy_(torch.tensor([0.0, -20.0]))
    return module.eval()


def saved(thing: object, save: Callable[[Any, io.BytesIO], Any] = torch.save) -> bytes:
    buffer = io.BytesIO()
    save(thing, buffer)
    return buffer.getvalue()


def onnx(folder: Path, stack: ExitStack) -> Path:
    return write_model(folder, threshold_onnx(0.5))


def torchscript(folder: Path, stack: ExitStack) -> Path:
    traced = torch.jit.trace(bright_net(), torch.zeros(1, 1, 16, 16, 16))
    return write_model(
        folder, saved(traced, torch.jit.save), weights__path="w.ts",
        runtime__backend="torchscript", runtime__fallbacks=["batch", "roi"],
    )


def state_dict(folder: Path, stack: ExitStack) -> Path:
    return write_model(
        folder, saved(bright_net().state_dict()), weights__path="w.pt",
        runtime__backend="state_dict", runtime__network=BRIGHT_NET, runtime__precision="bf16",
    )


def safetensors(folder: Path, stack: ExitStack) -> Path:
    from safetensors.torch import save

    return write_model(
        folder, save(bright_net().state_dict()), weights__path="w.safetensors",
        runtime__backend="state_dict", runtime__network=BRIGHT_NET, output__mirror=[0, 2],
        input__min_slices=8,
    )


def torch_export(folder: Path, stack: ExitStack) -> Path:
    shapes = ({0: torch.export.Dim("batch", min=1, max=8)},)
    example = (torch.zeros(2, 1, 16, 16, 16),)
    program = torch.export.export(bright_net(), example, dynamic_shapes=shapes)
    return write_model(
        folder, saved(program, torch.export.save), weights__path="w.pt2",
        runtime__backend="torch_export",
    )


def monai_bundle(folder: Path, stack: ExitStack) -> Path:
    return folder_models.write_monai_bundle(folder)


def nnunet(folder: Path, stack: ExitStack) -> Path:
    return folder_models.write_nnunet_model(folder, mirror_axes=(0,))


def hf_segmentation(folder: Path, stack: ExitStack) -> Path:
    slices = {**hf_models.SLICES, "spacing_mm": [2.0, 2.0, 2.0]}
    hf_models.write_segmenter(folder, input=slices)
    _teach(folder, load_card(folder))
    hf_models.renew_digest(folder)
    return folder


def _teach(folder: Path, card: Card) -> None:
    """Random weights answer noise: a few steps, by which it knows a head from air."""
    from transformers import SegformerForSemanticSegmentation

    torch.manual_seed(5)
    image = torch.from_numpy(
        prepare(scene_for(card, quick=True).reference, card).image.array
    ).transpose(0, 1)
    inside = (image[:, 0] > 0).long()
    module = SegformerForSemanticSegmentation.from_pretrained(folder / "model").train()
    steps = torch.optim.Adam(module.parameters(), lr=5e-3)
    for step in range(60):
        part = slice(step % 4, None, 4)
        steps.zero_grad()
        module(pixel_values=image[part], labels=inside[part]).loss.backward()
        steps.step()
    module.save_pretrained(folder / "model")


def hf_classification(folder: Path, stack: ExitStack) -> Path:
    scores = [{"name": "nodule", "channel": 0}, {"name": "pleural_effusion", "channel": 2}]
    return hf_models.write_classifier(
        folder, report="chest_radiograph", output__scores=scores,
    )


def hf_regression(folder: Path, stack: ExitStack) -> Path:
    age = {"name": "bone_age_months", "unit": "mo", "minimum": -1000.0, "maximum": 1000.0}
    return hf_models.write_regressor(folder, report="bone_age", output__quantities=[age])


def hf_text(folder: Path, stack: ExitStack) -> Path:
    return hf_models.write_language_model(folder, report="draft")


def command(folder: Path, stack: ExitStack) -> Path:
    return write_command(folder, make_environment(folder / "environment"), BRIGHT)


def command_detection(folder: Path, stack: ExitStack) -> Path:
    python = make_environment(folder / "environment")
    return write_command(folder, python, BOXES, task="detection", **DETECTION)


def _served(folder: Path, **changes: object) -> Path:
    values = card_values(**{"weights": {"licence": "Apache-2.0", "source": "test"}, **changes})
    folder.mkdir()
    (folder / "model.yaml").write_text(card_text(values))
    return folder


def open_inference_http(folder: Path, stack: ExitStack) -> Path:
    return _open_inference(folder, stack.enter_context(FakeOpenInference()).url)


def open_inference_grpc(folder: Path, stack: ExitStack) -> Path:
    return _open_inference(folder, stack.enter_context(FakeGrpcInference()).url)


def _open_inference(folder: Path, url: str) -> Path:
    (folder.parent / "url").write_text(url)
    return _served(
        folder, runtime__backend="open_inference",
        runtime__endpoint={"name": "farm", "model": "bright"},
    )


def openai(folder: Path, stack: ExitStack) -> Path:
    (folder.parent / "url").write_text(stack.enter_context(FakeOpenAi()).url)
    return _served(
        folder, task="text", report="draft",
        output={"prompt": "Describe the chest.", "max_images": 2},
        runtime={"backend": "openai", "endpoint": {"name": "farm", "model": "radiology-8b"}},
    )


NETWORKS = (onnx, torchscript, state_dict, safetensors, torch_export)
FOLDERS = (monai_bundle, nnunet, hf_segmentation, hf_classification, hf_regression, hf_text)
OTHERS = (command, command_detection, open_inference_http, open_inference_grpc, openai)
# What differs little from another here, or from the test of `models verify` (onnx), and takes a
# minute: `make test-long`.
LONG = (
    onnx, torchscript, safetensors, torch_export, hf_classification, hf_regression, hf_text,
    open_inference_grpc, command_detection,
)


def cases(makers: Sequence[Callable[[Path, ExitStack], Path]]) -> list[Any]:
    """As parameters of a test, those of `LONG` marked so."""
    return [
        pytest.param(make, id=make.__name__, marks=[pytest.mark.long] if make in LONG else [])
        for make in makers
    ]


# What each must have shown: not applicable is no proof.
SHOWN = {
    "segmentation": {"flips", "axes", "oblique", "spacing", "nothing found"},
    "detection": {"flips", "axes", "oblique", "spacing", "nothing found"},
    "classification": {"spacing"}, "regression": {"spacing"}, "text": set(),
}
ALWAYS = {
    "card", "site", "report", "series", "load", "answer", "empty input", "NaN", "wrong unit",
    "wrong kind", "determinism", "objects", "wrong modality", "deadline", "lost worker",
}
SPECIAL = {
    "onnx": {"memory"}, "torchscript": {"memory"}, "torch_export": {"memory"},
    "state_dict": {"memory", "precision"}, "safetensors": {"memory", "too few slices"},
    "open_inference_http": {"memory"}, "open_inference_grpc": {"memory"},
}


@pytest.fixture(autouse=True)
def torchvision_in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests/conftest.py does for this process, for those that are started from it."""
    folder = tmp_path / "at-start"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "from tests.conftest import pytest_configure\npytest_configure()\n"
    )
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def hosts() -> Iterator[ExitStack]:
    """What the models are asked of, until the end of the test."""
    with ExitStack() as stack:
        yield stack


def verified(card: Card, scratch: Path) -> list[Check]:
    url = card.folder.parent / "url"
    endpoints = {"farm": Endpoint(url.read_text(), None, 10.0)} if url.exists() else {}
    site = Site(trusted_folders=(card.folder,), endpoints=endpoints)
    return list(run_suite(card, Bench("cpu", site, scratch, 60.0, quick=True)))


def prove_green(folder: Path, hosts: ExitStack, make: Callable[[Path, ExitStack], Path]) -> None:
    """Run the suite on a model, and look whether it showed what it must."""
    card = load_card(make(folder / "model", hosts))
    checks = verified(card, folder / "scratch")
    told = "\n".join(f"{one.outcome:14} {one.name:16} {one.sentence}" for one in checks)
    assert not [one.name for one in checks if one.outcome == "failed"], f"\n{told}"
    passed = {one.name for one in checks if one.outcome == "passed"}
    wanted = ALWAYS | SHOWN[card.task] | SPECIAL.get(make.__name__, set())
    if card.weights.path is not None:
        wanted |= {"weights", "changed weights"}
    assert wanted <= passed, f"not shown: {sorted(wanted - passed)}\n{told}"
