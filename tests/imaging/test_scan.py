"""Finding series in folders full of other things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dicom_node.imaging.scan import scan
from dicom_node.imaging.volume import load_volume
from tests.dicom_samples import ct_series, mr_series, radiograph, write_series
from tests.shared_data import needs_shared, shared


def test_series_are_gathered_over_folders_in_name_order(tmp_path: Path) -> None:
    ct, mr = ct_series((3, 4, 5)), mr_series((2, 4, 5))
    first = write_series(ct[:2], tmp_path / "a")
    last = write_series(ct[2:], tmp_path / "b" / "c")
    other = write_series(mr, tmp_path / "b" / "d")
    series, skipped = scan([tmp_path])
    assert series == {ct[0].SeriesInstanceUID: first + last, mr[0].SeriesInstanceUID: other}
    assert skipped == []


def test_other_files_are_left_out_with_a_reason(tmp_path: Path) -> None:
    (path,) = write_series(ct_series((1, 4, 5)), tmp_path / "a")
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "DICOMDIR").write_bytes(path.read_bytes())
    (tmp_path / "half.dcm").write_bytes(path.read_bytes()[:200])
    nameless = write_series([radiograph(SeriesInstanceUID=None)], tmp_path / "n")
    series, skipped = scan([tmp_path, tmp_path / "absent"])
    assert list(series.values()) == [[path]]
    reasons = {file.name: reason for file, reason in skipped}
    assert set(reasons) == {"note.txt", "DICOMDIR", "half.dcm", nameless[0].name, "absent"}
    assert reasons["DICOMDIR"] == "a DICOMDIR"
    assert all(reasons.values())


def test_an_empty_sop_class_uid_is_no_hindrance(tmp_path: Path) -> None:
    paths = write_series(ct_series((1, 4, 5)), tmp_path)
    raw = paths[0].read_bytes()
    place = raw.index(b"\x08\x00\x16\x00UI")
    length = int.from_bytes(raw[place + 6 : place + 8], "little")
    paths[0].write_bytes(raw[: place + 6] + b"\0\0" + raw[place + 8 + length :])
    series, _ = scan([tmp_path])
    assert list(series.values()) == [paths]


def test_images_without_any_series_uid_are_one_series_a_folder(tmp_path: Path) -> None:
    emptied: dict[str, Any] = {
        "SeriesInstanceUID": "",
        "StudyInstanceUID": "",
        "SOPInstanceUID": "",
    }
    first = write_series(ct_series((3, 4, 5), **emptied), tmp_path / "a")
    second = write_series(ct_series((2, 4, 5), **emptied), tmp_path / "b")
    series, _ = scan([tmp_path])
    assert list(series.values()) == [first, second]
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in series)
    assert len(load_volume(first).content_digests) == 3


@needs_shared("data", "dicom")
def test_a_folder_of_every_kind_of_file_never_ends_the_search() -> None:
    series, skipped = scan([shared("data", "dicom", "pydicom")])
    assert len(series) > 30
    assert len(skipped) > 20
