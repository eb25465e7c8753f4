"""Pictures of a job for the web page: the right slice, the right side, the right segment."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ai_models.catalog import Catalog
from dicom_node.errors import NodeError
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_pictures import PictureMaker
from dicom_node.records import Instance, Job, Result, SeriesState
from dicom_node.spool import Spool
from tests.dicom_samples import radiograph, write_instance
from tests.ledger.conftest import START, job
from tests.results import samples

SERIES = "1.2.3"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


def made(
    ledger: Ledger, tmp_path: Path, datasets: list[Any], mask: Any = None, modality: str = "CT"
) -> tuple[PictureMaker, Job]:
    """A job that has succeeded on these images, with a segmentation where there is a mask."""
    spool, found = Spool(tmp_path / "spool"), []
    for number, dataset in enumerate(datasets, start=1):
        path = f"instances/1.2/{SERIES}/{number}.dcm"
        (spool.root / path).parent.mkdir(parents=True, exist_ok=True)
        write_instance(dataset, spool.root / path)
        found.append(Instance(
            str(dataset.SOPInstanceUID), str(dataset.SOPClassUID), "1.2.840.10008.1.2.1", SERIES,
            "1.2", modality, path, 1, "f", START, "one", "CT01", instance_number=number,
        ))
    ledger.index(found)
    ledger.receipts.change(SERIES, SeriesState.COMPLETE, "quiet_period")
    one = replace(job(), model_id="none", model_version="1")
    ledger.jobs.route(SERIES, [one], "rules: x", seen=START)
    ledger.jobs.start(one.job_id, 1)
    results = []
    if mask is not None:
        segmentation = samples.segmentation_of(samples.headers(datasets), mask)
        path = "outbox/job-1/2.25.1.dcm"
        (spool.root / path).parent.mkdir(parents=True)
        segmentation.save_as(spool.root / path, enforce_file_format=True)
        results.append(Result(
            "2.25.1", str(segmentation.SOPClassUID), "2.25.9", "1.2", one.job_id, "segmentation",
            path, datetime.now(UTC),
        ))
    ledger.jobs.succeed(one.job_id, results, [], "result", {})
    ended = ledger.jobs.find(one.job_id)
    assert ended is not None
    return PictureMaker(ledger, spool, Catalog([])), ended


def opaque(png: bytes) -> npt.NDArray[np.bool_]:
    """Where a layer is not clear."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 3] > 0


def test_each_layer_lies_where_its_segment_does_on_every_slice(
    ledger: Ledger, tmp_path: Path
) -> None:
    datasets = samples.ct()
    mask = samples.lungs(datasets)
    maker, one = made(ledger, tmp_path, datasets, mask)
    album = maker.album(one)
    assert [(s.number, s.voxels) for s in album.segments] == [
        (number, int(np.count_nonzero(mask == number))) for number in (1, 2)
    ]
    for slice_index in range(album.slices):
        for number in (1, 2):
            shown = opaque(maker.layer(one, slice_index, number))
            np.testing.assert_array_equal(shown, mask[slice_index] == number)
    image = Image.open(io.BytesIO(maker.image(one, album.first)))
    assert (image.mode, image.size) == ("L", (mask.shape[2], mask.shape[1]))
    assert album.first == int(np.argmax(np.count_nonzero(mask, axis=(1, 2))))


@pytest.mark.parametrize(("orientation", "sides"), [
    ((1, 0, 0, 0, 1, 0), ("R", "L", "A", "P")),
    ((-1, 0, 0, 0, 1, 0), ("L", "R", "A", "P")),
    ((1, 0, 0, 0, 0, -1), ("R", "L", "H", "F")),
])  # fmt: skip
def test_letters_say_which_side_is_which_and_nothing_is_turned(
    ledger: Ledger, tmp_path: Path, orientation: tuple[float, ...], sides: tuple[str, ...]
) -> None:
    datasets = samples.ct(orientation=orientation)
    maker, one = made(ledger, tmp_path, datasets)
    album = maker.album(one)
    found = album.sides
    assert (found.left, found.right, found.top, found.bottom) == sides
    assert album.aspect == pytest.approx(
        float(datasets[0].PixelSpacing[0]) / float(datasets[0].PixelSpacing[1])
    )
    assert album.segments == ()


def test_a_radiograph_is_one_slice(ledger: Ledger, tmp_path: Path) -> None:
    one_image = radiograph()
    maker, one = made(ledger, tmp_path, [one_image], modality="DX")
    album = maker.album(one)
    assert (album.slices, album.rows, album.columns) == (1, one_image.Rows, one_image.Columns)
    assert maker.image(one, 0).startswith(b"\x89PNG")


def test_large_images_are_shrunk_and_their_masks_with_them(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.node_pictures._LONGEST_SIDE", 24)
    monkeypatch.setattr("dicom_node.node_pictures._LARGEST_BYTES", 8000)
    datasets = samples.ct()
    mask = samples.lungs(datasets)
    maker, one = made(ledger, tmp_path, datasets, mask)
    album = maker.album(one)
    assert (album.rows, album.columns, album.every) == (20, 24, 2)
    shown = opaque(maker.layer(one, 2, 1))
    np.testing.assert_array_equal(shown, mask[4, ::2, ::2] == 1)


def test_what_is_not_there_is_an_error_and_not_a_picture(ledger: Ledger, tmp_path: Path) -> None:
    maker, one = made(ledger, tmp_path, samples.ct())
    for slice_index in (-1, 10):
        with pytest.raises(IndexError):
            maker.image(one, slice_index)
    with pytest.raises(IndexError):
        maker.layer(one, 0, 1)


def test_removed_images_are_told(ledger: Ledger, tmp_path: Path) -> None:
    maker, one = made(ledger, tmp_path, samples.ct())
    for path in (tmp_path / "spool" / "instances").rglob("*.dcm"):
        path.unlink()
    with pytest.raises(NodeError) as refused:
        maker.album(one)
    assert refused.value.reason == "picture.removed"
