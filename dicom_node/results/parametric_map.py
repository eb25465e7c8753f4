"""One number per voxel as a Parametric Map (PS3.3 A.75): float32, on the grid of the source.

For what a model computes besides labels: the probability of a label, the saliency of an answer
(which a report names as its Visual Explanation, 130401 DCM). The values are stored as they are;
the Real World Value Mapping says in which unit they are and what they measure.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ai_models.types import Code, FloatArray
from dicom_node.errors import GateRefused
from dicom_node.results.anatomy import frame_anatomy
from dicom_node.results.equipment import authored, describe, long_string
from dicom_node.results.finish import finish, local_time, set_dimension_organization
from dicom_node.results.request import ResultRequest
from dicom_node.results.slice_planes import slice_planes
from sr_templates.codes import concept

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# What the values measure (PS3.16 CID 7180; a probability is named in Annex D only).
PROBABILITY = Code("122157", "DCM", "Probability")
SALIENCY = Code("130404", "DCM", "Saliency")
CLASS_ACTIVATION = Code("130402", "DCM", "Class activation")
GRADIENT_CLASS_ACTIVATION = Code("130403", "DCM", "Gradient-weighted class activation")
NO_UNITS = Code("1", "UCUM", "no units")

_SH_LIMIT = 16


def build_parametric_map(
    request: ResultRequest,
    values: FloatArray,
    quantity: Code,
    unit: Code,
    *,
    name: str,
    series_number: int,
) -> Dataset:
    """Build the Parametric Map of one quantity.

    Parameters
    ----------
    request
        Its source is a stack of slices, tilted or unevenly spaced as it may be, or one enhanced
        multi-frame image.
    values
        ``(slices, rows, columns)`` float32 on the grid of the source, in ``unit``.
    quantity, unit
        What is measured (Quantity Definition) and its UCUM unit.
    name
        Which of the model's outputs this is: it distinguishes the maps of one result.

    Raises
    ------
    GateRefused
        ``gate.not_finite``: a value is NaN or infinite; ``gate.shape``: the values are not on the
        grid of the source.
    UnsuitableInput
        ``input.no_frame_of_reference``: a projection image or a cine loop has no place in the
        patient, and a Parametric Map must have one (Frame of Reference is mandatory, PS3.3 A.75.3);
        or the source headers cannot carry a result (see ``headers.normalise``).
    """
    sources, _ = request.normalised()
    positions = _positions(sources, request.frame_numbers)
    _check_values(
        values, (len(request.frame_numbers), int(sources[0].Rows), int(sources[0].Columns))
    )
    moment = local_time(request.created_at, sources[0])
    mapping = _mapping(values, quantity, unit, name)
    built = _construct(request, sources, positions, values, mapping, name, series_number, moment)
    built.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [frame_anatomy(sources[0])]
    _put_in_order(built)
    set_dimension_organization(built, request.identity.uid(f"parametric map.{name}.dimensions"))
    return finish(built, sources[0], request.equipment, moment)


def _construct(
    request: ResultRequest,
    sources: Sequence[Dataset],
    positions: list[Any] | None,
    values: FloatArray,
    mapping: Any,
    name: str,
    series_number: int,
    moment: datetime,
) -> Any:
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    algorithm, equipment, identity = request.algorithm, request.equipment, request.identity
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.pm.ParametricMap(
            source_images=sources,
            pixel_array=np.asarray(values, np.float32),
            plane_positions=positions,
            series_instance_uid=identity.uid(f"parametric map.{name}.series"),
            series_number=series_number,
            sop_instance_uid=identity.uid(f"parametric map.{name}.instance"),
            instance_number=1,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[_window(mapping)],
            transfer_syntax_uid=ExplicitVRLittleEndian,
            content_label=_code_string(quantity),
            content_description=describe(name, algorithm),
            content_creator_name=equipment.creator_name,
            content_qualification="RESEARCH" if algorithm.demonstration else "PRODUCT",
            series_description=describe(f"{quantity} {name}", algorithm),
            content_date=moment.date(),
            content_time=moment.time(),
            **authored(algorithm, equipment, moment),
        )


def _put_in_order(built: Any) -> None:
    """Let the frames run along the normal of their planes (row x column directions).

    highdicom writes them the other way round. Frame order has no meaning in the standard, but dcmqi
    reads it as the order of slices along the normal, and would turn the map upside down.
    """
    frames = list(built.PerFrameFunctionalGroupsSequence)[::-1]
    for index, frame in enumerate(frames, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = index
    built.PerFrameFunctionalGroupsSequence = frames
    pixels = np.frombuffer(built.FloatPixelData, "<f4").reshape(len(frames), -1)
    built.FloatPixelData = pixels[::-1].tobytes()


def _positions(sources: Sequence[Dataset], frame_numbers: Sequence[int]) -> list[Any] | None:
    """Where each slice lies in an enhanced source; ``None`` where every source is one slice."""
    import highdicom as hd

    planes = slice_planes(sources, frame_numbers)
    if "ImagePositionPatient" in sources[0]:
        return None
    patient = hd.CoordinateSystemNames.PATIENT
    return [hd.PlanePositionSequence(patient, position) for position in planes.positions_mm]


def _check_values(values: FloatArray, grid: tuple[int, int, int]) -> None:
    if values.shape != grid:
        raise GateRefused(
            f"the values are {values.shape} where the source has {grid}", reason="gate.shape"
        )
    if not all(np.isfinite(plane).all() for plane in values):
        raise GateRefused(
            "the values of a map are not all finite numbers", reason="gate.not_finite"
        )


def _mapping(values: FloatArray, quantity: Code, unit: Code, name: str) -> Any:
    """The stored values as real ones: the range is 0 to 1 where all lie in it, else their own."""
    import highdicom as hd

    low, high = float(values.min()), float(values.max())
    return hd.pm.RealWorldValueMapping(
        lut_label=long_string(name)[:_SH_LIMIT].rstrip(),
        lut_explanation=long_string(f"{quantity.meaning} {name}"),
        unit=concept(unit),
        value_range=(0.0, 1.0) if low >= 0 and high <= 1 else (low, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept(quantity),
    )


def _window(mapping: Any) -> Any:
    """All values from black to white; LINEAR_EXACT, because LINEAR shows a width of 1 as a step
    (PS3.3 C.11.2.1.2.1)."""
    import highdicom as hd

    low = mapping.DoubleFloatRealWorldValueFirstValueMapped
    high = mapping.DoubleFloatRealWorldValueLastValueMapped
    return hd.VOILUTTransformation(
        window_center=(low + high) / 2,
        window_width=(high - low) or 1.0,
        voi_lut_function="LINEAR_EXACT",
    )


def _code_string(text: str) -> str:
    letters = "".join(c if c.isascii() and c.isalnum() else "_" for c in text.upper())
    return letters[:_SH_LIMIT]
