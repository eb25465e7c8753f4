"""The conformance suite is green on the GPU, with the checks that only a GPU can show."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from ai_models.card import load_card
from ai_models.trust import Site
from dicom_node.cli.verify_suite import Bench, run_suite
from tests.acceptance import every_backend
from tests.acceptance.every_backend import torchvision_in_workers
from tests.gpu.device import DEVICE, ON_GPU, needs_device
from tests.gpu.lungs import write_lungs

__all__ = ["torchvision_in_workers"]
pytestmark = [
    pytest.mark.gpu, needs_device, pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning"),
]


def lungs(folder: Path, stack: ExitStack) -> Path:
    card = write_lungs(folder, precision="bf16", batch=2, fallbacks=["batch", "roi"])
    # An empty scan is answered, so that the report of nothing found is seen as well.
    values = yaml.safe_load(card.content)
    del values["input"]["foreground"]
    (folder / "model.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return folder


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (every_backend.state_dict, {"memory", "precision"}),
        (every_backend.torchscript, {"memory"}),
        (every_backend.monai_bundle, set()),
        (every_backend.hf_segmentation, set()),
        (lungs, {"memory", "precision"}),
    ],
    ids=["state_dict", "torchscript", "monai_bundle", "hf_segmentation", "lungs in bf16"],
)
def test_suite_is_green_on_the_device(
    tmp_path: Path, make: Callable[[Path, ExitStack], Path], shown: set[str]
) -> None:
    card = load_card(make(tmp_path / "model", ExitStack()))
    site = Site(trusted_folders=(card.folder,))
    checks = list(run_suite(card, Bench(DEVICE, site, tmp_path / "scratch", 120.0, quick=True)))
    told = "\n".join(f"{one.outcome:14} {one.name:16} {one.sentence}" for one in checks)
    print(f"VERIFY {make.__name__}\n{told}")
    assert not [one.name for one in checks if one.outcome == "failed"], f"\n{told}"
    passed = {one.name for one in checks if one.outcome == "passed"}
    assert {"load", "answer", "determinism", "deadline", "lost worker", "objects"} <= passed, told
    assert shown <= passed, told
    if ON_GPU:
        assert DEVICE in next(one.sentence for one in checks if one.name == "answer")
