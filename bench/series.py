"""A chest CT as files and as bytes for the wire, and the same again under other UIDs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from ai_models.array.phantom import chest_phantom
from bench.raw_scu import CT, EXPLICIT, RawScu, bare_data_set, store_message
from tests.dicom_samples import ct_series, write_instance

SIDE = 512
_SPACING_MM = (1.0, 0.7, 0.7)
# As long as what is put in their place.
_STUDY, _SERIES, _FRAME = (f"2.25.7777777777777777777777777777777777{n}" for n in (1, 2, 3))
_INSTANCE = "2.25.77777777777777777777777777777777"


def write_chest(folder: Path, slices: int, *, extent_mm: float | None = None) -> list[Path]:
    """Write a phantom of so many slices of 512 x 512; the paths, in slice order.

    ``extent_mm``: from first to last slice, so that more slices are thinner ones.
    """
    step_mm = _SPACING_MM[0] if extent_mm is None else extent_mm / slices
    # Slices are drawn where they differ: between them a scanner interpolates as well.
    drawn = min(slices, 300)
    shape, spacing_mm = (drawn, SIDE, SIDE), (step_mm * slices / drawn, *_SPACING_MM[1:])
    values_hu = chest_phantom(11, shape, spacing_mm).volume_hu
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(slices):
        [dataset] = ct_series(
            (1, SIDE, SIDE), (step_mm, *_SPACING_MM[1:]),
            origin_mm=(-180.0, -180.0, -slices * step_mm / 2 + number * step_mm),
            values_hu=values_hu[number * drawn // slices][None],
            StudyInstanceUID=_STUDY, SeriesInstanceUID=_SERIES, FrameOfReferenceUID=_FRAME,
            InstanceNumber=number + 1, SliceThickness=f"{step_mm:.4g}",
            Manufacturer="SynthCo", PatientSex="O",
        )  # fmt: skip
        dataset.SOPInstanceUID = f"{_INSTANCE}{number + 1:05d}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        paths.append(write_instance(dataset, folder / f"{number:05d}.dcm"))
    return paths


class WireSeries:
    """Files as C-STORE messages, which can be sent again and again as another examination."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._messages = []
        for path in paths:
            sop_class, uid, _, data = bare_data_set(path)
            self._messages.append((uid, bytearray(store_message(1, sop_class, uid, data))))
        self.size_bytes = sum(len(message) for _, message in self._messages)

    @property
    def slices(self) -> int:
        """How many instances there are."""
        return len(self._messages)

    def renamed(self) -> tuple[str, list[bytes]]:
        """A Study Instance UID that nobody has seen, and the messages of that study."""
        # No component of a UID may begin with 0 (PS3.5 9.1).
        random = f"1{uuid.uuid4().int:039d}"
        new = {old: old[:5] + random[: len(old) - 6] + old[-1] for old in (_STUDY, _SERIES, _FRAME)}
        stem = _INSTANCE[:5] + random[: len(_INSTANCE) - 5]
        messages = []
        for uid, message in self._messages:
            # UIDs stand before the pixels, and in the command before the data set.
            head, rest = bytes(message[:4096]), message[4096:]
            for old, other in (*new.items(), (_INSTANCE, stem)):
                head = head.replace(old.encode(), other.encode())
            assert len(uid) == len(_INSTANCE) + 5
            messages.append(head + bytes(rest))
        return new[_STUDY], messages

    def send(self, port: int, called: str, messages: Sequence[bytes]) -> float:
        """Send on one association as fast as they are taken; the time of the last answer."""
        scu = RawScu(port, [(1, CT, [EXPLICIT])], called=called, calling="SCANNER1", timeout_s=300)
        for message in messages:
            scu.send(message)
            if status := scu.status():
                raise RuntimeError(f"an image was answered with 0x{status:04X}")
        answered = time.time()
        scu.release()
        return answered
