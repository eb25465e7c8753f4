"""What goes into a model and what comes out: arrays with their place in the patient.

Arrays are ``(slices, rows, columns)``. ``affine_lps`` maps the homogeneous index
``(slice, row, column, 1)`` to millimetres in the DICOM patient frame (LPS: x to the patient's
Left, y to Posterior, z to Superior; PS3.3 C.7.6.2.1.1). Pure numpy: no torch, no pydicom.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]
LabelMap = npt.NDArray[np.unsignedinteger[Any]]
"""``(slices, rows, columns)``: which labels hold in each voxel.

uint8: one at most, 0 background, otherwise `Label.value`. uint64: any number, bit ``value - 1`` is
set where label ``value`` (1 to 64) holds. `ai_models.array.labels` reads both.
"""


_UNWRITABLE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
_LONGEST_MESSAGE = 2000


def writable(text: str, at_most: int = _LONGEST_MESSAGE) -> str:
    """Text that a database, a log and a report can hold, whoever wrote it.

    Control characters, and what stands for bytes that are no text (in the names of files), become
    question marks; what is longer is cut in its middle.
    """
    text = _UNWRITABLE.sub("?", text)
    if len(text) <= at_most:
        return text
    half = at_most // 2
    return f"{text[:half]} [...] {text[-half:]}"


class ModelError(Exception):
    """A model or its card cannot do what was asked; ``reason`` is a stable code.

    The message may quote files, libraries and other hosts: it is made `writable`.
    """

    def __init__(self, message: str, *, reason: str = "model.failed") -> None:
        super().__init__(writable(message))
        self.reason = reason


class CardError(ModelError):
    """A model card is wrong: the message names file, line, key path and what was expected."""

    def __init__(
        self, message: str, *, key_path: str = "", line: int | None = None, file: str = ""
    ) -> None:
        where = ":".join(part for part in (file, str(line) if line else "") if part)
        super().__init__(
            ": ".join(part for part in (where, key_path, message) if part), reason="card.invalid"
        )
        self.key_path = key_path
        self.line = line
        self.file = file


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme designator, meaning (PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Volume:
    """Scalar volume in the patient.

    Attributes
    ----------
    array
        ``(slices, rows, columns)``, float32 or int16, in ``unit`` (HU for CT).
    affine_lps
        4x4 float64, index (slice, row, column) to mm in LPS.
    unit
        ``"HU"`` for CT; ``"SUVbw"`` (g/ml) for PET that is asked for so; ``"arbitrary"`` otherwise.
    """

    array: npt.NDArray[np.generic]
    affine_lps: Affine
    unit: str = "HU"

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length of one index step along (slice, row, column), in mm."""
        lengths = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))

    @property
    def tilt_deg(self) -> float:
        """Largest angle between an axis of the grid and the LPS axis next to it, in degrees."""
        along = np.abs(self.affine_lps[:3, :3])
        nearest = along.max(axis=0)
        # What is left of each column: an arc cosine would be coarse near 0.
        aside = np.sqrt(np.maximum((along**2).sum(axis=0) - nearest**2, 0.0))
        return float(np.degrees(np.arctan2(aside, nearest)).max())

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres (also right for sheared grids)."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3]))) / 1000.0


@dataclass(frozen=True)
class Image:
    """One projection image (CR, DX, MG): ``array`` is (rows, columns) float32, displayed values
    in [0, 1], white high. ``pixel_spacing_mm`` is (row, column) or ``None`` when unknown.
    ``clinical`` is as in `JointInput`."""

    array: FloatArray
    pixel_spacing_mm: tuple[float, float] | None
    clinical: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class JointInput:
    """Several volumes of one patient that a model takes together.

    Attributes
    ----------
    reference
        The answer is on its grid; of a series in several phases the first of them.
    phases
        All phases of that series in order of time, the reference first, on one grid; empty where
        the card asks for none.
    times_s
        Of each phase, seconds since the first; empty where the headers do not say.
    companions
        By the role that the card names; ``None``: there is none. Each on its own grid.
    clinical
        By the name that the card gives it; ``None``: not known.
    """

    reference: Volume
    phases: tuple[Volume, ...] = ()
    times_s: tuple[float, ...] = ()
    companions: Mapping[str, Volume | None] = field(default_factory=dict)
    clinical: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def array(self) -> npt.NDArray[np.generic]:
        """Of the reference, on whose grid the answer is."""
        return self.reference.array

    @property
    def affine_lps(self) -> Affine:
        """Of the reference."""
        return self.reference.affine_lps

    @property
    def unit(self) -> str:
        """Of the reference."""
        return self.reference.unit


