"""Labels that share voxels, in every form of a result and past every gate."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from ai_models.array.labels import is_overlapping, mask_of, overlapping, values_in
from ai_models.array.measurements import measure
from ai_models.types import Code, Label, LabelMap, Volume
from dicom_node.cli.demo_pictures import _by_label
from dicom_node.errors import GateRefused
from dicom_node.records import DestinationProfile
from dicom_node.results import gate
from dicom_node.results.drawing import contour_colors, draw_contours
from dicom_node.results.form_builders import Workbench
from dicom_node.results.forms import prepare
from dicom_node.results.gate_pictures import check_secondary_captures
from dicom_node.results.gate_report import check_findings
from dicom_node.results.overlay import write_overlays
from dicom_node.results.profile import Wanted
from dicom_node.results.report import build_planar_report, build_volumetric_report
from dicom_node.results.segmentation import build_label_map_segmentation
from dicom_node.results.sop_classes import CLASS_NAMES
from tests.dicom_samples import radiograph
from tests.results import kept_samples, samples

NODULE = Code("27925004", "SCT", "Nodule")
WHOLE = Label(3, "Whole", samples.STRUCTURE, samples.LUNG, (0, 200, 0))
CORE = Label(1, "Core", samples.STRUCTURE, NODULE, (200, 0, 0))
OTHER = Label(64, "Other", samples.STRUCTURE, Code("52988006", "SCT", "Lesion"), (0, 0, 220))
LABELS = (CORE, WHOLE, OTHER)


def nested(shape: tuple[int, int, int] = samples.SHAPE) -> LabelMap:
    """A core inside of a whole, and another that cuts across both; values with gaps."""
    whole, core, other = (np.zeros(shape, bool) for _ in range(3))
    first, last = (0, 1) if shape[0] == 1 else (1, 7)
    whole[first:last, 8:30, 4:18] = True
    core[first:last, 10:20, 6:12] = True
    other[first:last, 15:35, 10:30] = True
    core[first, 10, 6] = False
    return overlapping({WHOLE.value: whole, CORE.value: core, OTHER.value: other}, shape)


@pytest.fixture(scope="module")
def headers() -> list[Dataset]:
    return samples.headers(samples.ct())


@pytest.fixture(scope="module")
def kept(headers: list[Dataset]) -> kept_samples.Kept:
    """Segmentation and both reports, each past its gate."""
    mask, frames = nested(), [1] * len(headers)
    request = samples.request_for(headers, labels=LABELS)
    segmentation = samples.segmentation_of(headers, mask, labels=LABELS)
    gate.check_segmentation(segmentation, headers, frames, mask, LABELS)
    measured = measure(mask, _volume(headers))
    volumetric = build_volumetric_report(request, segmentation, mask, measured, series_number=9002)
    planar = build_planar_report(request, mask, series_number=9003)
    assert planar is not None
    for report in (volumetric, planar):
        gate.check_report(report, headers, [segmentation])
        check_findings(report, headers, frames, mask, measured, segmentation)
    return [
        ("segmentation", segmentation), ("volumetric report", volumetric),
        ("planar report", planar),
    ]


def test_each_label_is_a_segment_and_the_object_says_that_they_overlap(
    kept: kept_samples.Kept,
) -> None:
    segmentation = kept[0][1]
    assert segmentation.SegmentsOverlap == "YES"
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == ["Core", "Whole", "Other"]
    assert segmentation.NumberOfFrames == 3 * 6


def test_a_shared_voxel_counts_for_each_of_its_labels(headers: list[Dataset]) -> None:
    measured = measure(nested(), _volume(headers))
    assert {value: one.voxel_count for value, one in measured.items()} == {
        1: 6 * 60 - 1, 3: 6 * 22 * 14, 64: 6 * 20 * 20,
    }
    alone = measure(mask_of(nested(), 1).astype(np.uint8), _volume(headers))
    assert measured[1] == alone[1]


def test_what_is_kept_reads_back_with_its_overlap(
    kept: kept_samples.Kept, headers: list[Dataset], tmp_path: Path
) -> None:
    read = kept_samples.from_files(kept, tmp_path)
    label_map = Workbench(read, kept_samples.source_of(headers)).label_map
    assert is_overlapping(label_map)
    for number, label in enumerate(LABELS, start=1):
        np.testing.assert_array_equal(
            mask_of(label_map, number), mask_of(nested(), label.value)
        )
    by_label = _by_label(tmp_path / "0.dcm", label_map, LABELS)
    np.testing.assert_array_equal(by_label, nested())


@pytest.mark.parametrize(
    "wish",
    [
        ("structure set", "structure_set"), ("presentation state", "presentation_state"),
        ("secondary capture", "pictures"), ("key objects", "key_objects"), ("pdf", "pdf"),
        ("volumetric report", "comprehensive"), ("planar report", "enhanced"),
        ("volumetric report", "text"),
    ],
)
def test_every_other_form_is_built_and_passes_its_gate(
    kept: kept_samples.Kept, headers: list[Dataset], wish: tuple[str, str]
) -> None:
    assert Workbench(kept, kept_samples.source_of(headers)).build(wish)


def test_a_destination_set_to_label_maps_gets_the_binary_one_and_is_told_why(
    kept: kept_samples.Kept, headers: list[Dataset]
) -> None:
    wanted = Wanted(segmentation="labelmap")
    takes_all = dict.fromkeys(CLASS_NAMES, (ExplicitVRLittleEndian,))
    asked = DestinationProfile("asked", takes_all, frozenset(), samples.CREATED_AT)
    destinations: dict[str, tuple[DestinationProfile | None, Wanted]] = {
        "asked": (asked, wanted), "never": (None, wanted),
    }
    prepared = prepare(destinations, kept, kept_samples.source_of(headers))
    for plan in prepared.plans.values():
        sent = next(one for one in plan if one.kind == "segmentation")
        assert sent.form == ""
        assert sent.why == "a label map cannot hold segments that overlap"
    assert not prepared.failed


def test_a_label_map_of_labels_that_share_voxels_is_refused(headers: list[Dataset]) -> None:
    request = samples.request_for(headers, labels=LABELS)
    with pytest.raises(GateRefused) as caught:
        build_label_map_segmentation(request, nested(), series_number=9001)
    assert caught.value.reason == "gate.overlap"


def test_labels_that_may_overlap_and_do_not_have_every_form(headers: list[Dataset]) -> None:
    mask = samples.lungs()
    apart = overlapping({1: mask == 1, 2: mask == 2}, mask.shape)
    segmentation = samples.segmentation_of(headers, apart)
    assert segmentation.SegmentsOverlap == "NO"
    frames = [1] * len(headers)
    gate.check_segmentation(segmentation, headers, frames, apart, samples.LABELS)
    gate.check_segmentation(segmentation, headers, frames, mask, samples.LABELS)
    built = build_label_map_segmentation(
        samples.request_for(headers), apart, series_number=9001
    )
    assert built is not None
    gate.check_label_map(built, headers, frames, mask, samples.LABELS)


def test_a_segmentation_that_hides_its_overlap_is_refused(
    kept: kept_samples.Kept, headers: list[Dataset]
) -> None:
    hidden = _copy(kept[0][1])
    hidden.SegmentsOverlap = "NO"
    frames = [1] * len(headers)
    with pytest.raises(GateRefused) as caught:
        gate.check_segmentation(hidden, headers, frames, nested(), LABELS)
    assert caught.value.reason == "gate.labels"
    with pytest.raises(GateRefused) as caught:
        gate.read_label_map(hidden, headers, frames)
    assert caught.value.reason == "gate.voxels"


@pytest.mark.parametrize("place", [(3, 12, 8), (3, 25, 25), (0, 0, 0)])
def test_one_voxel_of_one_segment_that_differs_is_refused(
    kept: kept_samples.Kept, headers: list[Dataset], place: tuple[int, int, int]
) -> None:
    changed = nested()
    changed[place] ^= np.uint64(1 << (WHOLE.value - 1))
    with pytest.raises(GateRefused) as caught:
        gate.check_segmentation(kept[0][1], headers, [1] * len(headers), changed, LABELS)
    assert caught.value.reason == "gate.volume"


def test_contours_of_labels_that_share_pixels_are_compared_in_the_order_they_are_drawn(
    kept: kept_samples.Kept, headers: list[Dataset]
) -> None:
    bench = Workbench(kept, kept_samples.source_of(headers))
    pictures = [dataset for dataset, _ in bench.build(("secondary capture", "pictures"))]
    wrong = _copy(pictures[0])
    pixels = np.frombuffer(wrong.PixelData, np.uint8).copy().reshape(wrong.Rows, wrong.Columns, 3)
    pixels[8, 5] = 90
    wrong.PixelData = pixels.tobytes()
    with pytest.raises(GateRefused) as caught:
        check_secondary_captures(
            [wrong, *pictures[1:]], headers, [1] * len(headers), bench.label_map,
            bench.request.labels,
        )
    assert caught.value.reason == "gate.contour"


def test_a_contour_inside_of_another_label_is_seen() -> None:
    section = nested()[3]
    drawn = draw_contours(
        np.full(section.shape, 90, np.uint8), section, contour_colors(LABELS)
    )
    shown = {tuple(color) for color in drawn.reshape(-1, 3).tolist()}
    assert {CORE.color_rgb, WHOLE.color_rgb, OTHER.color_rgb} <= shown


def test_overlays_for_people_show_labels_that_share_voxels(
    headers: list[Dataset], tmp_path: Path
) -> None:
    volume = _volume(headers)
    display = np.full(samples.SHAPE, 90, np.uint8)
    paths = write_overlays(volume, display, nested(), LABELS, tmp_path, "overlay")
    assert len(paths) == 3


@pytest.mark.parametrize("modality", ["DX", "CR"])
def test_labels_of_a_radiograph_may_overlap(modality: str) -> None:
    images = samples.headers([radiograph(modality=modality)])
    mask = nested((1, int(images[0].Rows), int(images[0].Columns)))
    segmentation = samples.segmentation_of(images, mask, labels=LABELS)
    assert "FrameOfReferenceUID" not in segmentation
    gate.check_segmentation(segmentation, images, [1], mask, LABELS)
    assert values_in(gate.read_label_map(segmentation, images, [1])) == [1, 2, 3]


def _volume(headers: list[Dataset]) -> Volume:
    array = np.arange(np.prod(samples.SHAPE), dtype=np.float32).reshape(samples.SHAPE) % 97
    return Volume(array, samples.affine_lps(headers))


def _copy(dataset: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(kept_samples.encoded(dataset)))
