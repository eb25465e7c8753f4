"""The pictures of one job for the web page: its slices in grey, and what was found as clear layers.

Rows and columns are as stored, never turned; letters at the edges say which side is which. The
last few jobs that were looked at stay in memory, so that a slider moves without waiting.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_models.types import ModelError
from dicom_node.errors import NodeError, NotUnderstood, UnsuitableInput
from dicom_node.operations.web.ports import Album, Segment, Sides

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from pydicom.dataset import Dataset

    from ai_models.card import Card
    from ai_models.catalog import Catalog
    from dicom_node.ledger.ledger import Ledger
    from dicom_node.records import Job, Result
    from dicom_node.spool import Spool

    Pixels = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

# Grey and layers of all albums together, and of one of them.
_BUDGET_BYTES = 384 << 20
_LARGEST_BYTES = 128 << 20
_LONGEST_SIDE, _LONGEST_SIDE_OF_ONE = 512, 1024
_FILL_ALPHA, _LINE_ALPHA = 70, 255
_PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (255, 255, 255),
)
_RADIOGRAPHS = frozenset({"CR", "DX", "MG", "RG", "XA", "PX", "IO"})


@dataclass(frozen=True)
class _Grid:
    """The images of a series as they are shown, and where they lie.

    ``grey`` is ``(slices, rows, columns)``; ``affine_lps`` maps its index to millimetres in LPS,
    ``None`` where the slices are no regular grid.
    """

    grey: Pixels
    sources: Sequence[Dataset]
    frame_numbers: Sequence[int]
    affine_lps: npt.NDArray[np.float64] | None
    window: str


@dataclass(frozen=True)
class _Drawn:
    """One album with the arrays behind it; masks are ``(slices, rows, columns)``."""

    facts: Album
    grey: Pixels
    masks: Mapping[int, Mask]
    colors: Mapping[int, tuple[int, int, int]]

    @property
    def size_bytes(self) -> int:
        """How much memory it takes."""
        return self.grey.nbytes + sum(mask.nbytes for mask in self.masks.values())


class PictureMaker:
    """Draws jobs; safe to use from several threads, of which one at a time reads a series."""

    def __init__(self, ledger: Ledger, spool: Spool, catalog: Catalog) -> None:
        self._ledger = ledger
        self._spool = spool
        self._catalog = catalog
        self._albums: OrderedDict[tuple[str, str], _Drawn] = OrderedDict()
        self._lock = threading.Lock()
        self._reading = threading.Lock()

    def album(self, job: Job) -> Album:
        """What there is to be seen of a job.

        Raises
        ------
        NodeError
            ``picture.removed``: the images are gone. Otherwise why they cannot be shown.
        """
        return self._drawn(job).facts

    def image(self, job: Job, slice_index: int) -> bytes:
        """One slice in grey as PNG; raises `IndexError` for one that is not there."""
        from PIL import Image

        drawn = self._drawn(job)
        _check(slice_index, len(drawn.grey))
        return _png(Image.fromarray(drawn.grey[slice_index]))

    def layer(self, job: Job, slice_index: int, segment: int) -> bytes:
        """One segment on one slice as PNG: its border opaque, its inside a tint, the rest clear."""
        import numpy as np
        from PIL import Image

        from dicom_node.results.contours import border

        drawn = self._drawn(job)
        _check(slice_index, len(drawn.grey))
        if segment not in drawn.masks:
            raise IndexError(segment)
        mask = drawn.masks[segment][slice_index]
        indices = np.zeros(mask.shape, np.uint8)
        indices[mask] = 1
        indices[border(mask)] = 2
        picture = Image.fromarray(indices, "P")
        color = drawn.colors[segment]
        picture.putpalette([0, 0, 0, *color, *color])
        return _png(picture, transparency=bytes((0, _FILL_ALPHA, _LINE_ALPHA)))

    def _drawn(self, job: Job) -> _Drawn:
        key = (job.job_id, job.changed_at.isoformat())
        found = self._remembered(key)
        if found is not None:
            return found
        with self._reading:
            found = self._remembered(key)
            if found is None:
                found = self._draw(job)
                self._remember(key, found)
        return found

    def _remembered(self, key: tuple[str, str]) -> _Drawn | None:
        with self._lock:
            found = self._albums.get(key)
            if found is not None:
                self._albums.move_to_end(key)
            return found

    def _remember(self, key: tuple[str, str], drawn: _Drawn) -> None:
        with self._lock:
            self._albums[key] = drawn
            while (
                len(self._albums) > 1
                and sum(one.size_bytes for one in self._albums.values()) > _BUDGET_BYTES
            ):
                self._albums.popitem(last=False)

    def _draw(self, job: Job) -> _Drawn:
        instances = self._ledger.receipts.instances(job.series_instance_uid)
        paths = self._spool.resolve_all([one.path for one in instances])
        if not any(path.exists() for path in paths):
            raise NotUnderstood("the images are not kept any more", reason="picture.removed")
        card = self._card(job)
        grid = _grid(paths, instances[0].modality, card)
        results = self._ledger.jobs.results(job.job_id)
        if not results:
            # The same objects may be of an earlier job.
            uids = {one.sop_instance_uid for one in self._ledger.deliveries.of_job(job.job_id)}
            found = (self._ledger.jobs.find_result(uid) for uid in sorted(uids))
            results = [one for one in found if one is not None]
        layers = self._layers(results, grid)
        if not layers:
            said = self._ledger.predictions.of(job.job_id) or {}
            layers = _boxes(said.get("detections", ()), grid)
        return _drawn(grid, layers, card)

    def _card(self, job: Job) -> Card | None:
        try:
            return self._catalog.card_for(job.model_id, job.model_version)
        except ModelError:
            return None

    def _layers(self, results: Sequence[Result], grid: _Grid) -> dict[str, Mask]:
        """Name to mask of every segment of every kept segmentation."""
        import pydicom

        from ai_models.array.labels import mask_of
        from dicom_node.results.gate import read_label_map

        layers: dict[str, Mask] = {}
        for result in results:
            path = self._spool.resolve(result.path)
            if result.kind != "segmentation" or result.form or not path.exists():
                continue
            header = pydicom.dcmread(path, stop_before_pixels=True)
            label_map = read_label_map(path, grid.sources, grid.frame_numbers)
            for segment in header.SegmentSequence:
                mask = mask_of(label_map, int(segment.SegmentNumber))
                if mask.any():
                    layers[str(segment.SegmentLabel)] = mask
        return layers


def _grid(paths: Sequence[Path], modality: str, card: Card | None) -> _Grid:
    """The images on one grid: slices of a volume, or one radiograph."""
    from dicom_node.imaging.display import chosen_window, displayed, displayed_image
    from dicom_node.imaging.radiograph import load_radiograph
    from dicom_node.imaging.volume import load_volume

    if modality in _RADIOGRAPHS or (card is not None and card.input.kind == "image"):
        failure: NodeError | None = None
        for path in paths:
            try:
                one = load_radiograph(path)
            except (NotUnderstood, UnsuitableInput) as error:
                failure = error
                continue
            return _Grid(displayed_image(one.image), (one.source_image,), (1,), None, "as stored")
        raise failure or NotUnderstood("there is no image", reason="picture.removed")
    loaded = load_volume(paths)
    labels = card.labels if card is not None else ()
    header = loaded.source_images[0]
    values = loaded.to_source_grid(loaded.volume.array)
    grey = displayed(values, loaded.volume.unit, header, labels)
    window = chosen_window(values, loaded.volume.unit, header, labels)
    unit = " HU" if loaded.volume.unit == "HU" else ""
    return _Grid(
        grey, loaded.source_images, loaded.frame_numbers, loaded.source_affine_lps,
        f"centre {window.center:g}, width {window.width:g}{unit}",
    )


def _boxes(detections: Sequence[Mapping[str, Any]], grid: _Grid) -> dict[str, Mask]:
    """Detections in a volume as the boxes that they are, by their names; none elsewhere."""
    import numpy as np

    if grid.affine_lps is None:
        return {}
    to_index = np.linalg.inv(grid.affine_lps)
    layers: dict[str, Mask] = {}
    corners = np.stack(np.meshgrid(*([-0.5, 0.5],) * 3), axis=-1).reshape(-1, 3)
    for one in detections:
        points = np.asarray(one["center_lps_mm"]) + corners * np.asarray(one["size_mm"])
        indices = points @ to_index[:3, :3].T + to_index[:3, 3]
        low = np.clip(np.floor(indices.min(axis=0) + 0.5), 0, None).astype(int)
        high = np.ceil(indices.max(axis=0) + 0.5).astype(int)
        mask = layers.setdefault(one["name"] or "detection", np.zeros(grid.grey.shape, bool))
        mask[tuple(slice(a, max(a + 1, b)) for a, b in zip(low, high, strict=True))] = True
    return layers


def _drawn(grid: _Grid, layers: Mapping[str, Mask], card: Card | None) -> _Drawn:
    """Shrunk to what may be kept, with the facts of it."""
    import numpy as np

    count, rows, columns = grid.grey.shape
    side = _LONGEST_SIDE_OF_ONE if count == 1 else _LONGEST_SIDE
    step = -(-max(rows, columns) // side)
    shrunk = grid.grey[:, ::step, ::step]
    every = max(1, -(-(shrunk.nbytes * (1 + len(layers))) // _LARGEST_BYTES))
    grey = np.ascontiguousarray(shrunk[::every])
    named = {label.name: label.color_rgb for label in (card.labels if card is not None else ())}
    masks, colors, segments = {}, {}, []
    for number, (name, mask) in enumerate(layers.items(), start=1):
        masks[number] = np.ascontiguousarray(mask[::every, ::step, ::step])
        colors[number] = named.get(name) or _PALETTE[(number - 1) % len(_PALETTE)]
        text = "#{:02x}{:02x}{:02x}".format(*colors[number])
        segments.append(Segment(number, name, text, int(np.count_nonzero(mask))))
    shown = sum((mask.sum(axis=(1, 2)) for mask in masks.values()), np.zeros(len(grey), np.int64))
    first = int(np.argmax(shown)) if masks else len(grey) // 2
    facts = Album(
        slices=len(grey), columns=grey.shape[2], rows=grey.shape[1],
        sides=_sides(grid, first * every), segments=tuple(segments), first=first, every=every,
        aspect=_aspect(grid, first * every), window=grid.window,
        demonstration=card is None or card.demonstration,
    )
    return _Drawn(facts, grey, masks, colors)


def _sides(grid: _Grid, slice_index: int) -> Sides:
    from dicom_node.results.drawing import Sides as Along
    from dicom_node.results.slice_source import patient_orientation

    image, frame = _image_of(grid, slice_index)
    return Sides(**vars(Along.along(patient_orientation(image, frame))))


def _aspect(grid: _Grid, slice_index: int) -> float:
    """Height of a pixel by its width (PS3.3 10.7.1.3: row spacing, column spacing)."""
    from dicom_node.results.slice_source import pixel_spacing

    spacing = pixel_spacing(*_image_of(grid, slice_index))
    if not spacing or float(spacing[1]) <= 0:
        return 1.0
    return float(spacing[0]) / float(spacing[1])


def _image_of(grid: _Grid, slice_index: int) -> tuple[Dataset, int | None]:
    several = len(grid.sources) > 1
    image = grid.sources[slice_index] if several else grid.sources[0]
    is_multi_frame = int(image.get("NumberOfFrames") or 1) > 1
    return image, int(grid.frame_numbers[slice_index]) if is_multi_frame else None


def _check(slice_index: int, slices: int) -> None:
    if not 0 <= slice_index < slices:
        raise IndexError(slice_index)


def _png(picture: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=6, **options)
    return stream.getvalue()
