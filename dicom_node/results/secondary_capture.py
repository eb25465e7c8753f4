"""Pictures for destinations and viewers that show no Segmentation: Secondary Capture (PS3.3 A.8.1).

Each is one RGB image of one source image with contours or heat burned in, and a legend below it.
The source keeps its pixels' places: pixel (row, column) of the picture is pixel (row, column) of
the image that Source Image Sequence names, so the geometry of that image holds for it. The
legend lies below those rows; where it needs more room than the image is wide, there are black
columns on the right (both stated in Derivation Description).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import values_in, voxels_by_slice
from ai_models.types import FloatArray, LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results import legend
from dicom_node.results.capture import Picture, build_capture
from dicom_node.results.drawing import (
    LegendItem,
    Pixels,
    Sides,
    contour_colors,
    draw_contours,
    draw_heat,
    text_page,
    with_legend,
)
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation_segments import segment_numbers
from dicom_node.results.slice_source import patient_orientation, source_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MOST_PICTURES = 60
_SALIENT = 0.5
_SAME_PLACES = (
    "Pixel (row, column) is that of the source image, shown in 8 bit grey; {added} added for the "
    "legend."
)


def build_secondary_captures(
    request: ResultRequest,
    label_map: LabelMap,
    display: Pixels,
    *,
    series_number: int,
    quantities: Mapping[int, str] | None = None,
) -> list[Dataset]:
    """One picture per slice that shows a finding, its contours in the colours of the labels.

    Parameters
    ----------
    label_map, display
        ``(slices, rows, columns)`` on the grid of the source; ``display`` is 8-bit grey. A
        radiograph has one slice.
    quantities
        Label value to what stands beside its name, such as ``"2400 ml"``.

    Returns
    -------
    list of Dataset
        In slice order; empty when no label occurs. At most 60: more slices are thinned evenly,
        and the largest section of each label stays.

    Raises
    ------
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``).
    GateRefused
        ``gate.labels``: undescribed values; ``gate.shape``: not the grid of the source.
    """
    found = set(segment_numbers(label_map, request.labels))
    sources, _ = request.normalised()
    _check_grid(request, label_map.shape, display, sources)
    colors = contour_colors(request.labels)
    pictures = []
    for number, index in enumerate(shown_slices(label_map), start=1):
        image, frame = source_of(request, sources, index)
        present = set(values_in(label_map[index]))
        rows = [
            legend.contour_legend(request, present, found, quantities or {}),
            legend.place(request, image, frame),
            *legend.provenance(request),
        ]
        drawn = draw_contours(display[index], label_map[index], colors)
        derivation = f"Contours of {len(present)} labels drawn."
        pictures.append(_picture(drawn, rows, image, frame, "contours", number, derivation))
    return [build_capture(request, picture, sources[0], series_number) for picture in pictures]


def build_saliency_captures(
    request: ResultRequest,
    saliency: Mapping[str, FloatArray],
    display: Pixels,
    *,
    series_number: int,
) -> list[Dataset]:
    """Pictures of where a classification looked: heat over grey, for each output.

    ``saliency`` maps output names to 0..1, ``(slices, rows, columns)`` or ``(rows, columns)`` on
    the grid of the source. The slices that reach half of an output's maximum are shown, at most
    60 for all outputs. Errors as `build_secondary_captures`.
    """
    named = build_named_saliency_captures(request, saliency, display, series_number=series_number)
    return [capture for _, capture in named]


def build_named_saliency_captures(
    request: ResultRequest,
    saliency: Mapping[str, FloatArray],
    display: Pixels,
    *,
    series_number: int,
) -> list[tuple[str, Dataset]]:
    """As `build_saliency_captures`, each with the name of the output that it is of."""
    sources, _ = request.normalised()
    pictures: list[tuple[str, Picture]] = []
    for name, values in saliency.items():
        volume = values if values.ndim == 3 else values[None]
        _check_grid(request, volume.shape, display, sources)
        for index in _salient_slices(volume, max(1, _MOST_PICTURES // len(saliency))):
            image, frame = source_of(request, sources, index)
            rows = [
                legend.heat_legend(request, name),
                legend.place(request, image, frame),
                *legend.provenance(request),
            ]
            drawn = draw_heat(display[index], volume[index])
            derivation = "Saliency of one output of a classification drawn in colour."
            number = len(pictures) + 1
            picture = _picture(drawn, rows, image, frame, "saliency", number, derivation)
            pictures.append((name, picture))
    return [
        (name, build_capture(request, picture, sources[0], series_number))
        for name, picture in pictures
    ]


def build_notice_page(
    request: ResultRequest, lines: Sequence[str], *, series_number: int, english: Sequence[str] = ()
) -> Dataset:
    """A page of text: the answer for a destination that takes pictures only.

    ``lines`` are drawn where a font of this host has all their characters. Chinese needs a CJK
    font under ``/usr/share/fonts``; without one ``english`` is drawn instead.
    """
    sources, _ = request.normalised()
    title = legend.phrase(request, "answer", algorithm=request.algorithm.name)
    page = text_page(title, legend.notice(request, lines, english))
    picture = Picture(page, "notice", 1, "Text on the analysis, no image.")
    return build_capture(request, picture, sources[0], series_number)


def shown_slices(label_map: LabelMap, most: int = _MOST_PICTURES) -> list[int]:
    """Slices to be shown: those with a label, thinned to ``most`` around the largest sections."""
    counts = voxels_by_slice(label_map)
    largest = {int(counts[:, value].argmax()) for value in np.flatnonzero(counts.sum(axis=0))}
    return _thinned(np.flatnonzero(counts.sum(axis=1)), largest, most)


def _salient_slices(volume: FloatArray, most: int) -> list[int]:
    peaks = np.nan_to_num(volume).max(axis=(1, 2))
    if peaks.max() <= 0:
        return []
    salient = np.flatnonzero(peaks >= _SALIENT * peaks.max())
    return _thinned(salient, {int(peaks.argmax())}, most)


def _thinned(candidates: npt.NDArray[np.intp], required: set[int], most: int) -> list[int]:
    if len(candidates) <= most:
        return [int(index) for index in candidates]
    room = max(0, most - len(required))
    evenly = candidates[np.linspace(0, len(candidates) - 1, room).round().astype(int)]
    return sorted(required | {int(index) for index in evenly})


def _check_grid(
    request: ResultRequest,
    shape: tuple[int, ...],
    display: Pixels,
    sources: Sequence[Dataset],
) -> None:
    expected = (len(request.frame_numbers), int(sources[0].Rows), int(sources[0].Columns))
    if shape != expected or display.shape != expected:
        raise GateRefused(
            f"what is to be drawn is {shape} and {display.shape} where the source has {expected}",
            reason="gate.shape",
        )


def _picture(
    drawn: Pixels,
    rows: Sequence[Sequence[LegendItem]],
    image: Dataset,
    frame: int | None,
    purpose: str,
    number: int,
    derivation: str,
) -> Picture:
    pixels = with_legend(drawn, rows, Sides.along(patient_orientation(image, frame)))
    below, right = pixels.shape[0] - drawn.shape[0], pixels.shape[1] - drawn.shape[1]
    added = f"{below} rows below" + (f" and {right} columns on the right" if right else "")
    text = f"{derivation} {_SAME_PLACES.format(added=added)}"
    return Picture(pixels, purpose, number, text, image, frame)
