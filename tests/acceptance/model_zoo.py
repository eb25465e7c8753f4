"""Every bundle of the MONAI Model Zoo, with random weights, through the bundle back-end.

Only configurations are at hand, without weights and without the Python files that some bundles
have beside them. `tests.acceptance.test_model_zoo` compares with docs/model-zoo.md, or writes it.
"""

from __future__ import annotations

import gc
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ai_models.backends import Answer, NetworkInput, open_backend
from ai_models.backends.monai_bundle_parts import network_of
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.backends.folder_models import write_card
from tests.ai_models.tiny_models import LUNG, STRUCTURE
from tests.shared_data import shared
from tests.source_tree import ROOT

CONFIGURATIONS = shared("data", "models", "monai_bundle_configs", "models")
DOCUMENT = ROOT / "docs" / "model-zoo.md"
_EDGES = (16, 32, 48)  # of different lengths, and what every U-Net can halve
_SPACING_MM = 1.5
_IMAGE_EDGES = (224, 256)
_NO_WEIGHTS = "holds no weights by name"
_LONGEST_MESSAGE = 220


@dataclass(frozen=True)
class Kind:
    """What a card says of a bundle."""

    task: str = "segmentation"
    image: bool = False
    channels: int = 1
    edges: tuple[int, ...] = ()
    roi: tuple[int, int, int] | None = None


# Volumes of one channel that are segmented, where nothing else is said. A window of 240 x 240 x 160
# takes minutes on a CPU: there a smaller one stands for it.
KINDS: dict[str, Kind] = {
    "brats_mri_segmentation": Kind(channels=4, roi=(64, 64, 48)),
    "breast_density_classification": Kind("classification", True, 3),
    "classification_template": Kind("classification", True),
    "endoscopic_inbody_classification": Kind("classification", True, 3),
    "endoscopic_tool_segmentation": Kind(image=True, channels=3),
    "lung_nodule_ct_detection": Kind("detection"),
    "mednist_gan": Kind(image=True),
    "mednist_reg": Kind(image=True),
    "pathology_nuclei_classification": Kind("classification", True, 3),
    "pathology_nuclei_segmentation_classification": Kind(image=True, channels=3),
    "pathology_nuclick_annotation": Kind(image=True, channels=3),
    "pathology_tumor_detection": Kind("classification", True, 3, (224, 224)),
    "vista2d": Kind(image=True, channels=3),
}


@dataclass(frozen=True)
class Outcome:
    """What became of one bundle.

    ``parameters`` of its network, 0 where it cannot be made; ``answer`` says what was predicted, or
    ``reason`` and ``message`` why nothing was.
    """

    bundle: str
    task: str
    parameters: int = 0
    answer: str = ""
    reason: str = ""
    message: str = ""

    @property
    def row(self) -> str:
        """As one row of the table."""
        made = f"{self.parameters:,}" if self.parameters else "no"
        told = self.answer or f"refused: `{self.reason}`: {self.message}"
        return f"| {self.bundle} | {self.task} | {made} | {told} |"


def bundles() -> list[str]:
    """The names of all bundles, sorted."""
    return sorted(path.name for path in CONFIGURATIONS.iterdir() if path.is_dir())


def try_bundle(name: str) -> Outcome:
    """Write a bundle with random weights, load it and predict a small random input."""
    kind = KINDS.get(name, Kind())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = _try_in(Path(folder), name, kind)
    gc.collect()
    return outcome


def _try_in(folder: Path, name: str, kind: Kind) -> Outcome:
    bundle = folder / "bundle"
    shutil.copytree(CONFIGURATIONS / name, bundle)
    (bundle / "models").mkdir(exist_ok=True)
    config = next(
        f"configs/inference.{ending}" for ending in ("json", "yaml")
        if (bundle / f"configs/inference.{ending}").is_file()
    )
    torch.manual_seed(0)
    parameters, weights = 0, {}
    try:
        network = network_of(bundle, config)
    except ModelError:
        pass  # the back-end meets the same, and tells
    else:
        weights = dict(network.state_dict())
        parameters = sum(value.numel() for value in network.parameters())
        del network
    # First without weights: what is refused for another reason needs none of a gigabyte.
    outcome = _run(folder, name, kind, config, {})
    if outcome.message.endswith(_NO_WEIGHTS):
        outcome = _run(folder, name, kind, config, weights)
    return replace(outcome, parameters=parameters)


