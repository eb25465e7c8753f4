"""A series of CT, MR or PET images to one volume in the patient, or a coded reason why not.

Tolerances stand in :mod:`dicom_node.imaging.geometry`, what is set aside in
:mod:`dicom_node.imaging.selection`. Rows and columns stay as in the source (no flips); slices
are in order along the normal, so ``array[k]`` goes with ``affine_lps``. Frame LPS, lengths mm
(PS3.3 C.7.6.2.1.1, C.7.6.16 for enhanced multi-frame objects).
"""

from __future__ import annotations

import errno
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.types import Affine, Volume
from dicom_node.errors import NotUnderstood, PermanentError, StorageFailed, UnsuitableInput
from dicom_node.imaging.decode import PixelFormat, Stored, pixel_format, read_frames
from dicom_node.imaging.decoded import Decoded
from dicom_node.imaging.digest import image_digest
from dicom_node.imaging.elements import numbers, text, unsigned
from dicom_node.imaging.geometry import StackGeometry, VolumeLimits, fit_stack, resample_slices
from dicom_node.imaging.modality import (
    Rescale,
    modality_of,
    rescale_of,
    to_modality_values,
    unit_of,
)
from dicom_node.imaging.planes import (
    NOT_SOURCE_IMAGES,
    FloatVector,
    InputNote,
    Plane,
    decline,
    planes_of,
)
from dicom_node.imaging.reading import Header, header_of, read_header
from dicom_node.imaging.selection import SamePixels, select_stack
from dicom_node.imaging.unreadable import (
    UnreadableInstance,
    UnreadableInstances,
    is_costly,
    left_out,
    too_many,
)

_THREADS = min(4, os.cpu_count() or 1)
# Of the file, for good; whatever else the system answers may pass, and nothing is left out for it.
_GONE = frozenset({errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR})
Number = TypeVar("Number", bound=np.generic)
Only = Callable[[Plane], bool]
_Lost = tuple[Header, PermanentError]

__all__ = ["InputNote", "LoadedVolume", "VolumeLimits", "check_geometry", "load_volume"]


