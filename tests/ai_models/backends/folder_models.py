"""Models as folders, small enough to be made in a test: what is bright is labelled 1.

`write_nnunet_model` and `write_monai_bundle` write the folder of the weights and a card with its
right digest. A voxel is bright from `THRESHOLD_HU`, as long as windows and resampling leave it
alone: both networks look at single voxels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ai_models.weights import folder_sha256
from tests.ai_models.tiny_models import card_text, card_values

THRESHOLD_HU = 100.0
STEP_HU = 100.0
RAW = {"unit": "HU"}
_GAIN = 0.2  # of a logit for each HU
_DEVIATION_HU = 50.0
_CONV = "torch.nn.modules.conv.Conv3d"


def write_card(folder: Path, weights: str, **changes: object) -> Path:
    """Write the card of a folder of weights below ``folder``, with its digest."""
    values = card_values(**{
        "weights__path": weights, "weights__sha256": folder_sha256(folder / weights),
        "input__intensity": RAW, **changes,
    })
    for key in ("roi", "overlap", "batch"):
        if f"runtime__{key}" not in changes:
            values["runtime"].pop(key)
    if "input__spacing_mm" not in changes:
        values["input"].pop("spacing_mm", None)
    (folder / "model.yaml").write_text(card_text(values))
    return folder


def write_nnunet_model(
    folder: Path, *, folds: tuple[int, ...] = (0,), mirror_axes: tuple[int, ...] = (0, 1, 2),
    transpose: tuple[int, int, int] = (0, 1, 2), spacing_mm: tuple[float, ...] = (2.0, 2.0, 2.0),
    reader: str = "SimpleITKIO", trainer: str = "nnUNetTrainer",
    labels: dict[str, Any] | None = None, checkpoint: dict[str, Any] | None = None,
    plans: dict[str, Any] | None = None,
    **changes: object,
) -> Path:
    """A trained folder of nnU-Net v2 for CT, and its card.

    ``labels`` are those of dataset.json. Label ``k`` is what has the brightness ``THRESHOLD_HU``
    and ``2 * STEP_HU`` more for each label before it; region ``k`` begins at ``THRESHOLD_HU`` and
    ``STEP_HU`` more for each region before it. ``checkpoint`` and ``plans`` add to these files.
    """
    trained = folder / "trained"
    trained.mkdir(parents=True, exist_ok=True)
    labels = labels or {"background": 0, "bright": 1}
    regions = [value for value in labels.values() if isinstance(value, list)]
    dataset: dict[str, Any] = {
        "channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1,
    }
    if regions:
        dataset["regions_class_order"] = list(range(1, len(labels)))
    (trained / "dataset.json").write_text(json.dumps(dataset))
    written = {**nnunet_plans(transpose, spacing_mm, reader), **(plans or {})}
    (trained / "plans.json").write_text(json.dumps(written))
    heads = len(labels) - 1 if regions else len(labels)
    for fold in folds:
        (trained / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(
            {
                "network_weights": _nnunet_weights(heads, has_background=not regions),
                "trainer_name": trainer,
                "init_args": {"configuration": "3d_fullres", "fold": fold, "plans": written},
                "inference_allowed_mirroring_axes": mirror_axes,
                # As nnU-Net writes them: these make a checkpoint more than tensors.
                "logging": {"mean_fg_dice": [np.float64(0.9), np.float32(0.9)]},
                "_best_ema": np.float64(0.9), "current_epoch": 1, **(checkpoint or {}),
            },
            trained / f"fold_{fold}" / "checkpoint_final.pth",
        )
    return write_card(folder, "trained", **{
        "id": "bright-nnunet", "runtime__backend": "nnunet",
        "runtime__nnunet": {"folds": list(folds)}, **changes,
    })


def nnunet_plans(
    transpose: tuple[int, int, int], spacing_mm: tuple[float, ...], reader: str
) -> dict[str, Any]:
    """Plans of a plain U-Net with two stages and no normalisation layers."""
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": "Dataset001_Bright", "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(spacing_mm),
        "image_reader_writer": reader, "transpose_forward": list(transpose),
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "experiment_planner_used": "ExperimentPlanner", "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {
            "mean": THRESHOLD_HU, "std": _DEVIATION_HU, "percentile_00_5": -1000.0,
            "percentile_99_5": 1000.0, "min": -1000.0, "max": 1000.0, "median": 100.0,
        }},
        "configurations": {"3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2, "patch_size": [16, 16, 16], "spacing": list(spacing_mm),
            "median_image_size_in_voxels": [32, 32, 32],
            "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": resampling,
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": resampling, "batch_dice": False,
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet"
                ".PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 2, "features_per_stage": [2, 2], "conv_op": _CONV,
                    "kernel_sizes": [[3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 2]],
                    "n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1],
                    "conv_bias": True, "norm_op": None, "norm_op_kwargs": None,
                    "dropout_op": None, "dropout_op_kwargs": None,
                    "nonlin": None, "nonlin_kwargs": None,
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }},
    }


def write_monai_bundle(
    folder: Path, *, weights: Any = None, labels: int = 1,
    configuration: dict[str, Any] | None = None, **changes: object,
) -> Path:
    """A MONAI bundle for CT, and its card, which needs the folder to be trusted.

    The network is one convolution of one voxel, in RAS at 2 mm: label ``k`` as `write_nnunet_model`
    has it. ``configuration`` replaces parts of the bundle's; ``weights`` what its file holds.
    """
    bundle = folder / "bundle"
    (bundle / "configs").mkdir(parents=True, exist_ok=True)
    (bundle / "models").mkdir(exist_ok=True)
    written = {**bundle_configuration(labels + 1), **(configuration or {})}
    (bundle / "configs" / "inference.json").write_text(json.dumps(written))
    torch.save(bundle_weights(labels) if weights is None else weights, bundle / "models/model.pt")
    return write_card(folder, "bundle", **{
        "id": "bright-bundle", "runtime__backend": "monai_bundle", "input__axes": ["R", "A", "S"],
        "trust__config_exec": True, **changes,
    })


def bundle_configuration(channels: int = 2) -> dict[str, Any]:
    """What the bundles of the Model Zoo have in configs/inference.json, for a small network."""
    return {
        "imports": ["$import glob"], "bundle_root": ".", "image_key": "image",
        "dataset_dir": "/nowhere", "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": channels,
            "kernel_size": 1,
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "LoadImaged", "keys": "@image_key"},
            {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
            {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [2.0, 2.0, 2.0],
             "mode": "bilinear"},
            {"_target_": "ScaleIntensityRanged", "keys": "@image_key", "a_min": -1000,
             "a_max": 1000, "b_min": -1.0, "b_max": 1.0, "clip": True},
        ]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16],
                    "sw_batch_size": 4, "overlap": 0.25},
        "postprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
             "orig_keys": "@image_key", "nearest_interp": False, "to_tensor": True},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@bundle_root"},
        ]},
    }


def bundle_weights(labels: int) -> dict[str, torch.Tensor]:
    """Weights of the bundle's convolution: HU / 1000 in, one channel for each label out."""
    number = torch.arange(labels + 1, dtype=torch.float32)
    bias = -_GAIN * (number * THRESHOLD_HU + STEP_HU * number * (number - 1))
    return {"weight": (_GAIN * 1000 * number).reshape(-1, 1, 1, 1, 1), "bias": bias}


def _nnunet_weights(heads: int, *, has_background: bool) -> dict[str, torch.Tensor]:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = nnunet_plans((0, 1, 2), (1, 1, 1), "")["configurations"]["3d_fullres"][
        "architecture"
    ]
    network = get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"],
        architecture["_kw_requires_import"], 1, heads, deep_supervision=False,
    )
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.zero_()
            # Through the skip connection alone: the first channel holds the value of the voxel.
            if name.startswith("encoder.stages.0.") and name.endswith("weight"):
                value[0, 0, 1, 1, 1] = 1.0
            elif name.startswith("decoder.stages.0.") and name.endswith("weight"):
                value[0, 2, 1, 1, 1] = 1.0
            elif name.startswith("decoder.seg_layers.0"):
                for head in range(1 if has_background else 0, heads):
                    number = head + (0 if has_background else 1)
                    if name.endswith("weight"):
                        value[head, 0] = number * _GAIN * _DEVIATION_HU
                    else:
                        value[head] = -_GAIN * STEP_HU * number * (number - 1)
    return dict(network.state_dict())
