"""The card of a Hugging Face folder: ``config.json`` and ``preprocessor_config.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_models.scaffold.draft import Copy, Draft, Wishes, put_input, settle
from ai_models.scaffold.json_file import read_object
from ai_models.scaffold.networks import put_labels, put_quantities, put_scores
from ai_models.types import ModelError

PLACE = "model"
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
# What other frameworks, trainings and exports leave there, and nothing here reads.
_LEFT_OUT = re.compile(
    r"(.*/)?(\.|tf_model|flax_model|optimizer|scheduler|rng_state|training_args|trainer_state"
    r"|README|onnx/|openvino|runs/|checkpoint-).*|.*\.(py|pyc|h5|msgpack|onnx|gguf|zip)"
)
_UNNAMED = re.compile(r"label_?\d+", re.IGNORECASE)


def describe_huggingface(draft: Draft, wishes: Wishes, folder: Path) -> None:
    """A card from what the folder says of itself.

    Raises
    ------
    ModelError
        ``model.load_failed``; ``model.task``: none of the tasks that are served.
    """
    config = read_object(folder / "config.json")
    path = folder / "preprocessor_config.json"
    processor = read_object(path) if path.is_file() else {}
    kinds = config.get("architectures") or []
    kind = str(kinds[0]) if isinstance(kinds, list) and kinds else ""
    task = wishes.task or _task(kind, config)
    draft.put("task", task)
    if task == "text":
        _put_text(draft, wishes)
    else:
        _put_vision(draft, wishes, config, processor, task)
    draft.put("runtime.backend", "huggingface")
    settle(draft)
    draft.found.append(
        f"Hugging Face folder: {kind or config.get('model_type', 'no architecture said')}"
        + (f", {len(_labels(config))} outputs" if task != "text" else "")
        + (f", processor {_said(processor)}" if processor else ", no processor")
    )
    stated = _stated_licence(folder)
    if stated:
        draft.found.append(f"its README says license: {stated}")
    draft.copies += [
        Copy(one, f"{PLACE}/{one.relative_to(folder).as_posix()}") for one in _files(folder)
    ]
    draft.put("weights.path", PLACE)


def _task(kind: str, config: Mapping[str, Any]) -> str:
    if "SemanticSegmentation" in kind:
        return "segmentation"
    if "ImageClassification" in kind:
        return "regression" if config.get("problem_type") == "regression" else "classification"
    if kind.endswith(("ForCausalLM", "ForConditionalGeneration", "ForImageTextToText")) or (
        "VisionEncoderDecoder" in kind
    ):
        return "text"
    raise ModelError(
        f"config.json says {kind or 'no architecture'}: image classification, semantic "
        "segmentation or text (--task) expected", reason="model.task",
    )


def _put_text(draft: Draft, wishes: Wishes) -> None:
    put_input(draft, wishes, axes=2, channels=1)
    if draft.get("input.kind") == "volume":
        draft.put("input.ndim", 3)
    draft.put("input.normalisation", "none")
    put_prompt(draft)


def put_prompt(draft: Draft) -> None:
    """``output`` of a model that writes."""
    draft.put("output.prompt", "Describe the findings in this image.", "the one it was made for")
    draft.put("output.max_tokens", 512)
    if draft.get("input.kind") == "volume":
        draft.put("output.max_images", 8, "slices that are shown")
    draft.put("output.language", "en", "of its sentences: en, de, fr or zh")


def _put_vision(
    draft: Draft, wishes: Wishes, config: Mapping[str, Any], processor: Mapping[str, Any],
    task: str,
) -> None:
    channels = int(config.get("num_channels") or 3)
    put_input(draft, wishes, axes=2, channels=channels)
    _put_scaling(draft, processor, channels)
    edges = _size(processor) or _image_size(config)
    draft.put(
        "input.size", {"edges": list(edges or (224, 224)), "fit": "stretch"},
        "stretch, pad or crop: as in training" if edges else "edges of training; nothing says them",
    )
    names = _labels(config)
    if task == "segmentation":
        # Softmax has its first channel for the background, whatever the folder calls it.
        put_labels(draft, wishes, len(names), names=("background", *names[1:]))
        if len(names) > 1 and not re.match(r"(?i)back|bg\b|other", names[0]):
            draft.check("output.activation", f"channel 0, {names[0]}, counts as background")
    elif task == "regression":
        put_quantities(draft, wishes, len(names), () if _UNNAMED.fullmatch(names[0]) else names)
    else:
        several = config.get("problem_type") == "multi_label_classification"
        put_scores(
            draft, wishes, len(names), names=() if _UNNAMED.fullmatch(names[0]) else names,
            activation="sigmoid" if several or len(names) == 1 else "softmax",
        )


def _put_scaling(draft: Draft, processor: Mapping[str, Any], channels: int) -> None:
    """What the processor would have done, as the card says it."""
    if not processor:
        return
    why = draft.checks.pop("input.intensity", "")
    white = 255.0 * float(processor.get("rescale_factor", 1 / 255))
    if not processor.get("do_rescale", True):
        white = 255.0
    intensity = dict(draft.get("input.intensity"))
    if abs(white - 1.0) > 1e-6 or intensity["unit"] != "displayed":
        intensity["scale_to"] = [0.0, round(white, 6)]
    is_ct = intensity["unit"] == "HU"
    draft.put("input.intensity", intensity, why if is_ct else "")
    mean, deviation = processor.get("image_mean"), processor.get("image_std")
    if not processor.get("do_normalize", mean is not None) or mean is None:
        draft.put("input.normalisation", "none")
    elif (mean, deviation) == _IMAGENET and channels == 3:
        draft.put("input.normalisation", "imagenet")
    else:
        draft.put("input.normalisation", {
            "mean": mean if isinstance(mean, list) else [mean],
            "std": deviation if isinstance(deviation, list) else [deviation],
        })


def _size(processor: Mapping[str, Any]) -> tuple[int, int] | None:
    cropped = processor.get("do_center_crop")
    size = processor.get("crop_size") if cropped else processor.get("size")
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, dict):
        if {"height", "width"} <= set(size):
            return (int(size["height"]), int(size["width"]))
        if "shortest_edge" in size:
            return (int(size["shortest_edge"]), int(size["shortest_edge"]))
    return None


def _image_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    size = config.get("image_size")
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, list) and len(size) == 2:
        return (int(size[0]), int(size[1]))
    return None


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if isinstance(names, dict) and names and all(str(key).isdecimal() for key in names):
        return tuple(str(names[key]) for key in sorted(names, key=int))
    count = config.get("num_labels")
    # Two outputs are what the library makes where a configuration says nothing.
    return tuple(f"LABEL_{n}" for n in range(count if isinstance(count, int) and count > 0 else 2))


def _said(processor: Mapping[str, Any]) -> str:
    size = _size(processor)
    return " x ".join(map(str, size)) if size else "without a size"


def _stated_licence(folder: Path) -> str:
    try:
        head = (folder / "README.md").read_bytes()[:8192].decode("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(r"^license:\s*([A-Za-z0-9.+-]{1,64})\s*$", head, re.MULTILINE)
    return found[1] if found else ""


def _files(folder: Path) -> list[Path]:
    has_safetensors = any(folder.glob("*.safetensors"))
    return [
        path for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not _LEFT_OUT.fullmatch(path.relative_to(folder).as_posix())
        and not (has_safetensors and path.suffix in (".bin", ".pt", ".pth"))
    ]