@dataclass(frozen=True)
class LoadedVolume:
    """A series on a regular grid, and the way back to its own slices.

    Attributes
    ----------
    volume
        Regular grid (slices, rows, columns), int16 where exact, else float32; sheared where
        the gantry was tilted, resampled along the slices where spacing was irregular.
    source_images
        Headers without pixel data in slice order; one data set for an enhanced object.
    frame_numbers
        Frame (from 1) of each source slice; all 1 for classic objects.
    source_affine_lps
        Affine of the source slices, ``None`` where they are not a regular grid.
    slice_coordinates
        Place of each source slice on the slice axis of the regular grid.
    content_digests
        SOP Instance UID to SHA-256 of decoded pixels, geometry and modality LUT.
    notes
        What was accepted with a remark.
    unreadable
        Images that were left out because they cannot be read; the notes say so.
    seconds
        Time that loading took.
    """

    volume: Volume
    source_images: tuple[Dataset, ...]
    frame_numbers: tuple[int, ...]
    source_affine_lps: Affine | None
    slice_coordinates: FloatVector
    content_digests: dict[str, str]
    notes: tuple[InputNote, ...] = ()
    unreadable: tuple[UnreadableInstance, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    def to_source_grid(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Values of the regular grid to (source slices, rows, columns), nearest slice."""
        if values.shape != self.volume.array.shape:
            raise ValueError(f"values {values.shape} are not on the grid {self.volume.array.shape}")
        if self.source_affine_lps is not None:
            return values
        nearest = np.rint(self.slice_coordinates).astype(int)
        picked: npt.NDArray[Number] = values[np.clip(nearest, 0, len(values) - 1)]
        return picked


def check_geometry(
    headers: Sequence[Dataset], limits: VolumeLimits = VolumeLimits()
) -> StackGeometry:
    """The checks of :func:`load_volume` on headers alone; pixels are not needed or touched.

    Images at the same position are taken for copies, which only loading can find out.

    Raises
    ------
    UnsuitableInput
        As :func:`load_volume`, except for the reasons that need pixel data.
    """
    return _geometry([header_of(dataset) for dataset in headers], limits, None)


def load_volume(
    paths: Sequence[Path], limits: VolumeLimits = VolumeLimits(), ahead: Decoded | None = None,
    only: Only | None = None,
) -> LoadedVolume:
    """Read, check, order and rescale the images of one series; what lies in ``ahead`` from there.

    ``only`` says which planes belong to it, where the series shows several moments.

    Raises
    ------
    NotUnderstood
        No file is a DICOM data set.
    UnreadableInstances
        ``input.unreadable_instances``: some images cannot be read, and the others are not enough.
    UnsuitableInput
        ``reason`` is one of the codes of :mod:`geometry`, :mod:`selection`, :mod:`planes`,
        :mod:`decode`, :mod:`modality`, or ``input.empty``, ``input.not_an_image``,
        ``input.mixed_series``, ``input.mixed_modality``, ``input.several_multi_frame``,
        ``input.no_identity``,
        ``input.mixed_pixel_format``.
    StorageFailed, WorkerLost
        As :func:`dicom_node.imaging.decode.read_frames`; no file is to blame.
    """
    started = time.perf_counter()
    series = [Path(path) for path in paths]
    headers, lost = _headers(series, ahead)
    loaded: LoadedVolume | None = None
    while loaded is None:
        _require_enough(headers, lost, len(series))
        try:
            loaded = _load(headers, limits, only)
        except _Unreadable as found:
            lost += found.files
            bad = {header.path for header, _ in found.files}
            headers = [header for header in headers if header.path not in bad]
        except UnsuitableInput as error:
            if not lost:
                raise
            raise _unreadable(lost, len(series), f"{error.reason} without them: {error}") from error
    unreadable = _instances(lost)
    notes = (left_out(unreadable, len(series)), *loaded.notes) if unreadable else loaded.notes
    return replace(
        loaded, notes=notes, unreadable=unreadable, seconds=time.perf_counter() - started
    )


class _Unreadable(Exception):
    """Files that turned out to be unreadable while the volume was loaded."""

    def __init__(self, files: Sequence[_Lost]) -> None:
        super().__init__()
        self.files = files


def _headers(
    paths: Sequence[Path], ahead: Decoded | None
) -> tuple[list[Header], list[_Lost]]:
    headers: list[Header] = []
    lost: list[_Lost] = []
    for path in paths:
        try:
            headers.append((ahead.take(path) if ahead else None) or read_header(path))
        except NotUnderstood as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno not in _GONE:
                raise StorageFailed(str(error)) from error
            lost.append((Header(path, Dataset(), "", False), error))
    return headers, lost


def _is_short(header: Header) -> bool:
    """Whether native pixel data are shorter than Rows and Columns say: one of them is wrong."""
    if header.frame is not None:
        return False
    keywords = ("Rows", "Columns", "BitsAllocated")
    needed_bits = math.prod(unsigned(header.dataset, keyword) for keyword in keywords)
    return header.native_length is not None and header.native_length * 8 < needed_bits


def _require_enough(headers: Sequence[Header], lost: Sequence[_Lost], images: int) -> None:
    """Decline when too much is unreadable; where all is, alike, with the reason of the files."""
    if lost and not headers and len({error.reason for _, error in lost}) == 1:
        raise lost[0][1]
    if too_many(len(lost), images):
        raise _unreadable(lost, images, "too many to do without them")


def _unreadable(lost: Sequence[_Lost], images: int, why: str) -> UnreadableInstances:
    return UnreadableInstances(_instances(lost), images, why)


def _instances(lost: Sequence[_Lost]) -> tuple[UnreadableInstance, ...]:
    return tuple(
        UnreadableInstance(
            header.path, error.reason, numbers(header.dataset, "ImagePositionPatient")
        )
        for header, error in lost
        if header.path is not None
    )


def _load(
    headers: Sequence[Header], limits: VolumeLimits, only: Only | None
) -> LoadedVolume:
    """Raises `_Unreadable` with the files whose pixels cannot be had, else `UnsuitableInput`."""
    short = [header for header in headers if _is_short(header)]
    if short:
        raise _Unreadable([
            (header, decline("undecodable", "the pixel data are shorter than the image"))
            for header in short
        ])
    geometry = _geometry(headers, limits, _pixel_comparison(headers), only)
    planes = geometry.planes
    slices = [headers[plane.index] for plane in planes]
    forms = _forms(slices)
    rescales = [_rescale(h, p.frame_number) for h, p in zip(slices, planes, strict=True)]
    stored = np.empty((len(planes), *geometry.shape[1:]), forms[0].dtype)
    digests = _read_and_digest(slices, forms, planes, rescales, stored)
    unit, unit_notes = unit_of(
        modality_of(slices[0].dataset), rescales, original="ORIGINAL" in planes[0].image_type
    )
    values, value_notes = to_modality_values(stored, forms, rescales, unit)
    if geometry.source_affine_lps is None:
        values = resample_slices(values, geometry.slice_coordinates, geometry.shape[0])
    sources = slices[:1] if len({plane.index for plane in planes}) == 1 else slices
    return LoadedVolume(
        volume=Volume(values, geometry.affine_lps, unit),
        source_images=tuple(header.dataset for header in sources),
        frame_numbers=tuple(plane.frame_number for plane in planes),
        source_affine_lps=geometry.source_affine_lps,
        slice_coordinates=geometry.slice_coordinates,
        content_digests=digests,
        notes=(*geometry.notes, *unit_notes, *value_notes),
    )


def _geometry(
    headers: Sequence[Header], limits: VolumeLimits, same_pixels: SamePixels | None,
    only: Only | None = None,
) -> StackGeometry:
    if not headers:
        raise decline("empty", "no images were given")
    for keyword, reason in (("SeriesInstanceUID", "mixed_series"), ("Modality", "mixed_modality")):
        if len({text(header.dataset, keyword) for header in headers}) > 1:
            raise decline(reason, f"the images differ in {keyword}")
    planes: list[Plane] = []
    for index, header in enumerate(headers):
        if text(header.dataset, "SOPClassUID") in NOT_SOURCE_IMAGES:
            raise decline("not_an_image", "segmentations, maps and doses are no source images")
        planes.extend(filter(only, _planes(header, index)))
    if not all(plane.sop_instance_uid for plane in planes):
        raise decline("no_identity", "an image has no SOP Instance UID to refer to")
    kept, notes = select_stack(planes, limits, same_pixels)
    several = len({plane.index for plane in kept}) > 1
    if several and any(plane.frame_number > 1 for plane in kept):
        raise decline("several_multi_frame", "the stack is spread over several multi-frame objects")
    return fit_stack(kept, limits, notes)


def _planes(header: Header, index: int) -> list[Plane]:
    known = header.understood
    return [replace(known.plane, index=index)] if known else planes_of(header.dataset, index)


def _rescale(header: Header, frame_number: int) -> Rescale:
    return header.understood.rescale if header.understood else rescale_of(
        header.dataset, frame_number
    )


def _pixel_comparison(headers: Sequence[Header]) -> SamePixels:
    def same(first: Plane, second: Plane) -> bool:
        return np.array_equal(_one_plane(headers, first), _one_plane(headers, second))

    return same


def _one_plane(headers: Sequence[Header], plane: Plane) -> Stored:
    header = headers[plane.index]
    form = pixel_format(header)
    out = np.empty((1, form.rows, form.columns), form.dtype)
    try:
        read_frames(header, form, out, (plane.frame_number,))
    except UnsuitableInput as error:
        raise _Unreadable([(header, error)]) from error
    return out


def _forms(slices: Sequence[Header]) -> list[PixelFormat]:
    """Pixel format of each slice; cells of one size and sign throughout."""
    known: dict[int, PixelFormat] = {}
    lost: dict[int, _Lost] = {}
    for header in slices:
        try:
            found = header.understood
            known[id(header)] = found.form if found else pixel_format(header)
        except UnsuitableInput as error:
            if error.reason != "input.pixel_format":
                raise
            lost[id(header)] = (header, error)
    if lost:
        raise _Unreadable(list(lost.values()))
    forms = [known[id(header)] for header in slices]
    if len({form.dtype for form in forms}) > 1:
        raise decline("mixed_pixel_format", "the images differ in Bits Allocated or sign")
    return forms


def _read_and_digest(
    slices: Sequence[Header],
    forms: Sequence[PixelFormat],
    planes: Sequence[Plane],
    rescales: Sequence[Rescale],
    stored: Stored,
) -> dict[str, str]:
    """Fill ``stored``; digest per SOP instance, over its frames in slice order.

    An instance is either one slice or the whole stack, so its slices are contiguous. Reading
    and hashing run without the interpreter lock, so threads share them; what was understood ahead
    is only copied. All unreadable files are found in one go; only those that bring codecs down end
    the search early, for each costs time.
    """
    members: dict[int, list[int]] = {}
    for place, plane in enumerate(planes):
        members.setdefault(plane.index, []).append(place)
    lost: list[_Lost] = []

    def one_instance(places: list[int]) -> tuple[str, str] | None:
        if too_many(sum(is_costly(error) for _, error in lost), len(members)):
            return None
        form, header = forms[places[0]], slices[places[0]]
        frame_numbers = [planes[place].frame_number for place in places]
        try:
            read_frames(header, form, stored[places[0] : places[-1] + 1], frame_numbers)
        except UnsuitableInput as error:
            lost.append((header, error))
            return None
        if header.understood:
            return planes[places[0]].sop_instance_uid, header.understood.digest
        digest = image_digest(
            form,
            [planes[place] for place in places],
            [rescales[place] for place in places],
            [stored[place] for place in places],
        )
        return planes[places[0]].sop_instance_uid, digest

    # Threads take the next one themselves: a task for each would cost more than its copy does.
    todo = iter(list(members.values()))

    def as_they_come(_: int) -> list[tuple[str, str]]:
        try:
            return [found for places in todo if (found := one_instance(places))]
        finally:
            # Where a disk or the codecs are not well, nobody goes on.
            list(todo)

    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("ignore")
        shares = pool.map(as_they_come, range(min(_THREADS, len(members))))
        digests = dict(one for share in shares for one in share)
    if lost:
        # Threads find them in any order, and what is said of them must not depend on it.
        raise _Unreadable(sorted(lost, key=lambda one: str(one[0].path)))
    return {plane.sop_instance_uid: digests[plane.sop_instance_uid] for plane in planes}
