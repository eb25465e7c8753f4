"""nnU-Net v2: a trained folder (plans.json, dataset.json, fold_<n>/checkpoint) as it was written.

nnU-Net's own code scales, resamples, slides and averages, so that the answer is the one that its
authors measured. It reads checkpoints as pickles; here they are read as plain values and handed
over, and only a trusted folder whose card asks for ``trust.pickle`` is read nnU-Net's way.

The array goes in as the card's axes lie. nnU-Net keeps files in the orientation they had in
training (its SimpleITK and nibabel readers both give slices, rows, columns), so that
``input.axes`` says how the files of the training grew: ``[S, P, L]`` for DICOM series, ``[S, A,
R]`` for NIfTI files in RAS. Mirrored averaging is done along ``output.mirror``, not by default.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ai_models.backends.checkpoint import PickledProgramError
from ai_models.backends.nnunet_folder import (
    Checkpoint,
    LabelPlan,
    check_input,
    check_labels,
    check_plans,
    checkpoint_paths,
    folds_of,
    read_fold,
    read_json,
    read_labels,
)
from ai_models.backends.offline import no_network
from ai_models.backends.protocol import (
    Answer,
    NetworkInput,
    check_device,
    is_out_of_memory,
)
from ai_models.card import Card, SegmentationCard
from ai_models.trust import Site
from ai_models.types import FloatArray, LabelMap, ModelError
from ai_models.weights import verify_folder

_IMAGE_SLICE_MM = 999.0  # what nnU-Net gives a flat image as the distance of its one slice


class NnunetBackend:
    """Runs a trained folder of nnU-Net v2."""

    def __init__(self, card: Card, device: str, site: Site) -> None:
        self._card = card
        self._device = device
        self._site = site
        self._predictor: Any = None
        self._labels = LabelPlan(frozenset(), ())
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Backend.notes`."""
        return self._notes

    def probe(self) -> None:
        """See `Backend.probe`."""
        check_device(self._device)
        if not isinstance(self._card, SegmentationCard):
            raise ModelError(f"nnU-Net answers no {self._card.task}", reason="model.task")
        if importlib.util.find_spec("nnunetv2") is None:
            raise ModelError(
                "the nnunetv2 package is not installed: pip install 'dicom-node[nnunet]'",
                reason="model.backend_missing",
            )
        checkpoint_paths(self._card)

    def load(self) -> None:
        """See `Backend.load`."""
        self.probe()
        folder = verify_folder(self._card)
        plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
        check_input(self._card, plans, dataset)
        self._labels = read_labels(dataset)
        if isinstance(self._card, SegmentationCard):
            check_labels(self._card, self._labels)
        device, notes = self._usable_device()
        with no_network(self._card.id):
            self._predictor = self._open(device, plans, dataset)
        self._set_mirroring(plans)
        self._notes = (self._what_runs(plans), *notes)

    def _usable_device(self) -> tuple[torch.device, list[str]]:
        device = torch.device(self._device)
        if device.type == "cuda" and not torch.cuda.is_available():
            note = f"{self._device} was asked for, but torch sees no CUDA: ran on the CPU"
            return torch.device("cpu"), [note]
        return device, []

    def _open(
        self, device: torch.device, plans: dict[str, Any], dataset: dict[str, Any]
    ) -> Any:
        predictor = _new_predictor(device, folds_of(self._card).step)
        try:
            folds = [read_fold(path) for path in checkpoint_paths(self._card)]
        except PickledProgramError as error:
            if not (self._card.trust.pickle and self._site.trusts(self._card.folder)):
                raise ModelError(
                    f"{error}; trust.pickle of the card and models.trusted_folders of the node "
                    "would allow it", reason=error.reason,
                ) from error
            return self._open_pickles(predictor)
        configuration, trainer = folds[0].configuration, folds[0].trainer
        check_plans(plans, configuration)
        if any((one.configuration, one.trainer) != (configuration, trainer) for one in folds):
            raise ModelError("the folds are not of one training", reason=_FAILED)
        manager = _imported("nnunetv2.utilities.plans_handling.plans_handler").PlansManager(plans)
        network = _network(manager, dataset, folds)
        predictor.manual_initialization(
            network, manager, manager.get_configuration(configuration),
            [one.weights for one in folds], dataset, trainer, folds[0].mirror_axes,
        )
        return predictor

    def _open_pickles(self, predictor: Any) -> Any:
        """As nnU-Net reads them: what the site trusts may run what it likes."""
        options = folds_of(self._card)
        try:
            predictor.initialize_from_trained_model_folder(
                str(self._card.weights_path), tuple(options.folds), options.checkpoint
            )
        except Exception as error:  # what foreign pickles raise is theirs
            raise ModelError(f"nnU-Net cannot load the folder: {error}", reason=_FAILED) from error
        return predictor

    def _set_mirroring(self, plans: Mapping[str, Any]) -> None:
        asked = set(self._card.output.mirror)
        forward = plans.get("transpose_forward", [0, 1, 2])
        flat = len(self._predictor.configuration_manager.patch_size) == 2
        wanted = [
            axis - flat for axis, source in enumerate(forward)
            if source in asked and not (flat and axis == 0)
        ]
        allowed = set(self._predictor.allowed_mirroring_axes or ())
        if len(wanted) != len(asked) or not set(wanted) <= allowed:
            raise ModelError(
                f"output.mirror asks for the axes {sorted(asked)}, the folder was trained to be "
                f"mirrored along its network's axes {sorted(allowed)}", reason="model.wrong_input",
            )
        self._predictor.use_mirroring = bool(wanted)
        self._predictor.allowed_mirroring_axes = tuple(wanted)

    def _what_runs(self, plans: Mapping[str, Any]) -> str:
        predictor, options = self._predictor, folds_of(self._card)
        precision = "fp32" if predictor.device.type == "cpu" else "nnU-Net's mixed precision"
        folds = ", ".join(str(fold) for fold in options.folds)
        return (
            f"nnunetv2 {importlib.metadata.version('nnunetv2')}, {predictor.trainer_name}, "
            f"fold {folds}, {predictor.device}, {precision}, arrays as "
            f"{plans.get('image_reader_writer', 'its reader')} gave them in training"
        )

    def warm_up(self) -> None:
        """See `Backend.warm_up`."""
        patch = self._ready().configuration_manager.patch_size
        entry = self._card.input
        channels = max(1, len(entry.channels)) * entry.repeat
        edges = tuple(patch[-2:]) if entry.kind == "image" else tuple(patch[-3:])
        if entry.kind == "volume" and len(edges) == 2:
            edges = (1, *edges)
        # Not all the same: nnU-Net cuts off what is zero and divides by the deviation.
        array = np.linspace(1, 2, num=channels * int(np.prod(edges)), dtype=np.float32)
        self.predict(NetworkInput(
            array.reshape(channels, *edges), np.eye(4), (1.0,) * len(edges)
        ))

    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`."""
        predictor = self._ready()
        array, spacing_mm = image.array, [float(step) for step in image.spacing_mm]
        if self._card.input.kind == "image":
            array, spacing_mm = array[:, None], [_IMAGE_SLICE_MM, 1.0, 1.0]
        if len(spacing_mm) != 3:
            raise ModelError("nnU-Net needs the spacing of its input", reason="model.wrong_input")
        output = self._card.output
        wants_scores = bool(getattr(output, "probabilities", False)) or bool(
            getattr(output, "overlapping", False)
        )
        predictor.moved_results = False
        notes: list[str] = []
        changed: dict[str, str] = {}
        if not array.any():
            answer = self._nothing((array.shape[1], array.shape[2], array.shape[3]), wants_scores)
            notes.append("the input is zero everywhere: nothing was computed")
        else:
            answer = self._run(array, spacing_mm, wants_scores, notes)
        if _ON_CPU in notes:
            # In fp32 there, and in mixed precision on a GPU: other numbers, so another object.
            changed["fall_back"] = "cpu"
        if predictor.moved_results:
            notes.append("memory did not suffice: offload (the sum was gathered on the host)")
        if wants_scores:
            return Answer(scores=answer, notes=(*self._notes, *notes), parameters=changed)
        return Answer(
            label_map=self._reported(answer), notes=(*self._notes, *notes), parameters=changed
        )

    def _run(
        self, array: FloatArray, spacing_mm: list[float], scores: bool, notes: list[str]
    ) -> Any:
        predictor, threads = self._ready(), torch.get_num_threads()
        try:
            answer = _answer(predictor, array, spacing_mm, scores)
        except Exception as error:  # torch raises plain RuntimeError as well when memory is out
            falls_back = "cpu" in self._card.runtime.fallbacks and predictor.device.type != "cpu"
            if not (falls_back and is_out_of_memory(error)):
                raise
            answer = None
        finally:
            torch.set_num_threads(threads)
        if answer is not None:
            return answer
        device, on_device = predictor.device, predictor.perform_everything_on_device
        predictor.device, predictor.perform_everything_on_device = torch.device("cpu"), False
        torch.cuda.empty_cache()
        notes.append(_ON_CPU)
        try:
            return _answer(predictor, array, spacing_mm, scores)
        finally:
            predictor.device, predictor.perform_everything_on_device = device, on_device
            torch.set_num_threads(threads)

    def _nothing(self, shape: tuple[int, int, int], scores: bool) -> Any:
        if not scores:
            return np.zeros(shape, dtype=np.uint8)
        heads = self._ready().label_manager.num_segmentation_heads
        answer = np.zeros((heads, *shape), dtype=np.float32)
        if not self._labels.regions:
            answer[0] = 1.0
        return answer

    def _reported(self, label_map: LabelMap) -> LabelMap:
        known = [label.value for label in self._card.labels]
        answer = label_map.astype(np.uint8)
        answer[~np.isin(answer, known)] = 0  # what the card ignores; the rest was checked at load
        return answer

    def _ready(self) -> Any:
        if self._predictor is None:
            raise ModelError("predict before load", reason="model.not_loaded")
        return self._predictor

    def close(self) -> None:
        """See `Backend.close`."""
        self._predictor = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _answer(predictor: Any, array: FloatArray, spacing_mm: list[float], scores: bool) -> Any:
    answer = predictor.predict_single_npy_array(
        np.ascontiguousarray(array), {"spacing": spacing_mm}, None, None, scores
    )
    return np.asarray(answer[1], dtype=np.float32) if scores else np.asarray(answer)


def _network(manager: Any, dataset: dict[str, Any], folds: list[Checkpoint]) -> torch.nn.Module:
    labels = _imported("nnunetv2.utilities.label_handling.label_handling")
    finder = _imported("nnunetv2.utilities.find_objects")
    configuration = manager.get_configuration(folds[0].configuration)
    try:
        trainer = finder.recursive_find_trainer_class_by_name(folds[0].trainer)
    except RuntimeError as error:
        raise ModelError(
            f"the folder was trained by {folds[0].trainer}, which the installed nnU-Net does not "
            "have", reason="model.architecture_unknown",
        ) from error
    channels = labels.determine_num_input_channels(manager, configuration, dataset)
    heads = manager.get_label_manager(dataset).num_segmentation_heads
    try:
        network: torch.nn.Module = trainer.build_network_architecture(
            manager, configuration, channels, heads, enable_deep_supervision=False
        )
        for fold in folds:
            network.load_state_dict(fold.weights)
    except Exception as error:  # whatever a network's constructor says of plans that do not fit
        raise ModelError(
            f"nnU-Net cannot build the network of the folder: {error}", reason=_FAILED
        ) from error
    return network


def _new_predictor(device: torch.device, step: float) -> Any:
    module = _imported("nnunetv2.inference.predict_from_raw_data")
    before = torch.backends.cudnn.benchmark

    class Predictor(module.nnUNetPredictor):  # type: ignore[misc, name-defined]
        """nnU-Net's own, which also says when it moved its results to the host."""

        moved_results = False

        def _internal_predict_sliding_window_return_logits(
            self, data: Any, slicers: Any, do_on_device: bool = True
        ) -> Any:
            if self.perform_everything_on_device and not do_on_device:
                self.moved_results = True
            return super()._internal_predict_sliding_window_return_logits(
                data, slicers, do_on_device
            )

    with contextlib.redirect_stdout(io.StringIO()):  # it prints that a CPU is no GPU
        predictor = Predictor(
            tile_step_size=step, device=device, perform_everything_on_device=True,
            allow_tqdm=False,
        )
    torch.backends.cudnn.benchmark = before  # it is the whole process's, and other models' too
    return predictor


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"nnU-Net cannot be imported: {error}", reason="model.backend_missing"
        ) from error


_FAILED = "model.load_failed"
_ON_CPU = "memory did not suffice: cpu"
