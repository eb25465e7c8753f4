"""MONAI bundles: a folder with ``configs/inference.json`` and the weights it belongs to.

The bundle's own preprocessing, inferer and postprocessing run, without their reading and writing of
files: the core hands over raw intensities, so the card of a bundle that scales says no clip, no
``scale_to`` and no normalisation. MONAI works in RAS; the array goes in with its affine turned
from LPS, and the bundle's ``Invertd`` brings the answer back to the very grid of the input.

A configuration is a program (see `ai_models.backends.monai_bundle_parts`). It is evaluated only if
the card asks for ``trust.config_exec`` and the site trusts the folder, whatever is written in it.
``runtime.roi``, ``overlap`` and ``batch`` replace those of the bundle's inferer where a card has
them, in the order of the bundle's own axes. Images are handed over columns first, as MONAI's
readers do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import monai
import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from ai_models.array.activation import activated
from ai_models.backends.fallbacks import Rung, ladder
from ai_models.backends.monai_alone import complete_monai, names_transchex
from ai_models.backends.monai_bundle_boxes import boxes_on_input
from ai_models.backends.monai_bundle_parts import BundleParts, inside, read_parts, told
from ai_models.backends.offline import no_network
from ai_models.backends.protocol import Answer, NetworkInput, check_device, is_out_of_memory
from ai_models.card import Card
from ai_models.card_entries import BundleOptions, SegmentationOutput
from ai_models.trust import Site
from ai_models.types import FloatArray, ModelError
from ai_models.weights import verify_folder

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}
_TASKS = ("segmentation", "classification", "regression", "detection")
_WARM_UP_EDGE = 32
T = TypeVar("T")


class MonaiBundleBackend:
    """Runs a MONAI bundle of a trusted folder."""

    def __init__(self, card: Card, device: str, site: Site) -> None:
        self._card = card
        self._device = device
        self._site = site
        self._parts: BundleParts | None = None
        self._runs_on = torch.device("cpu")
        self._rungs = [Rung(1)]
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Backend.notes`."""
        return self._notes

    @property
    def _options(self) -> BundleOptions:
        return self._card.runtime.bundle or BundleOptions()

    def probe(self) -> None:
        """See `Backend.probe`."""
        check_device(self._device)
        if self._card.task not in _TASKS:
            raise ModelError(f"a MONAI bundle answers no {self._card.task}", reason="model.task")
        if not (self._card.trust.config_exec and self._site.trusts(self._card.folder)):
            raise ModelError(
                "the configuration of a MONAI bundle is a program: it needs trust.config_exec of "
                "the card and its folder in models.trusted_folders of the node",
                reason="model.config_exec",
            )
        for name in (self._options.config, self._options.weights):
            inside(self._card.weights_path, name)

    def load(self) -> None:
        """See `Backend.load`."""
        self.probe()
        folder = verify_folder(self._card)
        device, notes = torch.device(self._device), []
        if device.type == "cuda" and not torch.cuda.is_available():
            device = torch.device("cpu")
            notes.append(f"{self._device} was asked for, but torch sees no CUDA: ran on the CPU")
        with no_network(self._card.id):
            if names_transchex(folder):
                complete_monai()
            parts = read_parts(
                folder, self._options, device, task=self._card.task,
                own_code=self._card.trust.remote_code,
            )
        self._check_intensity(parts)
        self._runs_on, self._parts = device, parts
        first = self._first_rung(parts)
        self._rungs = ladder(
            first, self._card.runtime.fallbacks, self._able(parts),
            cpu_changes=self._card.runtime.precision != "fp32",
        )
        what = f"MONAI {monai.__version__}, torch {torch.__version__}, {device}"
        self._notes = (f"{what}, {self._card.runtime.precision}", *notes)

    def _check_intensity(self, parts: BundleParts) -> None:
        intensity, entry = self._card.input.intensity, self._card.input
        changed = (
            intensity.clip or intensity.clip_percentiles or intensity.scale_to
            or entry.normalisation != "none"
        )
        if changed and parts.scales:
            raise ModelError(
                f"the bundle scales intensities itself ({', '.join(parts.scales)}): "
                "input.intensity has no clip and no scale_to, and input.normalisation is none",
                reason="model.wrong_input",
            )

    def _first_rung(self, parts: BundleParts) -> Rung:
        """What the bundle's inferer says, and the card where it says more."""
        inferer, runtime = _sliding(parts), self._card.runtime
        given = runtime.model_fields_set
        own = getattr(inferer, "roi_size", None)
        roi = tuple(int(edge) for edge in own) if isinstance(own, list | tuple) else None
        if runtime.roi is not None and roi is not None:
            if len(roi) != len(runtime.roi):
                raise ModelError(
                    f"runtime.roi has {len(runtime.roi)} edges, the bundle's windows {len(roi)}",
                    reason="model.wrong_input",
                )
            roi = tuple(runtime.roi)
        if "overlap" in given and hasattr(inferer, "overlap"):
            inferer.overlap = runtime.overlap
        own_batch = int(getattr(inferer, "sw_batch_size", 1))
        return Rung(runtime.batch if "batch" in given else own_batch, roi)

    def _able(self, parts: BundleParts) -> frozenset[str]:
        if self._runs_on.type == "cpu":
            return frozenset()
        slides = {"batch", "offload", "roi"} if _sliding(parts) is not None else set()
        # A detector's anchors and its configured devices stay where they were made.
        alone = set() if parts.detector is not None else {"cpu"}
        half = {"half"} if self._card.runtime.precision == "fp32" else set()
        return frozenset(slides | alone | half)

    def warm_up(self) -> None:
        """See `Backend.warm_up`."""
        entry = self._card.input
        channels = entry.channel_counts[0]
        edges = (_WARM_UP_EDGE,) * (2 if entry.kind == "image" else 3)
        if entry.kind == "volume" and entry.ndim == 2:
            edges = (1, *edges[1:])
        # Not all the same, since chains divide by a range or cut off what is empty.
        array = np.linspace(0, 1, channels * int(np.prod(edges)), dtype=np.float32)
        spacing_mm = tuple(entry.spacing_mm or (1.0,) * len(edges))[-len(edges):]
        affine_lps = None if entry.kind == "image" else np.diag([*spacing_mm, 1.0])
        self.predict(NetworkInput(array.reshape(channels, *edges), affine_lps, spacing_mm))

    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`."""
        for number, rung in enumerate(self._rungs):
            try:
                return self._on(rung, image)
            except Exception as error:  # libraries say in types of their own that memory is out
                if not is_out_of_memory(error) or number + 1 == len(self._rungs):
                    raise
            torch.cuda.empty_cache()
        raise AssertionError("there is always a rung")

    def _on(self, rung: Rung, image: NetworkInput) -> Answer:
        parts = self._loaded()
        device = torch.device("cpu") if rung.cpu else self._runs_on
        parts.network.to(device)
        if (inferer := _sliding(parts)) is not None:
            if rung.roi is not None:
                inferer.roi_size, inferer.roi_weight_map = rung.roi, None
            inferer.sw_batch_size, inferer.sw_device = rung.batch, device
            inferer.device = torch.device("cpu") if rung.offload else device
        dtype = _AUTOCAST.get(self._card.runtime.precision)
        if rung.half and dtype is None:
            dtype = torch.float16
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            answer = self._answer(parts, image, device)
        return Answer(
            answer.scores, answer.label_map, answer.boxes,
            notes=(*self._notes, *rung.notes), parameters=rung.parameters,
        )

    def _answer(self, parts: BundleParts, image: NetworkInput, device: torch.device) -> Answer:
        if self._card.input.kind == "image":
            flat = np.ascontiguousarray(image.array.swapaxes(1, 2))
            return _turned(self._one(parts, _tensor(flat, None), device))
        if self._card.input.ndim == 3:
            return self._one(parts, _tensor(image.array, image.affine_lps), device)
        slices = [
            self._one(parts, _tensor(np.ascontiguousarray(one), None), device)
            for one in image.array.swapaxes(0, 1)
        ]
        return _stacked(slices)

    def _one(self, parts: BundleParts, tensor: MetaTensor, device: torch.device) -> Answer:
        """The answer to one whole input, a volume or a flat image."""
        data = _done("preprocessing", parts.preprocessing, {parts.image_key: tensor})
        prepared = data.get(parts.image_key) if isinstance(data, dict) else None
        if not isinstance(prepared, torch.Tensor):
            raise ModelError("the preprocessing answers no image", reason=_WRONG)
        inputs = torch.as_tensor(prepared)[None].float()
        inputs = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if parts.detector is not None:
            found = _done("detector", _detect, parts.detector, inputs.to(device))
            boxes = boxes_on_input(found, prepared, tensor, self._first_label)
            return Answer(boxes=boxes)
        logits = _done("network", parts.inferer, inputs.to(device), parts.network)
        if not isinstance(logits, torch.Tensor):
            raise ModelError(
                f"the network answers a {type(logits).__name__}, one array expected", reason=_WRONG
            )
        return self._finished(parts, data, prepared, logits.float()[0], tensor)

    @property
    def _first_label(self) -> int:
        return int(getattr(self._card.output, "first_label", 0))

    def _finished(
        self, parts: BundleParts, data: dict[str, Any], prepared: torch.Tensor,
        logits: torch.Tensor, tensor: MetaTensor,
    ) -> Answer:
        output = self._card.output
        is_segmentation = isinstance(output, SegmentationOutput)
        as_scores = not is_segmentation or (
            isinstance(output, SegmentationOutput) and (output.probabilities or output.overlapping)
        )
        steps = parts.undecided() if as_scores else parts.postprocessing
        if is_segmentation and isinstance(prepared, MetaTensor):
            logits = MetaTensor(
                logits, meta=prepared.meta, applied_operations=prepared.applied_operations
            )
        data = {**data, parts.answer_key: logits}
        for step in steps:
            data = _done("postprocessing", step, data)
        answer = np.atleast_1d(torch.as_tensor(data[parts.answer_key]).cpu().numpy())
        if not is_segmentation:
            if answer.size != len(answer):
                raise ModelError(
                    f"the bundle answers {answer.shape}: one number for each score expected",
                    reason=_WRONG,
                )
            return Answer(scores=self._activated(parts, answer.astype(np.float32).ravel(), -1))
        if answer.shape[1:] != tuple(tensor.shape[1:]):
            raise ModelError(
                f"the bundle answers on a grid {answer.shape[1:]}, the input has "
                f"{tuple(tensor.shape[1:])}", reason=_WRONG,
            )
        if as_scores:
            return Answer(scores=self._activated(parts, answer.astype(np.float32), 0))
        if len(answer) > 1:  # a channel for each label, or one for the background as well
            return Answer(scores=answer.astype(np.float32))
        return Answer(label_map=_labels(answer[0]))

    def _activated(self, parts: BundleParts, values: FloatArray, axis: int) -> FloatArray:
        """After the card's activation, where the bundle has none of its own."""
        if parts.has("Activations"):
            return values
        return activated(values, getattr(self._card.output, "activation", "none"), axis)

    def _loaded(self) -> BundleParts:
        if self._parts is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        return self._parts

    def close(self) -> None:
        """See `Backend.close`."""
        self._parts = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _sliding(parts: BundleParts) -> Any:
    """What slides windows, ``None`` where the bundle takes its input whole."""
    inferer = parts.inferer if parts.detector is None else parts.detector.inferer
    return inferer if hasattr(inferer, "roi_size") else None


def _tensor(array: FloatArray, affine_lps: Any) -> MetaTensor:
    affine = np.eye(4) if affine_lps is None else _LPS_TO_RAS @ affine_lps
    tensor = torch.from_numpy(np.array(array, dtype=np.float32))
    return MetaTensor(tensor, affine=torch.from_numpy(affine), meta={
        "original_affine": affine, "spatial_shape": np.array(array.shape[1:]),
        "original_channel_dim": 0, "filename_or_obj": "input", "space": "RAS",
    })


def _done(stage: str, work: Callable[..., T], *arguments: Any) -> T:
    """What a part of the bundle answers; its errors say which part it was."""
    try:
        return work(*arguments)
    except Exception as error:  # whatever a bundle's own steps raise
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{stage} of the bundle failed: {told(error)}", reason="model.failed"
        ) from error


def _detect(detector: Any, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Boxes of one image; in windows where it is larger than one."""
    whole = detector.inferer is None or all(
        edge <= roi for edge, roi in zip(inputs.shape[2:], detector.inferer.roi_size, strict=True)
    )
    found = detector([inputs[0]], use_inferer=not whole)[0]
    return {
        "boxes": found[detector.target_box_key], "labels": found[detector.target_label_key],
        "scores": found[detector.pred_score_key],
    }


def _labels(values: FloatArray) -> Any:
    if not np.isfinite(values).all():
        raise ModelError("the bundle answered NaN or infinity", reason="model.not_finite")
    rounded = np.rint(values)
    if np.abs(values - rounded).max(initial=0) > 1e-3 or not (
        rounded.min(initial=0) >= 0 and rounded.max(initial=0) <= 255
    ):
        raise ModelError("the bundle answered no label numbers from 0 to 255", reason=_WRONG)
    return rounded.astype(np.uint8)


def _turned(answer: Answer) -> Answer:
    """An image's answer with rows first again."""
    def swapped(values: Any) -> Any:
        return None if values is None else np.ascontiguousarray(values.swapaxes(-1, -2))

    scores = answer.scores
    if scores is not None and scores.ndim > 1:
        scores = swapped(scores)
    boxes = answer.boxes
    if boxes is not None:
        boxes = boxes[:, [0, 2, 1, 3, 5, 4, 6, 7]]
    return Answer(scores, swapped(answer.label_map), boxes)


def _stacked(slices: list[Answer]) -> Answer:
    """The answers to single slices as one of the volume."""
    maps = [one.label_map for one in slices if one.label_map is not None]
    scores = [one.scores for one in slices if one.scores is not None]
    if len(maps) == len(slices):
        return Answer(label_map=np.stack(maps))
    if len(scores) != len(slices):
        raise ModelError("boxes of single slices are not boxes of a volume", reason=_WRONG)
    return Answer(scores=np.stack(scores, axis=1 if scores[0].ndim > 1 else 0))


_WRONG = "model.wrong_output"
