"""Every kind of object that the node makes, built of two inputs by the code that builds results.

A new kind of object is one line in `_BUILDERS`, in the order in which the statement tells them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from dicom_node.cli.conformance_world import World, bare_world, full_world, needed, series_number
from dicom_node.operations.conformance_objects import CreatedObject, Sample, describe_object

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@cache
def created_objects() -> tuple[CreatedObject, ...]:
    """Every kind of object with its attributes and where their values come from.

    No setting of the node makes a difference.
    """
    fullest, barest = full_world(), bare_world()
    return tuple(
        describe_object(Sample(kind, build(fullest), build(barest)), fullest.basis, barest.basis)
        for kind, build in _BUILDERS.items()
    )


def _label_map_segmentation(world: World) -> Dataset:
    from dicom_node.results.segmentation import build_label_map_segmentation

    number = series_number("segmentation")
    return needed(
        build_label_map_segmentation(world.request, world.label_map, series_number=number)
    )


def _probability_map(world: World) -> Dataset:
    import numpy as np

    from dicom_node.results.segmentation import build_probability_map

    maps = {
        label.value: (world.label_map == label.value) * np.float32(0.75) for label in world.labels
    }
    number = series_number("probability map")
    return needed(build_probability_map(world.request, maps, series_number=number))


def _parametric_map(world: World) -> Dataset:
    import numpy as np

    from dicom_node.results.parametric_map import NO_UNITS, SALIENCY, build_parametric_map

    values = (world.label_map > 0) * np.float32(0.25 * len(world.images))
    return build_parametric_map(
        world.request, values, SALIENCY, NO_UNITS, name=world.labels[0].name,
        series_number=series_number("parametric map"),
    )  # fmt: skip


def _planar_report(world: World) -> Dataset:
    from dicom_node.results.report import build_planar_report

    number = series_number("planar report")
    return needed(build_planar_report(world.request, world.label_map, series_number=number))


def _image_report(world: World) -> Dataset:
    from dicom_node.results.report import build_image_report

    request = replace(
        world.request, template="pulmonary_embolism", outputs={"pulmonary_embolism": 0.9}
    )
    return build_image_report(request, series_number=series_number("volumetric report"))


def _negative_report(world: World) -> Dataset:
    from dicom_node.results.report import build_negative_report

    number = series_number("volumetric report")
    return build_negative_report(world.request, series_number=number)


def _not_analysed_report(world: World) -> Dataset:
    from dicom_node.results.declined import build_not_analysed_report

    number = series_number("volumetric report")
    return build_not_analysed_report(
        world.request, "input.too_few_slices", "too few slices", series_number=number
    )


def _draft_report(world: World) -> Dataset:
    from dicom_node.results.report import build_text_report

    request = replace(world.request, template="draft")
    number = series_number("text report")
    return build_text_report(request, "The lungs are clear.", series_number=number)


def _comprehensive_report(world: World) -> Dataset:
    from dicom_node.results.report_forms import as_class
    from dicom_node.results.sop_classes import COMPREHENSIVE_SR

    return as_class(world.volumetric_report, COMPREHENSIVE_SR)


def _enhanced_report(world: World) -> Dataset:
    from dicom_node.results.report_forms import as_class
    from dicom_node.results.sop_classes import ENHANCED_SR

    return as_class(world.volumetric_report, ENHANCED_SR)


def _text_report(world: World) -> Dataset:
    from dicom_node.results.report_forms import as_text

    return as_text(world.volumetric_report)


def _secondary_capture(world: World) -> Dataset:
    import numpy as np

    from dicom_node.results.secondary_capture import build_secondary_captures

    display = np.full(world.label_map.shape, 100, np.uint8)
    number = series_number("secondary capture")
    return build_secondary_captures(
        world.request, world.label_map, display, series_number=number
    )[0]


def _structure_set(world: World) -> Dataset:
    from dicom_node.results.structure_set import build_structure_set

    number = series_number("structure set")
    return needed(build_structure_set(world.request, world.label_map, series_number=number))


def _presentation_state(world: World) -> Dataset:
    from dicom_node.results.presentation_state import build_presentation_state

    number = series_number("presentation state")
    return needed(build_presentation_state(world.request, world.label_map, series_number=number))


def _key_objects(world: World) -> Dataset:
    from dicom_node.results.key_objects import build_key_objects

    number = series_number("key objects")
    return needed(build_key_objects(world.request, world.label_map, series_number=number))


def _rejection_note(world: World) -> Dataset:
    from dicom_node.results.rejection_note import build_rejection_note
    from dicom_node.results.request import Reference

    former = world.segmentation
    rejected = Reference(
        str(former.SOPClassUID), str(former.SOPInstanceUID), str(former.SeriesInstanceUID),
        str(former.StudyInstanceUID),
    )  # fmt: skip
    number = series_number("rejection note")
    return build_rejection_note(world.request, [rejected], series_number=number)


def _pdf(world: World) -> Dataset:
    from dicom_node.results.pdf import build_pdf

    return build_pdf(
        world.request, [world.volumetric_report], [_secondary_capture(world)],
        series_number=series_number("pdf"),
    )  # fmt: skip


_BUILDERS: dict[str, Callable[[World], Dataset]] = {
    "segmentation": lambda world: world.segmentation,
    "segmentation as label map": _label_map_segmentation,
    "probability map": _probability_map,
    "parametric map": _parametric_map,
    "volumetric report": lambda world: world.volumetric_report,
    "planar report": _planar_report,
    "image report": _image_report,
    "negative report": _negative_report,
    "not analysed report": _not_analysed_report,
    "text report": _draft_report,
    "report as Comprehensive SR": _comprehensive_report,
    "report as Enhanced SR": _enhanced_report,
    "report as Basic Text SR": _text_report,
    "secondary capture": _secondary_capture,
    "structure set": _structure_set,
    "presentation state": _presentation_state,
    "key objects": _key_objects,
    "pdf": _pdf,
    "rejection note": _rejection_note,
}