def _run(
    folder: Path, name: str, kind: Kind, config: str, weights: Mapping[str, torch.Tensor]
) -> Outcome:
    torch.save(dict(weights), folder / "bundle" / "models" / "model.pt")
    write_card(folder, "bundle", **_card(name, kind, config))
    backend = open_backend(load_card(folder), "cpu", Site(trusted_folders=(folder,)))
    try:
        backend.load()
        answer = _described(backend.predict(_input(kind)), kind)
    except ModelError as error:
        message = " ".join(str(error).replace("|", "/").replace(str(folder), "").split())
        return Outcome(name, kind.task, 0, "", error.reason, message[:_LONGEST_MESSAGE])
    finally:
        backend.close()
    return Outcome(name, kind.task, 0, answer)


def _card(name: str, kind: Kind, config: str) -> dict[str, object]:
    label = {"value": 1, "name": "1", "category": STRUCTURE, "type": LUNG, "color_rgb": [1, 0, 0]}
    values: dict[str, object] = {
        "id": name.lower().replace("_", "-")[:60], "runtime__backend": "monai_bundle",
        "runtime__bundle": {"config": config}, "trust__config_exec": True, "task": kind.task,
        "input__axes": ["R", "A", "S"], "input__repeat": kind.channels,
    }
    if kind.roi is not None:
        values["runtime__roi"] = list(kind.roi)
    if kind.task == "classification":
        scores = [{"name": "one", "channel": 0}]
        values["output"] = {"activation": "sigmoid", "channels": 1, "scores": scores}
    elif kind.task == "detection":
        values["output"] = {"labels": [label]}
    if kind.image:
        del values["input__axes"], values["input__repeat"]
        values["input"] = {
            "kind": "image", "modality": ["DX"], "repeat": kind.channels,
            "intensity": {"unit": "displayed"},
        }
    return values


def _input(kind: Kind) -> NetworkInput:
    random = np.random.default_rng(0)
    edges = _edges_of(kind)
    array = random.normal(0, 300, (kind.channels, *edges)).astype(np.float32)
    if kind.image:
        return NetworkInput(np.abs(array) % 255)
    affine = np.diag([-_SPACING_MM, -_SPACING_MM, _SPACING_MM, 1.0])
    return NetworkInput(array, affine, (_SPACING_MM,) * 3)


def _edges_of(kind: Kind) -> tuple[int, ...]:
    return kind.edges or (_IMAGE_EDGES if kind.image else _EDGES)


def _described(answer: Answer, kind: Kind) -> str:
    edges = _edges_of(kind)
    if answer.label_map is not None:
        assert answer.label_map.shape == edges
        return "predicts labels on the grid of the input"
    if answer.boxes is not None:
        assert answer.boxes.shape[1] == 8
        return "predicts boxes"
    assert answer.scores is not None and np.isfinite(answer.scores).all()
    if answer.scores.ndim == 1:
        return f"predicts {len(answer.scores)} score{'s' if len(answer.scores) > 1 else ''}"
    assert answer.scores.shape[1:] == edges
    return "predicts scores on the grid of the input"


def document(outcomes: list[Outcome]) -> str:
    """The page of documentation."""
    made = sum(1 for one in outcomes if one.parameters)
    predicts = sum(1 for one in outcomes if one.answer)
    rows = "\n".join(one.row for one in outcomes)
    return f"""# MONAI Model Zoo

What the bundle back-end does with the inference configuration of every bundle of the Model Zoo,
with random weights and a small random input on a CPU.
{_versions()}
`tests/acceptance/test_model_zoo.py` compares each row with what happens, and wrote this page:
`MODEL_ZOO_WRITE=1 pytest -n0 tests/acceptance/test_model_zoo.py -k written`.

{len(outcomes)} bundles: {made} networks can be made, {predicts} bundles load and predict, \
{len(outcomes) - predicts} are refused with their reason.

Bundles that need Python files of their own (`model.remote_code`) were tried without these files,
which the configurations at hand do not include. With them, the card needs `trust.remote_code`
beside `trust.config_exec`. A weights file that `pretrained: true` would download is not asked for:
every weight comes from the bundle's own file. No bundle runs outside of `models.trusted_folders`,
since every configuration is a program. Each bundle has a licence of its own, for its code and for
its weights: read both before the card says one.

| Bundle | Task tried | Parameters of the network | Through the back-end |
| --- | --- | --- | --- |
{rows}
"""


def _versions() -> str:
    import monai

    wanted = set()
    for path in CONFIGURATIONS.glob("*/configs/metadata.json"):
        wanted.add(str(json.loads(path.read_text()).get("monai_version", "?")))
    return f"MONAI {monai.__version__}; the bundles were made with {', '.join(sorted(wanted))}."
