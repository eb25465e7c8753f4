"""The inputs that a model was tried on, as rows of features, and how far others are from them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ai_models.types import FloatArray, ModelError

LEAST_ROWS = 5
_LARGEST_BYTES = 1 << 28
_NEAREST = 3
_Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Rows of features ``(inputs, features)``, float64, in units of their own spread.

    ``center`` and ``scale`` are those of each feature; ``farthest`` is the largest distance of a
    row from the others (mean of its `_NEAREST` nearest).
    """

    rows: _Rows
    center: _Rows
    scale: _Rows
    farthest: float

    def ratio(self, features: tuple[float, ...]) -> float:
        """How far an input is from its nearest rows, in units of `farthest`.

        Raises
        ------
        ModelError
            ``model.monitor``: it has another number of features than the reference.
        """
        if len(features) != self.rows.shape[1]:
            raise ModelError(
                f"{len(features)} features, the reference of the card's monitor has "
                f"{self.rows.shape[1]}: it is of another layer", reason=_REASON,
            )
        own = (np.asarray(features, dtype=np.float64) - self.center) / self.scale
        distances = np.sort(np.linalg.norm(self.rows - own, axis=1))
        return float(distances[:_NEAREST].mean() / self.farthest)


def reference_of(rows: FloatArray) -> Reference:
    """A reference of features ``(inputs, features)``, as many inputs as `LEAST_ROWS` or more.

    Raises
    ------
    ModelError
        ``model.monitor``: too few rows, or values that are not finite.
    """
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or len(values) < LEAST_ROWS or not values.shape[1]:
        raise ModelError(
            f"a reference of shape {values.shape}: {LEAST_ROWS} rows of features at least",
            reason=_REASON,
        )
    if not np.isfinite(values).all():
        raise ModelError("a reference holds values that are not finite", reason=_REASON)
    center, spread = values.mean(axis=0), values.std(axis=0)
    # What hardly varied must not count without bounds as soon as it does.
    scale = np.maximum(spread, max(0.05 * float(np.median(spread)), 1e-9))
    standard = (values - center) / scale
    distances = np.linalg.norm(standard[:, None] - standard[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, :_NEAREST].mean(axis=1)
    return Reference(standard, center, scale, max(float(nearest.max()), 1e-9))


def read_rows(path: Path, sha256: str, of: str = "monitor") -> FloatArray:
    """The rows of a reference file, compared with its SHA-256; never pickled.

    ``of`` is the key of the card that names it.

    Raises
    ------
    ModelError
        ``model.weights_missing``, ``model.hash_mismatch``, or ``model.monitor``: no such array.
    """
    try:
        if not path.is_file():
            raise ModelError(
                f"no plain file of features at {path}", reason="model.weights_missing"
            )
        if path.stat().st_size > _LARGEST_BYTES:
            raise ModelError(f"{path} is larger than {_LARGEST_BYTES} bytes", reason=_REASON)
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", reason="model.weights_missing"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path} has SHA-256 {found}, the card's {of} says {sha256}",
            reason="model.hash_mismatch",
        )
    try:
        rows = np.load(io.BytesIO(content), allow_pickle=False)
    # A header may ask for terabytes that do not follow.
    except (ValueError, EOFError, MemoryError, OverflowError) as error:
        raise ModelError(f"{path} is no array: {error}", reason=_REASON) from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype != np.float32:
        raise ModelError(f"{path} holds no rows of float32", reason=_REASON)
    return rows


def write_rows(path: Path, rows: FloatArray) -> str:
    """Write a reference file; its SHA-256, for ``monitor.sha256`` of the card."""
    content = io.BytesIO()
    np.save(content, np.asarray(rows, dtype=np.float32), allow_pickle=False)
    path.write_bytes(content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


_REASON = "model.monitor"
