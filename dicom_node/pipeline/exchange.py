"""How an input and a prediction travel between the node and a worker process.

Arrays are ``.npy`` files (never pickled) in a folder that the node makes and removes; everything
else is one JSON document. What comes back is checked: a worker runs foreign code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.trust import Endpoint, Site
from ai_models.types import (
    Algorithm,
    ClassificationPrediction,
    Code,
    Detection,
    DetectionPrediction,
    FloatArray,
    Image,
    JointInput,
    Label,
    ModelInput,
    Prediction,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
    Volume,
)
from dicom_node.errors import ModelFailed

_MOST_TEXT = 100_000
_MOST_FEATURES = 8192


def write_source(folder: Path, source: ModelInput) -> dict[str, Any]:
    """Put an input into ``folder``; the answer goes into the request."""
    if isinstance(source, JointInput):
        return _write_joint(folder, source)
    path = folder / "source.npy"
    np.save(path, source.array, allow_pickle=False)
    if isinstance(source, Image):
        return {
            "kind": "image", "path": str(path), "pixel_spacing_mm": source.pixel_spacing_mm,
            "clinical": dict(source.clinical),
        }
    return _volume_document(path, source)


def read_source(told: Mapping[str, Any]) -> ModelInput:
    """What `write_source` wrote; an array stays in its file until it is looked at."""
    if told["kind"] == "joint":
        return _read_joint(told)
    if told["kind"] == "image":
        array = np.load(told["path"], mmap_mode="r", allow_pickle=False)
        spacing = told["pixel_spacing_mm"]
        known = None if spacing is None else (spacing[0], spacing[1])
        return Image(array, known, _clinical(told))
    return _read_volume(told)


def _write_joint(folder: Path, source: JointInput) -> dict[str, Any]:
    """The first phase is the reference: it is written once."""
    return {
        "kind": "joint",
        "reference": _write_volume(folder, "source", source.reference),
        "phases": [
            _write_volume(folder, f"phase-{number}", phase)
            for number, phase in enumerate(source.phases[1:], start=1)
        ],
        "has_phases": bool(source.phases),
        "times_s": list(source.times_s),
        "companions": {
            role: None if volume is None else _write_volume(folder, f"companion-{number}", volume)
            for number, (role, volume) in enumerate(source.companions.items())
        },
        "clinical": dict(source.clinical),
    }


def _read_joint(told: Mapping[str, Any]) -> JointInput:
    reference = _read_volume(told["reference"])
    phases = (reference, *(_read_volume(one) for one in told["phases"]))
    return JointInput(
        reference,
        phases if told["has_phases"] else (),
        tuple(float(one) for one in told["times_s"]),
        {
            role: None if one is None else _read_volume(one)
            for role, one in told["companions"].items()
        },
        _clinical(told),
    )


def _clinical(told: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: None if one is None else float(one) for name, one in told["clinical"].items()}


def _write_volume(folder: Path, name: str, volume: Volume) -> dict[str, Any]:
    path = folder / f"{name}.npy"
    np.save(path, volume.array, allow_pickle=False)
    return _volume_document(path, volume)


def _volume_document(path: Path, volume: Volume) -> dict[str, Any]:
    return {
        "kind": "volume", "path": str(path), "unit": volume.unit,
        "affine_lps": volume.affine_lps.tolist(),
    }


def _read_volume(told: Mapping[str, Any]) -> Volume:
    array = np.load(told["path"], mmap_mode="r", allow_pickle=False)
    affine = np.asarray(told["affine_lps"], dtype=np.float64)
    return Volume(array, affine, str(told["unit"]))


def write_prediction(
    folder: Path, prediction: Prediction, seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Put a prediction into ``folder``; ``seconds`` are stages before it (loading)."""
    told: dict[str, Any] = {
        "kind": type(prediction).__name__,
        "algorithm": asdict(prediction.algorithm),
        "seconds_by_stage": {**seconds, **prediction.seconds_by_stage},
        "notes": list(prediction.notes),
        "features": list(getattr(prediction, "features", ())),
    }
    if isinstance(prediction, SegmentationPrediction):
        _save(folder, "labels", prediction.label_map)
        told |= {
            "labels": [asdict(label) for label in prediction.labels],
            "probabilities": _save_all(folder, "probabilities", prediction.probabilities),
        }
    elif isinstance(prediction, ClassificationPrediction):
        told |= {
            "scores": prediction.scores,
            "saliency": _save_all(folder, "saliency", prediction.saliency),
            "saliency_method": prediction.saliency_method,
            "by_slice": _save_all(folder, "by-slice", prediction.by_slice),
            "undetermined": {name: list(one) for name, one in prediction.undetermined.items()},
        }
    elif isinstance(prediction, RegressionPrediction):
        told["values"] = prediction.values
    elif isinstance(prediction, DetectionPrediction):
        told |= {
            "labels": [asdict(label) for label in prediction.labels],
            "detections": [
                {"label_value": one.label_value, "score": one.score,
                 "box_lps": one.box_lps.tolist()}
                for one in prediction.detections
            ],
        }
    else:
        told |= {"text": prediction.text, "language": prediction.language}
    return told


def read_prediction(folder: Path, told: Mapping[str, Any], source: ModelInput) -> Prediction:
    """What `write_prediction` wrote, checked against the input that it answers.

    Raises
    ------
    ModelFailed
        ``model.wrong_output``: an array is not on the grid of the input, or a number is none.
    OSError
        An array cannot be read.
    """
    prediction = _read_prediction(folder, told, source)
    if features := _features(told["features"]):
        if isinstance(prediction, TextPrediction):
            raise ModelFailed("sentences have no features", reason=_WRONG)
        return replace(prediction, features=features)
    return prediction


