"""How much of a device's memory a job will take: measured if it ever was, told, or estimated.

    {"version": 1, "cards": {fingerprint: {kind of device: {size: MiB, ...}}}}

What a model took at most is kept for each kind of device and size of input, in a small file that
survives the node. Sizes are steps of a quarter of an octave of voxels at the model's grid, so that
like inputs share a figure. A file that is damaged is begun anew: it saves a guess and no more.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
from pathlib import Path
from typing import Any

from ai_models.card import Card
from ai_models.types import ModelInput, Volume, reference_of
from dicom_node.durable import storage_error, sync_directory, write_durably

SERVED_ELSEWHERE = ("open_inference", "openai")
_MIB = float(1 << 20)
_STEPS_PER_OCTAVE = 4
_MOST_CARDS = 256
_MOST_VOXELS = 1 << 31
# Of an encoder and decoder at full resolution: 32 features, four copies of them, 4 bytes each.
_BYTES_PER_WINDOW_VOXEL = 512
_LIBRARIES_MIB = 256.0
# A figure that is not larger by so much is not worth a write.
_NEWS = 1.02
_Peaks = dict[str, dict[str, dict[int, float]]]


def key_of(card: Card) -> str:
    """What tells a loaded model from any other: the bytes of its card, and where it lies."""
    return f"{card.fingerprint}@{card.folder}"


def voxels_of(card: Card, source: ModelInput) -> int:
    """How many voxels an input has on the grid that the card asks for; a guess where it is odd."""
    entry = card.input
    if entry.size is not None:
        return math.prod(entry.size.edges)
    count = float(math.prod(source.array.shape))
    shown = reference_of(source)
    if isinstance(shown, Volume) and entry.spacing_mm is not None:
        at_grid = count * shown.voxel_volume_ml * 1000.0 / math.prod(entry.spacing_mm)
        count = at_grid if math.isfinite(at_grid) else count
    return int(min(max(count, 1.0), _MOST_VOXELS))


def estimated_mib(card: Card, voxels: int) -> float:
    """Weights, what a network keeps of its windows, and the sums of all scores; no measurement."""
    runtime = card.runtime
    if runtime.backend in SERVED_ELSEWHERE:
        return 0.0
    window = math.prod(runtime.roi) * runtime.batch if runtime.roi else voxels
    features = window * _BYTES_PER_WINDOW_VOXEL / (1 if runtime.precision == "fp32" else 2)
    channels = len(card.labels) + 1
    sums = 2 * 4 * channels * voxels if card.task == "segmentation" else 0
    return _LIBRARIES_MIB + (_weights_bytes(card) + features + sums) / _MIB


def _weights_bytes(card: Card) -> int:
    paths = [card.weights_path, *(card.folder / one.path for one in card.weights.ensemble)]
    total = 0
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        for one in files:
            # What is not there, or goes meanwhile, is for the worker to find.
            with contextlib.suppress(OSError):
                total += one.stat().st_size
    return total


class MeasuredMemory:
    """What models took; thread-safe.

    Parameters
    ----------
    path
        The file; ``None``: nothing is kept beyond this process.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._peaks: _Peaks = _read(path) if path is not None else {}

    def predicted_mib(self, card: Card, voxels: int, kind: str) -> float:
        """What a job will take, the model included.

        Measured on this kind of device (``""``: the most of any), else as the card says
        (``runtime.device_memory_mib``), else estimated.
        """
        with self._lock:
            by_kind = self._peaks.get(card.fingerprint, {})
            known = [by_kind[kind]] if kind in by_kind else [] if kind else list(by_kind.values())
            measured = [_from_sizes(peaks, _size_of(voxels)) for peaks in known]
        if measured:
            return max(measured)
        if card.runtime.device_memory_mib is not None:
            return float(card.runtime.device_memory_mib)
        return estimated_mib(card, voxels)

    def keep(self, card: Card, voxels: int, kind: str, peak_mib: float) -> None:
        """Remember what a job took at most; the file is written only when that is news.

        Raises
        ------
        OutOfSpace, StorageFailed
            The file was not written; the figure is known until the process ends.
        """
        if not math.isfinite(peak_mib) or peak_mib < 0:
            return
        with self._lock:
            # The card that was measured last stands last.
            by_kind = self._peaks.pop(card.fingerprint, {})
            self._peaks[card.fingerprint] = by_kind
            while len(self._peaks) > _MOST_CARDS:
                del self._peaks[next(iter(self._peaks))]
            peaks, size = by_kind.setdefault(kind, {}), _size_of(voxels)
            if size in peaks and peak_mib <= peaks[size] * _NEWS:
                return
            peaks[size] = round(peak_mib, 1)
            if self._path is not None:
                _write(self._path, self._peaks)


def _size_of(voxels: int) -> int:
    """The step of a size, rounded up, so that a figure holds for all that is smaller."""
    return math.ceil(_STEPS_PER_OCTAVE * math.log2(max(voxels, 1)))


def _from_sizes(peaks: dict[int, float], size: int) -> float:
    """The figure of this size or the next larger one, and no less than that of a smaller one.

    Beyond all that was measured it grows with the input, as if nothing in it were fixed.
    """
    larger = [one for one in sorted(peaks) if one >= size]
    upto = larger[0] if larger else size
    most = max(peak for one, peak in peaks.items() if one <= upto)
    if larger:
        return most
    return float(most * 2.0 ** ((size - max(peaks)) / _STEPS_PER_OCTAVE))


def _read(path: Path) -> _Peaks:
    try:
        document = json.loads(path.read_bytes())
        if document["version"] != 1:
            return {}
        return {
            str(card): {str(kind): _sizes(peaks) for kind, peaks in by_kind.items()}
            for card, by_kind in document["cards"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Nothing there, or damaged: models are measured again.
        return {}


def _sizes(document: Any) -> dict[int, float]:
    peaks = {int(size): float(peak) for size, peak in document.items()}
    if not peaks or not all(
        math.isfinite(peak) and peak >= 0 and 0 <= size < 200 for size, peak in peaks.items()
    ):
        raise ValueError
    return peaks


def _write(path: Path, peaks: _Peaks) -> None:
    content = json.dumps({"version": 1, "cards": peaks}, indent=1).encode()
    try:
        write_durably(str(path), lambda file: file.write(content))
        sync_directory(str(path.parent))
    except OSError as error:
        raise storage_error(error) from error
