"""Measurement groups of a report: on segments, on a region of one image, on whole images.

Volumetric groups (PS3.16 TID 1411) refer to segments, planar groups (TID 1410) to a polygon on
one image, whole-image groups (TID 1501) to nothing or to the only image there is. The algorithm
(TID 4019) stands in the group and never in a measurement, where viewers lose the number for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.types import Algorithm, Code
from sr_templates import codes
from sr_templates.numbers import Evaluated, Measured


@dataclass(frozen=True)
class SegmentReference:
    """Segments of one Segmentation, and the series that it was made from."""

    sop_class_uid: str
    sop_instance_uid: str
    segment_numbers: tuple[int, ...]
    source_series_instance_uid: str


@dataclass(frozen=True)
class PlanarRegion:
    """A closed polygon on one image.

    ``points`` is ``(n, 2)``, (column, row) with the corner of the first pixel at 0, 0 and its
    centre at 0.5, 0.5; the last point equals the first (PS3.3 C.18.6.1.2).
    """

    points: npt.NDArray[np.float64]
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True)
class WholeImage:
    """Everything that was analysed; each reference is (SOP Class UID, SOP Instance UID).

    ``source`` is the only image, where there is one only; ``explanation`` a Parametric Map or
    Secondary Capture that shows what the model looked at. ``key_images`` are those of a series
    that the answer rests on, each with its frames, where it has more than one.
    """

    source: tuple[str, str] | None = None
    explanation: tuple[str, str] | None = None
    key_images: tuple[tuple[str, str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class Finding:
    """One measurement group, and what the reader is told that it is called.

    ``without`` are the roles of the series for want of which it is undetermined; ``highest_in`` is
    the number by which viewers show the image that speaks for it most, ``agreeing`` how many of
    how many images say the same by themselves, ``differing`` how many say something else.
    """

    name: str
    category: Code
    type: Code
    site: Code
    laterality: Code | None
    tracking_identifier: str
    tracking_uid: str
    measured: tuple[Measured, ...]
    evaluated: tuple[Evaluated, ...]
    where: SegmentReference | PlanarRegion | WholeImage
    without: tuple[str, ...] = ()
    highest_in: int | None = None
    agreeing: tuple[int, int] | None = None
    differing: int = 0


def measurement_group(finding: Finding, algorithm: Algorithm) -> Any:
    """``finding`` as one container content item."""
    import highdicom as hd

    laterality = codes.concept(finding.laterality) if finding.laterality else None
    site = hd.sr.FindingSite(codes.concept(finding.site), laterality=laterality)
    parts: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=finding.tracking_uid, identifier=finding.tracking_identifier
        ),
        "finding_category": codes.concept(finding.category),
        "finding_type": codes.concept(finding.type),
        "finding_sites": [site],
        "algorithm_id": _algorithm(algorithm, finding),
        "measurements": [_measurement(one) for one in finding.measured],
        "qualitative_evaluations": [
            hd.sr.QualitativeEvaluation(codes.concept(one.concept), codes.concept(one.term.value))
            for one in finding.evaluated
        ],
    }
    where = finding.where
    if isinstance(where, SegmentReference):
        return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_segment(where), **parts
        )[0]
    if isinstance(where, PlanarRegion):
        return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=_region(where), **parts
        )[0]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(**parts)[0]
    group.ContentSequence.extend(_images(where))
    return group


def _segment(where: SegmentReference) -> Any:
    import highdicom as hd

    numbers: Any = list(where.segment_numbers)
    return hd.sr.ReferencedSegment(
        sop_class_uid=where.sop_class_uid,
        sop_instance_uid=where.sop_instance_uid,
        segment_number=numbers if len(numbers) > 1 else numbers[0],
        source_series=hd.sr.SourceSeriesForSegmentation(where.source_series_instance_uid),
    )


def _region(where: PlanarRegion) -> Any:
    import highdicom as hd

    frames = None if where.frame_number is None else [where.frame_number]
    return hd.sr.ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=where.points,
        source_image=hd.sr.SourceImageForRegion(
            where.sop_class_uid, where.sop_instance_uid, referenced_frame_numbers=frames
        ),
    )


def _images(where: WholeImage) -> list[Any]:
    import highdicom as hd

    named: list[tuple[Any, str, str, tuple[int, ...]]] = []
    if where.source is not None:
        named.append((codes.SOURCE_OF_MEASUREMENT, *where.source, ()))
    named += [(codes.SOURCE_OF_MEASUREMENT, *image) for image in where.key_images]
    if where.explanation is not None:
        named.append((codes.VISUAL_EXPLANATION, *where.explanation, ()))
    return [
        hd.sr.ImageContentItem(
            name=codes.concept(name),
            referenced_sop_class_uid=sop_class_uid,
            referenced_sop_instance_uid=sop_instance_uid,
            referenced_frame_numbers=list(frames) or None,
            relationship_type="CONTAINS",
        )
        for name, sop_class_uid, sop_instance_uid, frames in named
    ]


def _algorithm(algorithm: Algorithm, finding: Finding) -> Any:
    import highdicom as hd

    weights = algorithm.weights_sha256 or codes.NOT_CHECKED
    parameters = [f"model={algorithm.model_id}", f"weights_sha256={weights}"]
    parameters += [f"{key}={value}" for key, value in sorted(algorithm.parameters.items())]
    parameters += [f"evaluation of {one.rule}" for one in finding.evaluated]
    return hd.sr.AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=parameters,
        family=codes.concept(algorithm.family),
        manufacturer=algorithm.manufacturer,
    )


def _measurement(measured: Measured) -> Any:
    import highdicom as hd

    quantity = measured.quantity
    return hd.sr.Measurement(
        name=codes.concept(quantity.concept),
        value=measured.value,
        unit=codes.concept(quantity.unit),
        derivation=codes.concept(quantity.derivation) if quantity.derivation else None,
    )
