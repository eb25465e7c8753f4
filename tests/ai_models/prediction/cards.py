"""Cards of every task, written to a folder and read back; and what is called with them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from ai_models.backends import Answer
from ai_models.card import Card, load_card
from ai_models.prediction.detection import detection
from ai_models.prediction.preparing import Prepared, prepare
from ai_models.prediction.scores import classification, regression
from ai_models.prediction.segmentation import segmentation
from ai_models.prediction.text import text
from ai_models.types import ModelInput, Prediction
from tests.ai_models.tiny_models import LUNG, STRUCTURE, fitting, write_model

IMAGE = {
    "kind": "image", "modality": ["DX"], "ndim": 2, "intensity": {"unit": "displayed"},
}
OUTPUTS: dict[str, dict[str, Any]] = {
    "segmentation": {},
    "classification": {
        "activation": "sigmoid", "channels": 3,
        "scores": [{"name": "nodule", "channel": 2}, {"name": "effusion", "channel": 0}],
    },
    "regression": {
        "channels": 2,
        "quantities": [{
            "name": "age", "channel": 1, "unit": "mo", "factor": 10.0, "offset": 100.0,
            "minimum": 0.0, "maximum": 240.0,
        }],
    },
    "detection": {"labels": None, "min_score": 0.3, "max_findings": 8},
    "text": {"prompt": "Describe the findings.", "language": "de"},
}
TASKS: dict[str, Any] = {
    "segmentation": segmentation, "classification": classification, "regression": regression,
    "detection": detection, "text": text,
}


def labels(*values: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"value": value, "name": f"label {value}", "color_rgb": [value, 0, 0],
         "category": STRUCTURE, "type": LUNG, **more}
        for value in values
    ]


def card_for(folder: Path, task: str = "segmentation", **changes: Any) -> Card:
    """A card of this task; ``changes`` as `tests.ai_models.tiny_models.card_values` takes them."""
    output = copy.deepcopy(OUTPUTS[task])
    if task == "detection":
        output["labels"] = labels(1, 2)
    base: dict[str, Any] = {"task": task}
    if task != "segmentation":
        base["output"] = output
    name = f"card-{len(list(folder.iterdir())) if folder.exists() else 0}"
    return load_card(write_model(folder / name, b"no network", **fitting(**{**base, **changes})))


def answered(card: Card, source: ModelInput | Prepared, answer: Answer) -> Any:
    """What the core makes of an answer."""
    prepared = source if isinstance(source, Prepared) else prepare(source, card)
    prediction: Prediction = TASKS[card.task](card, prepared, answer, card.algorithm(), {}, ())
    return prediction
