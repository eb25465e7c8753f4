"""A first recipe from the data alone: what is there to be learned, and a network that can."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from ai_models.scaffold.card_text import card_text
from ai_models.scaffold.draft import Draft, Wishes, new_draft, put_input, settle
from ai_models.scaffold.networks import put_named_labels, put_quantities, put_scores
from ai_models.scaffold.report_text import NAME as REPORT
from ai_models.scaffold.report_text import report_text
from ai_models.training.cases import ATTRIBUTES, DicomReader, nifti_folders
from ai_models.training.drafting_backbones import Beginning, put_backbone
from ai_models.training.nifti_files import is_nifti, is_png, read_labels
from ai_models.training.recipe import RECIPE_NAME
from ai_models.training.segmentation_objects import read_segments
from ai_models.training.settings import TrainingError
from ai_models.types import ModelError

TASKS = {"segment": "segmentation", "detect": "detection", "classify": "classification",
         "regress": "regression"}
"""As the command line calls the tasks of a card."""
_NO_VALUE = frozenset({"image", "label", "patient", "split", "series", "class", *ATTRIBUTES})
_WINDOW, _WHOLE = 96, 224
# Files whose spacing and labels are looked at.
_MOST_READ = 12
_NUMBER = re.compile(r"\s*\d+$")
_HEAD = """\
Written by `dicom-node train` from the data alone. A person must look at every line with "check:".
Keys of the card: docs/model-card.md; of training: docs/training.md"""


@dataclass(frozen=True)
class Found:
    """What the data say of themselves."""

    names: tuple[str, ...]
    modality: str | None = None
    is_image: bool = False
    spacing_mm: tuple[float, ...] = ()


def draft_recipe(
    data: Path, wishes: Wishes, folder: Path, reader: DicomReader | None,
    beginning: Beginning | None = None,
) -> Path:
    """Write ``recipe.yaml`` (and a report template where one is needed) to ``folder``.

    Raises
    ------
    TrainingError
        Nothing tells what is to be learned; or as `put_backbone`.
    """
    found = look(data, wishes, reader)
    names = wishes.names or found.names
    if not names:
        raise TrainingError(f"nothing in {data} names what is to be learned: give --labels")
    wishes = Wishes(wishes.model_id, wishes.task,
                    wishes.modality or found.modality or ("DX" if found.is_image else None),
                    names, wishes.network, wishes.arguments)
    draft = new_draft(wishes, "trained by `dicom-node train`; on what and how is in training.json")
    try:
        put_input(draft, wishes, axes=2 if found.is_image or beginning else 3, channels=1)
    except ModelError as error:
        raise TrainingError(str(error)) from error
    if draft.get("input.kind") == "image":
        draft.check("input.modality", "CR as well as DX? and write body_part, views and quality, "
                    "which say what it may be shown: docs/quality-gate.md")
    _put_output(draft, wishes)
    begins: dict[str, Any] = {}
    if beginning is None:
        _put_network(draft, wishes, found)
    else:
        begins = put_backbone(draft, beginning, len(names))
    settle(draft)
    folder.mkdir(parents=True, exist_ok=True)
    if draft.get("task") in ("classification", "regression"):
        (folder / f"{REPORT}.yaml").write_text(
            report_text(draft, "dicom-node train"), encoding="utf-8"
        )
        draft.put("report", REPORT, f"words, codes and thresholds in {REPORT}.yaml beside this")
    for key in ("evidence", "weights"):
        draft.values.pop(key)
    whole = Draft({"card": draft.values, "training": {"steps": 2000, "batch": 2, **begins}},
                  {f"card.{key}": why for key, why in draft.checks.items()})
    whole.check("training.steps", "how long; every other key: docs/training.md")
    path = folder / RECIPE_NAME
    path.write_text(card_text(whole, _HEAD), encoding="utf-8")
    return path


def _put_output(draft: Draft, wishes: Wishes) -> None:
    task, names = draft.get("task"), wishes.names
    if task == "segmentation":
        draft.put("output.activation", "softmax", "sigmoid where labels may share voxels")
        put_named_labels(draft, names)
    elif task == "detection":
        draft.put("output.min_score", 0.5, "below it nothing is reported")
        put_named_labels(draft, names)
    elif task == "classification":
        put_scores(draft, wishes, len(names))
    else:
        put_quantities(draft, wishes, len(names))


def _put_network(draft: Draft, wishes: Wishes, found: Found) -> None:
    task, axes, count = draft.get("task"), 2 if found.is_image else 3, len(wishes.names)
    draft.put("runtime.backend", "state_dict")
    if wishes.network is not None:
        name, arguments = wishes.network, dict(wishes.arguments)
    elif task == "segmentation":
        name, arguments = "ResAttUNet", {
            "in_channels": 1, "out_channels": count + 1, "channels": [16, 32, 64, 128]}
    elif task == "detection":
        name, arguments = "RetinaNet", {"in_channels": 1, "num_classes": count}
    else:
        name, arguments = "monai.DenseNet121", {
            "spatial_dims": axes, "in_channels": 1, "out_channels": count}
    draft.put("runtime.network", {"name": name, "arguments": arguments})
    if task in ("segmentation", "detection"):
        if found.spacing_mm:
            # Finer than half a millimetre costs memory, and few structures need it.
            steps = [round(max(0.5, one), 2) for one in found.spacing_mm]
            draft.put("input.spacing_mm", steps, "the median of the data; coarser is faster")
        draft.put("runtime.roi", [_WINDOW] * axes, "what memory allows, and structures need")
        return
    draft.values["input"].pop("spacing_mm", None)
    draft.checks.pop("input.spacing_mm", None)
    edges = [_WHOLE] * 2 if axes == 2 else [_WINDOW] * 3
    draft.put("input.size", {"edges": edges, "fit": "pad"}, "what memory allows")


def look(data: Path, wishes: Wishes, reader: DicomReader | None) -> Found:
    """Names, kind and spacing of what is in a folder or a table."""
    table = data if data.is_file() else data / "cases.csv"
    if table.is_file():
        return _of_table(table, wishes, reader)
    folders = nifti_folders(data)
    if folders is not None:
        return _of_nifti(data, folders[1])
    return _of_dicom(data, wishes, reader)


def _of_table(table: Path, wishes: Wishes, reader: DicomReader | None) -> Found:
    with table.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    columns = list(rows[0]) if rows else []
    images = [table.parent / row["image"] for row in rows if row.get("image")]
    labels = [table.parent / row["label"] for row in rows if row.get("label")]
    if wishes.task in ("segmentation", "detection"):
        names = _label_names([one for one in labels if is_nifti(one)])
    elif "class" in columns:
        names = tuple(sorted({row["class"] for row in rows if row["class"]}))
    else:
        names = tuple(name for name in columns if name and name not in _NO_VALUE
                      and _is_learned([row[name] for row in rows], wishes.task))
    is_image = bool(images) and is_png(images[0])
    volumes = [one for one in (*images, *labels) if is_nifti(one)]
    modality = None
    if reader is not None and images and not is_image and not is_nifti(images[0]):
        modality = next((one.modality for one in reader.series(images[0])), None)
    return Found(names, modality, is_image, _median_spacing(volumes))


def _is_learned(cells: Sequence[str | None], task: str | None) -> bool:
    """Whether a column holds what a task learns: scores of 0 and 1, quantities of other numbers.

    An empty cell is a value that is not known: such a column can be given, and not learned.
    """
    try:
        numbers = {float(one or "nan") for one in cells}
    except ValueError:
        return False
    is_score = numbers <= {0.0, 1.0}
    return is_score if task == "classification" else not is_score and all(map(isfinite, numbers))


def _of_nifti(data: Path, labels: Path) -> Found:
    files = sorted(labels.glob("*.nii*"))
    names: tuple[str, ...] = ()
    description = data / "dataset.json"
    modality = None
    if description.is_file():
        told = json.loads(description.read_text())
        numbers = {name: value for name, value in told.get("labels", {}).items()
                   if isinstance(value, int) and value > 0}
        names = tuple(sorted(numbers, key=lambda one: numbers[one]))
        channel = str(next(iter(told.get("channel_names", {}).values()), ""))
        modality = {"ct": "CT", "mr": "MR", "mri": "MR"}.get(channel.casefold())
    return Found(names or _label_names(files), modality, False, _median_spacing(files))


def _label_names(files: Sequence[Path]) -> tuple[str, ...]:
    values: set[int] = set()
    for path in files[:_MOST_READ]:
        values |= {int(one) for one in np.unique(read_labels(path)[0]) if one}
    # Values count without gaps: one that is not there is a label that these cases do not have.
    return tuple(f"Structure {number}" for number in range(1, max(values, default=0) + 1))


def _median_spacing(files: Sequence[Path]) -> tuple[float, ...]:
    """Along S, P and L: of NIfTI the three of the header, whichever way they lie."""
    import nibabel

    found = []
    for path in files[:_MOST_READ]:
        image: Any = nibabel.load(path)
        lengths = np.abs(image.affine[:3, :3])
        # Which axis of the array goes to the head, to the back, and to the left.
        found.append([float(np.linalg.norm(image.affine[:3, int(lengths[row].argmax())]))
                      for row in (2, 1, 0)])
    return tuple(float(one) for one in np.median(found, axis=0)) if found else ()


def _of_dicom(data: Path, wishes: Wishes, reader: DicomReader | None) -> Found:
    if reader is None:
        raise TrainingError("DICOM is read by the node: dicom-node train")
    found = reader.series(data)
    names: dict[tuple[str, str], str] = {}
    sources: set[str] = set()
    for one in found:
        if one.modality == "SEG":
            sources |= one.sources
            for segment in (each for path in one.paths for each in read_segments(path)):
                # "Nodule 1" and "Nodule 2" are two of one kind.
                plain = _NUMBER.sub("", segment.name) or segment.name
                kind = segment.type.value if segment.type else plain
                names.setdefault((kind, segment.laterality), plain)
    kinds = {one.modality for one in found if one.uid in sources}
    modality = wishes.modality or (kinds.pop() if len(kinds) == 1 else None)
    return Found(tuple(names.values()), modality)
