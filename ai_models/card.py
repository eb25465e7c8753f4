"""The model card: one ``model.yaml`` per model says everything the node must know about it.

A card is data, never code. It names the input the model was made for, what its numbers mean
(labels as SNOMED CT codes for the Segmented Property sequences of PS3.3 C.8.20.2), where the
weights lie with their SHA-256, and how to run them. Unknown keys and combinations that cannot
work are refused with ``file:line: key.path: what was expected``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ai_models.types import Algorithm, CardError, Code, Label
from ai_models.yaml_lines import read_yaml

CARD_NAME = "model.yaml"
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
AXIS_OF = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
NON_COMMERCIAL = re.compile(r"(?i)\bnc\b|non-?commercial|research[- ]only|\bnone\b|unlicensed")

Text = Annotated[str, Field(min_length=1, max_length=4000)]
LongName = Annotated[str, Field(min_length=1, max_length=64)]
ShortName = Annotated[str, Field(min_length=1, max_length=16)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=0, le=255)]
Edge = Annotated[int, Field(ge=1, le=1024)]
Direction = Literal["L", "R", "P", "A", "S", "I"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeEntry(_Entry):
    """A coded concept (PS3.3 section 8.8: value SH, scheme SH, meaning LO)."""

    value: ShortName
    scheme: ShortName
    meaning: LongName

    def code(self) -> Code:
        """As the plain type that results are built from."""
        return Code(self.value, self.scheme, self.meaning)


class LabelEntry(_Entry):
    """One label: ``value`` is its output channel (softmax: channel 0 is the background)."""

    value: Annotated[int, Field(ge=1, le=255)]
    name: LongName
    category: CodeEntry
    type: CodeEntry
    laterality: CodeEntry | None = None
    anatomic_region: CodeEntry | None = None
    color_rgb: tuple[Byte, Byte, Byte]

    def label(self) -> Label:
        """As the plain type that results are built from."""
        return Label(
            self.value, self.name, self.category.code(), self.type.code(), self.color_rgb,
            self.laterality.code() if self.laterality else None,
            self.anatomic_region.code() if self.anatomic_region else None,
        )


class Intensity(_Entry):
    """Values are clipped to ``clip`` (in ``unit``) and mapped linearly to ``scale_to``."""

    unit: Literal["HU", "arbitrary"]
    clip: tuple[Finite, Finite]
    scale_to: tuple[Finite, Finite]


class Foreground(_Entry):
    """Inference looks only at what lies above ``above`` (unit of the input), plus a margin."""

    above: Finite
    margin_mm: Annotated[float, Field(ge=0, le=200)] = 20.0


class InputEntry(_Entry):
    """What the model takes.

    ``axes`` are the patient directions (LPS letters) in which the array axes of the network's
    input grow: ``[S, P, L]`` is slices to Superior, rows to Posterior, columns to Left.
    ``spacing_mm`` follows these axes. ``body_part`` is for people and rules only.
    """

    modality: Annotated[list[ShortName], Field(min_length=1)]
    body_part: list[ShortName] = []
    ndim: Literal[3] = 3
    min_slices: Annotated[int, Field(ge=1)] = 1
    max_slice_gap_mm: Positive | None = None
    max_slice_thickness_mm: Positive | None = None
    axes: tuple[Direction, Direction, Direction] = ("S", "P", "L")
    spacing_mm: tuple[Positive, Positive, Positive]
    intensity: Intensity
    foreground: Foreground | None = None


class Postprocessing(_Entry):
    """What happens to every label: applied in the order holes, component, volume."""

    fill_holes: bool = False
    largest_component: bool = False
    min_volume_ml: Annotated[float, Field(ge=0, le=10000)] = 0.0


class OutputEntry(_Entry):
    """What the model answers: ``softmax`` with a background channel, or ``sigmoid`` without.

    ``probabilities`` asks for the score of every label beside the label map.
    """

    activation: Literal["softmax", "sigmoid"] = "softmax"
    probabilities: bool = False
    labels: Annotated[list[LabelEntry], Field(min_length=1, max_length=255)]
    postprocessing: Postprocessing = Postprocessing()


class Weights(_Entry):
    """The weights file beside the card; nothing is loaded whose SHA-256 differs."""

    path: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: LongName
    source: Text


class Network(_Entry):
    """A named architecture and its arguments, for a ``state_dict``."""

    name: LongName
    arguments: dict[str, Any] = {}


class Runtime(_Entry):
    """How to run it. ``roi`` follows ``input.axes``, in voxels of ``input.spacing_mm``."""

    backend: Literal["onnx", "torchscript", "state_dict"]
    network: Network | None = None
    roi: tuple[Edge, Edge, Edge]
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    batch: Annotated[int, Field(ge=1, le=64)] = 1
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    deadline_s: Positive = 1800.0
    device_memory_mib: Annotated[int, Field(ge=1)] | None = None


class Metric(_Entry):
    """One measured figure: ``dice 0.97 on 12 held-out series``."""

    name: LongName
    value: Finite
    measured_on: Text


class Evidence(_Entry):
    """What was measured, on what. Nothing measured is said as such, never left to be guessed."""

    validated_on: Text
    metrics: list[Metric] = []


class Trust(_Entry):
    """What a card may ask for. Everything that would run foreign code is refused."""

    remote_code: Literal[False] = False
    config_exec: Literal[False] = False
    pickle: Literal[False] = False
    network: Literal[False] = False


class Card(_Entry):
    """A model, as its ``model.yaml`` describes it."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")]
    name: LongName
    task: Literal["segmentation"]
    intended_use: Text
    not_for: list[Text] = []
    demonstration: bool
    manufacturer: LongName
    licence: LongName
    evidence: Evidence
    input: InputEntry
    output: OutputEntry
    weights: Weights
    runtime: Runtime
    report: LongName
    trust: Trust = Trust()

    _folder: Path = PrivateAttr(default=Path())
    _fingerprint: str = PrivateAttr(default="")

    @property
    def folder(self) -> Path:
        """Where the card lies."""
        return self._folder

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the card's own bytes: a changed card is another model to a warm worker."""
        return self._fingerprint

    @property
    def modality(self) -> tuple[str, ...]:
        """Modality (0008,0060) values the model was made for."""
        return tuple(self.input.modality)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels, by value."""
        return tuple(entry.label() for entry in self.output.labels)

    @property
    def weights_path(self) -> Path:
        """The weights file."""
        return self._folder / self.weights.path

    def algorithm(self, **parameters: str) -> Algorithm:
        """Who computed a result, for TID 4019 of every object built from it."""
        return Algorithm(
            self.id, self.name, self.version, self.manufacturer, self.weights.sha256,
            ARTIFICIAL_INTELLIGENCE, self.demonstration, parameters,
        )

    def why_refused(self, site_use: Literal["research", "clinical"]) -> str | None:
        """Why a site of this kind must not run the model; ``None`` when it may."""
        if site_use == "research":
            return None
        if self.demonstration:
            return f"{self.id} is a demonstration model, not for clinical use"
        for where, licence in (("code", self.licence), ("weights", self.weights.licence)):
            if NON_COMMERCIAL.search(licence):
                return f"{self.id}: the licence of its {where} ({licence}) is for research only"
        return None


def load_card(folder: Path) -> Card:
    """Read and check ``folder/model.yaml``; the weights are not opened.

    Raises
    ------
    CardError
        ``file:line: key.path: message`` of the first thing wrong.
    """
    path = folder / CARD_NAME
    values, lines = read_yaml(path)
    if not isinstance(values, dict):
        raise CardError("a card is a mapping of keys", file=str(path), line=1)
    try:
        card = Card.model_validate(values)
    except ValidationError as error:
        raise _card_error(error, lines, path) from error
    for key_path, message in _contradictions(card, folder):
        raise CardError(
            message, key_path=key_path, line=_line_of(key_path, lines), file=str(path)
        )
    card._folder = folder
    card._fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
    return card


def _card_error(error: ValidationError, lines: dict[str, int], path: Path) -> CardError:
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    key_path = ""
    for part in first["loc"]:
        key_path += f"[{part}]" if isinstance(part, int) else f".{part}" if key_path else part
    message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
    if first["type"] == "missing":
        message = "required and absent"
    elif key_path == "weights.sha256":
        message = "64 lower-case hexadecimal digits expected, as sha256sum prints them"
    elif first["type"] == "string_type":
        message = "text expected (a number in quotes is text)"
    if len(problems) > 1:
        message += f" (and {len(problems) - 1} more)"
    return CardError(message, key_path=key_path, line=_line_of(key_path, lines), file=str(path))


def _line_of(key_path: str, lines: dict[str, int]) -> int | None:
    while key_path and key_path not in lines:
        key_path = key_path[: max(key_path.rfind("."), key_path.rfind("["), 0)]
    return lines.get(key_path)


def _contradictions(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    if len({AXIS_OF[direction] for direction in card.input.axes}) != 3:
        yield "input.axes", "one of L or R, one of P or A and one of S or I, in any order"
    for key, (low, high) in (
        ("clip", card.input.intensity.clip), ("scale_to", card.input.intensity.scale_to),
    ):
        if low >= high:
            yield f"input.intensity.{key}", f"the lower bound {low} is not below {high}"
    yield from _label_contradictions(card)
    yield from _weights_contradictions(card, folder)


def _label_contradictions(card: Card) -> Iterator[tuple[str, str]]:
    entries = card.output.labels
    for position, entry in enumerate(entries):
        if entry.value != position + 1:
            yield (
                f"output.labels[{position}].value",
                f"values count 1, 2, 3 ... in order: {position + 1} expected, found {entry.value}",
            )
        for earlier in entries[:position]:
            if earlier.name == entry.name:
                yield f"output.labels[{position}].name", f"{entry.name!r} is already a label"
            if earlier.color_rgb == entry.color_rgb:
                yield f"output.labels[{position}].color_rgb", f"same colour as {earlier.name!r}"


def _weights_contradictions(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    path, runtime = Path(card.weights.path), card.runtime
    if path.is_absolute() or not (folder / path).resolve().is_relative_to(folder.resolve()):
        yield "weights.path", "must lie in the folder of the card"
    suffixes = {
        "onnx": (".onnx",), "torchscript": (".ts", ".pt"),
        "state_dict": (".pt", ".pth", ".safetensors"),
    }[runtime.backend]
    if path.suffix not in suffixes:
        yield "weights.path", f"a {runtime.backend} file ends in {' or '.join(suffixes)}"
    if runtime.backend == "state_dict" and runtime.network is None:
        yield "runtime.network", "a state_dict needs the architecture it belongs to"
    if runtime.backend != "state_dict" and runtime.network is not None:
        yield "runtime.network", f"a {runtime.backend} file brings its own architecture"
    if runtime.backend == "onnx" and runtime.precision != "fp32":
        yield "runtime.precision", "an ONNX file fixes its own precision: fp32 expected here"
