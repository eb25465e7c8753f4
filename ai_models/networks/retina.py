"""RetinaNet with its anchors and its choice of boxes as one module, so that a card can name it.

MONAI has the network and the detector apart (Lin et al., ICCV 2017; anchors and defaults of its
``lung_nodule_ct_detection``, trained on LUNA16). Weights saved of the network alone fit as well.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from monai.apps.detection.networks import retinanet_detector
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.networks.blocks.convolutions import ResidualUnit
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from monai.networks.nets.resnet import ResNet, ResNetBottleneck, get_inplanes
from torch import nn

NODULE_ANCHORS = ((6, 8, 4), (8, 6, 5), (10, 10, 6))


class _NotThere:
    """Stands for a class of torchvision that no object is of, where torchvision is not there."""


# MONAI asks of its own matcher and sampler whether they are torchvision's: no training without.
for _name in ("Matcher", "BalancedPositiveNegativeSampler"):
    if not isinstance(getattr(retinanet_detector, _name), type):
        setattr(retinanet_detector, _name, _NotThere)


class Detector(RetinaNetDetector):
    """Boxes in a volume, with scores and classes.

    Parameters
    ----------
    in_channels, num_classes
        Of the input, and how many classes of things there are.
    backbone
        ``small``: residual units, a level each; ``resnet50``: MONAI's, as in
        ``lung_nodule_ct_detection``, at levels 4, 8 and 16 of ``strides``.
    widths
        Channels of the levels of ``small``, each of half the resolution of the last.
    levels
        How many of the lowest levels of ``small`` look for boxes.
    features
        Channels of the feature pyramid, a multiple of 8.
    anchors
        Lengths of the edges of boxes to start from, in voxels of the highest level that looks.
    scales
        By which they grow from level to level, one for each.
    strides
        Of the first convolution, of ``resnet50``.
    min_score, max_overlap, max_boxes
        Boxes that are not even handed on; a card can only be stricter.

    Raises
    ------
    ValueError
        The levels and ``scales`` differ in number.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        backbone: Literal["small", "resnet50"] = "small",
        widths: Sequence[int] = (16, 32, 64),
        levels: int = 2,
        features: int = 32,
        anchors: Sequence[Sequence[float]] = NODULE_ANCHORS,
        scales: Sequence[float] = (1, 2),
        strides: Sequence[int] = (2, 2, 1),
        min_score: float = 0.02,
        max_overlap: float = 0.22,
        max_boxes: int = 300,
    ) -> None:
        if backbone == "resnet50":
            pyramid: nn.Module = _Resnet50(in_channels, tuple(strides))
            divisible, count = tuple(8 * stride for stride in strides), 3
        elif backbone == "small":
            pyramid = _Small(in_channels, tuple(widths), levels, features)
            divisible, count = (2 ** (len(widths) - 1),) * 3, levels
        else:
            raise ValueError(f"backbone {backbone!r}: small or resnet50")
        if count != len(scales):
            raise ValueError(f"{len(scales)} scales for {count} levels")
        super().__init__(
            RetinaNet(3, num_classes, len(anchors), pyramid, divisible),
            AnchorGeneratorWithAnchorShape(
                feature_map_scales=tuple(scales),
                base_anchor_shapes=tuple(tuple(one) for one in anchors),
            ),
        )
        self.set_target_keys(box_key="boxes", label_key="labels")
        self.set_box_selector_parameters(
            score_thresh=min_score, topk_candidates_per_level=1000, nms_thresh=max_overlap,
            detections_per_img=max_boxes,
        )
        # For training: as in lung_nodule_ct_detection.
        self.set_atss_matcher(num_candidates=4, center_in_gt=False)
        self.set_hard_negative_sampler(
            batch_size_per_image=64, positive_fraction=0.3, pool_size=20, min_neg=16
        )


class _Small(nn.Module):
    """A pyramid over residual units: maps of the lowest levels, the highest resolution first."""

    def __init__(
        self, in_channels: int, widths: tuple[int, ...], levels: int, features: int
    ) -> None:
        super().__init__()
        self.out_channels = features
        self.levels = levels
        self.body = nn.ModuleList(
            ResidualUnit(
                3, old, new, strides=2 if level else 1, subunits=2, norm="INSTANCE", act="PRELU"
            )
            for level, (old, new) in enumerate(itertools.pairwise((in_channels, *widths)))
        )
        self.fpn = FeaturePyramidNetwork(3, list(widths[-levels:]), features)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        maps: OrderedDict[str, torch.Tensor] = OrderedDict()
        features = image
        for level, stage in enumerate(self.body):
            features = stage(features)
            if level >= len(self.body) - self.levels:
                maps[str(level)] = features
        return list(self.fpn(maps).values())


class _Resnet50(nn.Module):
    """MONAI's ResNet-50 and a pyramid over its first two layers, under MONAI's names of weights.

    MONAI's own takes the layers out by torchvision, which a node need not have.
    """

    out_channels = 256

    def __init__(self, in_channels: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        whole = ResNet(
            ResNetBottleneck, [3, 4, 6, 3], get_inplanes(), n_input_channels=in_channels,
            conv1_t_size=7, conv1_t_stride=strides,  # type: ignore[arg-type]
        )
        self.body = nn.ModuleDict()
        for name, stage in whole.named_children():
            self.body[name] = stage
            if name == "layer2":
                break
        self.fpn = FeaturePyramidNetwork(3, [256, 512], 256, LastLevelMaxPool(3))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        maps: OrderedDict[str, torch.Tensor] = OrderedDict()
        features = image
        for name, stage in self.body.items():
            features = stage(features)
            if name in ("layer1", "layer2"):
                maps[name] = features
        return list(self.fpn(maps).values())
