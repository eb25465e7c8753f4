"""Where a model looked, as objects that a report cites: Parametric Maps, or pictures.

A volume that lies in the patient gets a Parametric Map of each output, from which pictures are made
for every destination whose viewer shows none. A Parametric Map must lie in the patient (PS3.3
A.75.3), so a radiograph gets the pictures themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ai_models.types import Code, FloatArray
from dicom_node.errors import GateRefused
from dicom_node.results.drawing import Pixels
from dicom_node.results.evidence import references_to
from dicom_node.results.gate_geometry import source_grid
from dicom_node.results.gate_parametric_map import check_parametric_map
from dicom_node.results.gate_pictures import check_captures
from dicom_node.results.parametric_map import (
    GRADIENT_CLASS_ACTIVATION,
    NO_UNITS,
    SALIENCY,
    build_parametric_map,
)
from dicom_node.results.request import SERIES_NUMBERS, Reference, ResultRequest
from dicom_node.results.secondary_capture import build_named_saliency_captures

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

QUANTITIES: Mapping[str, Code] = MappingProxyType({
    "grad_cam": GRADIENT_CLASS_ACTIVATION,
    "grad_cam_pp": GRADIENT_CLASS_ACTIVATION,
    "occlusion": SALIENCY,
})
"""What the values measure (PS3.16 CID 7180), by the card's word for how they were computed."""

Objects = list[tuple[str, "Dataset"]]


def saliency_objects(
    request: ResultRequest, saliency: Mapping[str, FloatArray], method: str, display: Pixels
) -> tuple[Objects, dict[str, Reference]]:
    """Build and check what shows where a model looked.

    Parameters
    ----------
    saliency
        Output name to float32 0..1, ``(slices, rows, columns)`` on the source slices, or
        ``(rows, columns)`` of a single image.
    method
        A key of ``QUANTITIES``.
    display
        The source images in 8-bit grey, ``(slices, rows, columns)``; drawn on without a Frame of
        Reference only.

    Returns
    -------
    objects, explanations
        Kind and data set of each, in the order of ``saliency``; and for each output the one that a
        report cites, as ``report.build_image_report`` takes it. An output for which nothing stands
        out has none.

    Raises
    ------
    GateRefused
        ``gate.quantity``: the method is not known; ``gate.range``: a value is not within 0 and 1;
        ``gate.not_finite``; ``gate.shape``; or an object does not show what was computed.
    UnsuitableInput
        The source headers cannot carry a result.
    """
    quantity = QUANTITIES.get(method)
    if quantity is None:
        raise GateRefused(f"no quantity is measured by {method!r}", reason="gate.quantity")
    volumes = {name: _volume(values) for name, values in saliency.items()}
    salient = {name: values for name, values in volumes.items() if values.any()}
    images, frames = request.source_images, request.frame_numbers
    named: list[tuple[str, str, Dataset]] = []
    if source_grid(images, frames) is None:
        captures = build_named_saliency_captures(
            request, salient, display, series_number=SERIES_NUMBERS["secondary capture"]
        )
        check_captures([capture for _, capture in captures], images, frames)
        named = [(name, "secondary capture", capture) for name, capture in captures]
    else:
        for name, values in salient.items():
            built = build_parametric_map(
                request, values, quantity, NO_UNITS, name=name,
                series_number=SERIES_NUMBERS["parametric map"],
            )
            check_parametric_map(built, images, frames, values, quantity)
            named.append((name, "parametric map", built))
    references: dict[str, Reference] = {}
    for name, _, dataset in named:
        references.setdefault(name, references_to([dataset])[0])
    return [(kind, dataset) for _, kind, dataset in named], references


def _volume(values: FloatArray) -> FloatArray:
    """``values`` as slices, refused unless they are shares of one."""
    if not np.isfinite(values).all():
        raise GateRefused("a saliency is not finite", reason="gate.not_finite")
    if values.size and (values.min() < 0 or values.max() > 1):
        raise GateRefused("a saliency is not within 0 and 1", reason="gate.range")
    volume: FloatArray = np.asarray(values if values.ndim == 3 else values[None], np.float32)
    return volume