ModelInput = Volume | Image | JointInput


def reference_of(source: ModelInput) -> Volume | Image:
    """On whose grid the answer to an input is: of what is taken together the reference."""
    return source.reference if isinstance(source, JointInput) else source


@dataclass(frozen=True)
class Label:
    """One output label of a segmentation model.

    ``value`` is its number in the label map (from 1). ``category`` and ``type`` are the
    Segmented Property Category and Type codes (PS3.3 C.8.20.2); ``laterality`` is an optional
    SNOMED CT qualifier (right 24028007, left 7771000); ``color_rgb`` is 0..255.
    """

    value: int
    name: str
    category: Code
    type: Code
    color_rgb: tuple[int, int, int]
    laterality: Code | None = None
    anatomic_region: Code | None = None


@dataclass(frozen=True)
class Algorithm:
    """Who computed a result: copied into every object (PS3.16 TID 4019)."""

    model_id: str
    name: str
    version: str
    manufacturer: str
    weights_sha256: str
    family: Code
    demonstration: bool
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentationPrediction:
    """A label map on the grid of the input volume (of a radiograph: with one slice).

    ``seconds_by_stage`` and ``notes`` (precision, device, fall-backs taken) go into the report.
    ``probabilities`` maps label values to float32 0..1 on the same grid, where the card asks
    for them.
    """

    label_map: LabelMap
    labels: tuple[Label, ...]
    algorithm: Algorithm
    seconds_by_stage: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    probabilities: dict[int, FloatArray] = field(default_factory=dict)
    features: tuple[float, ...] = ()


@dataclass(frozen=True)
class ClassificationPrediction:
    """Scores of a whole image, series or study: output name to probability, 0..1.

    ``saliency`` maps output names to float32 0..1 on the grid of the input: (rows, columns) of
    an image, (slices, rows, columns) of a volume. ``saliency_method`` is the card's word for how
    it was computed: ``grad_cam``, ``grad_cam_pp`` or ``occlusion``. ``by_slice`` maps output
    names to one probability per slice of the input, where the model answers slice by slice.
    ``undetermined`` maps the names of scores that are not told to the roles of the series without
    which they say too little; such a name is in none of the others.
    """

    scores: dict[str, float]
    algorithm: Algorithm
    saliency: dict[str, FloatArray] = field(default_factory=dict)
    seconds_by_stage: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    saliency_method: str = ""
    by_slice: dict[str, FloatArray] = field(default_factory=dict)
    features: tuple[float, ...] = ()
    undetermined: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RegressionPrediction:
    """Numbers of a whole image, series or study: output name to value in the template's unit."""

    values: dict[str, float]
    algorithm: Algorithm
    seconds_by_stage: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    features: tuple[float, ...] = ()


@dataclass(frozen=True)
class Detection:
    """One thing that a detector found, as a box in the patient.

    ``box_lps`` is 4x4 and maps the unit cube ``(0..1, 0..1, 0..1, 1)`` to mm in LPS, so that a box
    keeps its edges in whatever direction the model's grid lies. ``label_value`` is the
    `Label.value` of its class, ``score`` 0..1.
    """

    label_value: int
    score: float
    box_lps: Affine

    @property
    def center_lps_mm(self) -> tuple[float, float, float]:
        """Centre of the box."""
        x, y, z, _ = self.box_lps @ np.array([0.5, 0.5, 0.5, 1.0])
        return (float(x), float(y), float(z))

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Lengths of the box's edges, in the order of the model's axes."""
        lengths = np.linalg.norm(self.box_lps[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))


@dataclass(frozen=True)
class DetectionPrediction:
    """Boxes in the patient, the highest score first; ``labels`` are the classes there are."""

    detections: tuple[Detection, ...]
    labels: tuple[Label, ...]
    algorithm: Algorithm
    seconds_by_stage: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    features: tuple[float, ...] = ()


@dataclass(frozen=True)
class TextPrediction:
    """Sentences of a language model on the images of a series, in ``language`` (ISO 639-1)."""

    text: str
    algorithm: Algorithm
    language: str = "en"
    seconds_by_stage: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Prediction = (
    SegmentationPrediction
    | ClassificationPrediction
    | RegressionPrediction
    | DetectionPrediction
    | TextPrediction
)