def _read_prediction(folder: Path, told: Mapping[str, Any], source: ModelInput) -> Prediction:
    seconds = {str(stage): float(value) for stage, value in told["seconds_by_stage"].items()}
    notes = tuple(str(note) for note in told["notes"])
    family = Code(**told["algorithm"]["family"])
    algorithm = Algorithm(**{**told["algorithm"], "family": family})
    kind = told["kind"]
    if kind == SegmentationPrediction.__name__:
        return _segmentation(folder, told, source, algorithm, seconds, notes)
    if kind == ClassificationPrediction.__name__:
        return _classification(folder, told, source, algorithm, seconds, notes)
    if kind == RegressionPrediction.__name__:
        return RegressionPrediction(_finite(told["values"]), algorithm, seconds, notes)
    if kind == DetectionPrediction.__name__:
        found = tuple(
            Detection(
                int(one["label_value"]), _finite({"score": one["score"]})["score"],
                np.asarray(one["box_lps"], dtype=np.float64),
            )
            for one in told["detections"]
        )
        if not all(one.box_lps.shape == (4, 4) and np.isfinite(one.box_lps).all() for one in found):
            raise ModelFailed("a box is nowhere", reason=_WRONG)
        labels = tuple(_label(entry) for entry in told["labels"])
        return DetectionPrediction(found, labels, algorithm, seconds, notes)
    if kind == TextPrediction.__name__:
        text = str(told["text"])[:_MOST_TEXT]
        return TextPrediction(text, algorithm, str(told["language"]), seconds, notes)
    raise ModelFailed(f"a worker answered a {kind}", reason=_WRONG)


def site_document(site: Site) -> dict[str, Any]:
    """A site as JSON, for the command line of a worker."""
    return {
        "use": site.use,
        "trusted_folders": [str(folder) for folder in site.trusted_folders],
        "endpoints": {
            name: [one.url, str(one.api_key_file or ""), one.timeout_s]
            for name, one in site.endpoints.items()
        },
    }


def site_from(document: dict[str, Any]) -> Site:
    """What `site_document` wrote."""
    return Site(
        document.get("use", "research"),
        tuple(Path(folder) for folder in document.get("trusted_folders", ())),
        {
            name: Endpoint(url, Path(key) if key else None, float(timeout_s))
            for name, (url, key, timeout_s) in document.get("endpoints", {}).items()
        },
    )


def _segmentation(
    folder: Path, told: Mapping[str, Any], source: ModelInput, algorithm: Algorithm,
    seconds: dict[str, float], notes: tuple[str, ...],
) -> SegmentationPrediction:
    label_map = np.load(folder / "labels.npy", allow_pickle=False)
    expected = _grid(source)
    if label_map.shape != expected or label_map.dtype not in (np.uint8, np.uint64):
        raise ModelFailed(
            f"labels {label_map.dtype} {label_map.shape} for an input {expected}", reason=_WRONG
        )
    maps = _load_all(folder, "probabilities", told["probabilities"], expected)
    return SegmentationPrediction(
        label_map, tuple(_label(entry) for entry in told["labels"]), algorithm, seconds, notes,
        {int(value): scores for value, scores in maps.items()},
    )


def _classification(
    folder: Path, told: Mapping[str, Any], source: ModelInput, algorithm: Algorithm,
    seconds: dict[str, float], notes: tuple[str, ...],
) -> ClassificationPrediction:
    shape = source.array.shape
    return ClassificationPrediction(
        _finite(told["scores"]), algorithm,
        _load_all(folder, "saliency", told["saliency"], shape), seconds, notes,
        str(told["saliency_method"]),
        _load_all(folder, "by-slice", told["by_slice"], shape[:1]),
        undetermined={
            str(name): tuple(str(role) for role in roles)
            for name, roles in told["undetermined"].items()
        },
    )


def _grid(source: ModelInput) -> tuple[int, ...]:
    return (1, *source.array.shape) if isinstance(source, Image) else source.array.shape


def _save(folder: Path, name: str, array: npt.NDArray[Any]) -> None:
    np.save(folder / f"{name}.npy", array, allow_pickle=False)


def _save_all(folder: Path, name: str, arrays: Mapping[Any, FloatArray]) -> list[str]:
    """Files are numbered: a name from a card is no file name."""
    for number, array in enumerate(arrays.values()):
        _save(folder, f"{name}-{number}", array)
    return [str(key) for key in arrays]


def _load_all(
    folder: Path, name: str, keys: list[str], expected: tuple[int, ...]
) -> dict[str, FloatArray]:
    arrays = {}
    for number, key in enumerate(keys):
        array = np.load(folder / f"{name}-{number}.npy", allow_pickle=False)
        if array.shape != expected or array.dtype != np.float32:
            raise ModelFailed(
                f"{name} {array.dtype} {array.shape} for an input {expected}", reason=_WRONG
            )
        arrays[str(key)] = array
    return arrays


def _finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    read = {str(name): float(value) for name, value in numbers.items()}
    if not all(np.isfinite(value) for value in read.values()):
        raise ModelFailed("the model answered a number that is none", reason=_WRONG)
    return read


def _features(told: Sequence[Any]) -> tuple[float, ...]:
    if len(told) > _MOST_FEATURES:
        raise ModelFailed(f"{len(told)} features of one input", reason=_WRONG)
    return tuple(_finite({str(at): value for at, value in enumerate(told)}).values())


def _label(entry: Mapping[str, Any]) -> Label:
    codes = {
        name: Code(**entry[name]) if entry[name] is not None else None
        for name in ("category", "type", "laterality", "anatomic_region")
    }
    label = Label(**{**entry, **codes})
    return replace(label, color_rgb=(label.color_rgb[0], label.color_rgb[1], label.color_rgb[2]))


_WRONG = "model.wrong_output"
