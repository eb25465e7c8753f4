"""Reading a CT series to a volume, in every way that is compared; see `bench.child`.

Each gives int16 (slices, rows, columns); what it gives is compared once, before the clock. Paths
are sorted by name, which is slice order: no peer sorts, but where its library does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Volume = npt.NDArray[Any]
Work = Callable[[], Mapping[str, float] | None]


def _paths(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("*.dcm"))


def _checked(read: Callable[[], Volume], folder: str) -> Work:
    """Read once, so that libraries are loaded and the answer is known to be right."""
    found, wanted = np.asarray(read()), raw_values(folder)
    if found.shape != wanted.shape or not (found == wanted).all():
        raise ValueError(f"another volume: {found.shape} of {wanted.shape}")

    def work() -> None:
        read()

    return work


def raw_values(folder: str) -> Volume:
    """HU as they were written: the last bytes of every file, less 1024."""
    side_bytes = 512 * 512 * 2
    planes = [
        np.frombuffer(path.read_bytes()[-side_bytes:], np.int16).reshape(512, 512)
        for path in _paths(folder)
    ]
    return np.stack(planes) - np.int16(1024)


def by_node(folder: str) -> Work:
    """As the node reads a series: every check, the headers for its results, digests, HU."""
    from dicom_node.imaging.volume import load_volume

    paths = _paths(folder)
    return _checked(lambda: load_volume(paths).volume.array, folder)


def by_node_ahead(folder: str) -> Work:
    """What is left to the node's job when the images were read while the series arrived."""
    from dicom_node.imaging.decoded import Decoded
    from dicom_node.imaging.volume import VolumeLimits, load_volume

    paths, decoded = _paths(folder), Decoded(4 << 30)

    def fill() -> None:
        for path in paths:
            decoded.read("series", path)

    def read() -> Volume:
        return load_volume(paths, VolumeLimits(), decoded).volume.array

    fill()
    work = _checked(read, folder)

    def next_time() -> None:
        work()

    fill()
    return _Refilled(next_time, fill)


class _Refilled:
    """Work after which something is to be done that does not count."""

    def __init__(self, work: Callable[[], None], after: Callable[[], None]) -> None:
        self._work, self.after = work, after

    def __call__(self) -> None:
        self._work()


def by_pydicom(folder: str) -> Work:
    """The loop that everyone writes."""
    import pydicom

    def read() -> Volume:
        planes = []
        for path in _paths(folder):
            one = pydicom.dcmread(path)
            planes.append((
                float(one.ImagePositionPatient[2]),
                one.pixel_array * int(one.RescaleSlope) + np.int16(one.RescaleIntercept),
            ))
        planes.sort(key=lambda plane: plane[0])
        return np.stack([pixels for _, pixels in planes])

    return _checked(read, folder)


def by_simpleitk(folder: str) -> Work:
    """SimpleITK's series reader, sorted by GDCM."""
    import SimpleITK

    def read() -> Volume:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
        return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()))

    return _checked(read, folder)


def by_highdicom(folder: str) -> Work:
    """highdicom's volume of a series."""
    import highdicom as hd
    import pydicom

    def read() -> Volume:
        images = [pydicom.dcmread(path) for path in _paths(folder)]
        volume = hd.get_volume_from_series(images)
        # It is free to number slices from the other end.
        return np.asarray(volume.array).astype(np.int16)[::-1]

    return _checked(read, folder)


def indexed(folder: str) -> Work:
    """Where the pixels stand is known: straight into the array, without any header."""
    paths, side_bytes = _paths(folder), 512 * 512 * 2
    offsets = [path.stat().st_size - side_bytes for path in paths]

    def read() -> Volume:
        array = np.empty((len(paths), 512, 512), np.int16)
        for path, offset, plane in zip(paths, offsets, array, strict=True):
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                file.readinto(memoryview(plane).cast("B"))
        array -= 1024
        return array

    return _checked(read, folder)


def raw(folder: str) -> Work:
    """All bytes of all files, and nothing with them."""
    buffer = bytearray(1 << 20)

    def work() -> None:
        for path in _paths(folder):
            with path.open("rb", buffering=0) as file:
                file.readinto(buffer)

    work()
    return work
