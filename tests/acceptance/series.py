"""CT series for the way through the node: generated, and real where the shared data is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydicom

from dicom_node.cli.demo_series import write_phantom_series
from tests.shared_data import shared

RIDER = ("data", "series", "ct_chest_rider_pilot")
# 24 slices of 3 mm through the middle of the lungs: one window of the network instead of four.
_THIN = slice(44, 68)


@dataclass(frozen=True)
class Sent:
    """A series on disk, and its UIDs."""

    paths: tuple[Path, ...]
    study_instance_uid: str
    series_instance_uid: str


def describe(paths: list[Path]) -> Sent:
    """The series of some files of one series."""
    header = pydicom.dcmread(paths[0], stop_before_pixels=True)
    return Sent(tuple(paths), str(header.StudyInstanceUID), str(header.SeriesInstanceUID))


def rider() -> Sent:
    """The shared chest CT of 95 slices."""
    return describe(sorted(shared(*RIDER).glob("*.dcm")))


def thin_phantom(folder: Path, seed: int) -> Sent:
    """The middle of a generated chest: other UIDs and another chest for every seed."""
    paths = write_phantom_series(folder, seed)
    for path in (*paths[: _THIN.start], *paths[_THIN.stop :]):
        path.unlink()
    return describe(paths[_THIN])
