"""The parts of a model card: input, outputs by task, weights, runtime, evidence, trust.

What fits together is checked in `ai_models.card_contradictions`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ai_models.types import Code, Label

Text = Annotated[str, Field(min_length=1, max_length=4000)]
LongName = Annotated[str, Field(min_length=1, max_length=64)]
ShortName = Annotated[str, Field(min_length=1, max_length=16)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=0, le=255)]
Count = Annotated[int, Field(ge=1)]
Channel = Annotated[int, Field(ge=0, le=4095)]
Edge = Annotated[int, Field(ge=1, le=1024)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Direction = Literal["L", "R", "P", "A", "S", "I"]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Backend = Literal[
    "onnx", "torchscript", "state_dict", "torch_export", "monai_bundle", "nnunet", "huggingface",
    "command", "open_inference", "openai",
]
Fallback = Literal["batch", "offload", "roi", "half", "cpu"]


class Entry(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeEntry(Entry):
    """A coded concept (PS3.3 section 8.8: value SH, scheme SH, meaning LO)."""

    value: ShortName
    scheme: ShortName
    meaning: LongName

    def code(self) -> Code:
        """As the plain type that results are built from."""
        return Code(self.value, self.scheme, self.meaning)


class LabelEntry(Entry):
    """One label: ``value`` is its output channel (softmax: channel 0 is the background).

    ``threshold`` is the probability from which a label of a sigmoid output holds.
    """

    value: Annotated[int, Field(ge=1, le=255)]
    name: LongName
    category: CodeEntry
    type: CodeEntry
    laterality: CodeEntry | None = None
    anatomic_region: CodeEntry | None = None
    color_rgb: tuple[Byte, Byte, Byte]
    threshold: Fraction = 0.5

    def label(self) -> Label:
        """As the plain type that results are built from."""
        return Label(
            self.value, self.name, self.category.code(), self.type.code(), self.color_rgb,
            self.laterality.code() if self.laterality else None,
            self.anatomic_region.code() if self.anatomic_region else None,
        )


class Intensity(Entry):
    """Values are clipped, and mapped linearly to ``scale_to``; then `InputEntry.normalisation`.

    ``clip`` is in ``unit``; ``clip_percentiles`` (0 to 100) are taken of each volume instead.
    Without either, values stay as they are, and ``scale_to`` maps the lowest and the highest.
    ``displayed`` is the unit of a radiograph: 0 to 1, white high.
    """

    unit: Literal["HU", "arbitrary", "displayed"]
    clip: tuple[Finite, Finite] | None = None
    clip_percentiles: tuple[Finite, Finite] | None = None
    scale_to: tuple[Finite, Finite] | None = None


class MeanAndDeviation(Entry):
    """A mean and a standard deviation for each channel: ``(value - mean) / std``."""

    mean: Annotated[list[Finite], Field(min_length=1, max_length=16)]
    std: Annotated[list[Positive], Field(min_length=1, max_length=16)]


Normalisation = Literal["none", "zscore", "zscore_nonzero", "imagenet"] | MeanAndDeviation


class ChannelEntry(Entry):
    """One channel of the input: the same series in a window of its own."""

    name: LongName
    intensity: Intensity


class Foreground(Entry):
    """Inference looks only at what lies above ``above`` (unit of the input), plus a margin."""

    above: Finite
    margin_mm: Annotated[float, Field(ge=0, le=200)] = 20.0


class Size(Entry):
    """The whole input in one piece: ``edges`` follow ``input.axes`` (an image: rows, columns).

    ``fit``: ``stretch`` each edge; ``pad`` after the longest edge was fitted, the rest with the
    lowest value; ``crop`` or pad about the middle at ``spacing_mm``, no scaling.
    """

    edges: Annotated[list[Edge], Field(min_length=2, max_length=3)]
    fit: Literal["stretch", "pad", "crop"] = "pad"


class InputEntry(Entry):
    """What the model takes.

    ``kind`` is a ``volume`` (a series of CT, MR, PET) or an ``image`` (one CR, DX or MG).
    ``ndim`` is what the network takes: of a volume, 2 means slice by slice.
    ``axes`` are the patient directions (LPS letters) in which the array axes of the network's
    input grow: ``[S, P, L]`` is slices to Superior, rows to Posterior, columns to Left.
    ``spacing_mm`` follows these axes. ``body_part`` is for people and rules only. ``views``
    are the View Positions (0018,5101) of images that it takes, all when empty. ``repeat`` gives one
    channel so many times, for networks made for colour.
    """

    kind: Literal["volume", "image"] = "volume"
    modality: Annotated[list[ShortName], Field(min_length=1)]
    body_part: list[ShortName] = []
    views: list[ShortName] = []
    ndim: Literal[2, 3] = 3
    min_slices: Count = 1
    max_slices: Count | None = None
    max_slice_gap_mm: Positive | None = None
    max_slice_thickness_mm: Positive | None = None
    phases: Literal[1] = 1
    axes: tuple[Direction, Direction, Direction] = ("S", "P", "L")
    spacing_mm: tuple[Positive, Positive, Positive] | None = None
    size: Size | None = None
    intensity: Intensity
    channels: Annotated[list[ChannelEntry], Field(max_length=16)] = []
    repeat: Annotated[int, Field(ge=1, le=16)] = 1
    normalisation: Normalisation = "none"
    foreground: Foreground | None = None


class Postprocessing(Entry):
    """What happens to every label: applied in the order holes, component, volume."""

    fill_holes: bool = False
    largest_component: bool = False
    min_volume_ml: Annotated[float, Field(ge=0, le=10000)] = 0.0


class OutputEntry(Entry):
    """What every task has: averaging over mirrored inputs.

    ``mirror`` lists array axes of the network's input (0 the first spatial one); the answers to
    every combination are averaged (test-time augmentation).
    """

    mirror: Annotated[list[Literal[0, 1, 2]], Field(max_length=3)] = []


class SegmentationOutput(OutputEntry):
    """Labels of voxels.

    ``activation``: ``softmax`` has channel 0 for the background, ``sigmoid`` has one channel for
    each label; ``none``: the network answers such probabilities itself. ``overlapping`` labels of
    a sigmoid output may share voxels. ``ignored`` are channels that are answered and not
    reported. ``probabilities`` asks for the score of every label beside the label map.
    """

    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    overlapping: bool = False
    probabilities: bool = False
    ignored: Annotated[list[Channel], Field(max_length=255)] = []
    labels: Annotated[list[LabelEntry], Field(min_length=1, max_length=255)]
    postprocessing: Postprocessing = Postprocessing()


class Calibration(Entry):
    """Of logits before the activation: ``(logit - bias) / temperature``; both measured, not set."""

    temperature: Positive = 1.0
    bias: Finite = 0.0


class ScoreEntry(Entry):
    """One score: ``name`` as the report template has it, ``channel`` of the network's output."""

    name: Identifier
    channel: Channel
    calibration: Calibration = Calibration()


class ClassificationOutput(OutputEntry):
    """Probabilities of a whole image or series.

    ``per: slice`` runs the network on each slice (``input.ndim: 2``) and ``aggregate`` makes the
    series' score of them. ``channels`` is how many outputs the network has.
    """

    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    per: Literal["image", "slice", "study"] = "image"
    aggregate: Literal["max", "mean", "noisy_or"] = "max"
    channels: Annotated[int, Field(ge=1, le=4096)]
    scores: Annotated[list[ScoreEntry], Field(min_length=1, max_length=255)]


class QuantityEntry(Entry):
    """One number: ``value = output * factor + offset`` in ``unit`` (UCUM), as the template has it.

    Outside of ``minimum`` and ``maximum`` an answer is refused, never clipped.
    """

    name: Identifier
    channel: Channel = 0
    unit: ShortName
    factor: Finite = 1.0
    offset: Finite = 0.0
    minimum: Finite
    maximum: Finite


class RegressionOutput(OutputEntry):
    """Numbers of a whole image or series, by name."""

    channels: Annotated[int, Field(ge=1, le=4096)] = 1
    quantities: Annotated[list[QuantityEntry], Field(min_length=1, max_length=255)]


class DetectionOutput(OutputEntry):
    """Boxes of things found.

    The network answers boxes ``(n, 6)`` along the axes of its input in voxels: two ``corners``, or
    ``center_size``. A box below ``min_score`` is dropped, and so is one that overlaps a better
    one by more than ``max_overlap`` (intersection over union). ``mask`` is the shape by which
    Segmentation shows a box. More than ``max_findings`` is refused: such an answer is noise.
    """

    box_format: Literal["corners", "center_size"] = "corners"
    min_score: Fraction = 0.5
    max_overlap: Fraction = 0.22
    max_findings: Annotated[int, Field(ge=1, le=64)] = 64
    mask: Literal["ellipsoid", "box"] = "ellipsoid"
    first_label: Literal[0, 1] = 0
    labels: Annotated[list[LabelEntry], Field(min_length=1, max_length=255)]


class TextOutput(OutputEntry):
    """Sentences. ``prompt`` is all that the model is told besides the images."""

    prompt: Text
    system_prompt: Text | None = None
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 512
    max_images: Annotated[int, Field(ge=1, le=64)] = 1
    language: Literal["en", "de", "fr", "zh"] = "en"


class Member(Entry):
    """One more weights file of an ensemble (a fold): its scores are averaged with the others'."""

    path: Text
    sha256: Digest


class Weights(Entry):
    """The weights beside the card; nothing is loaded whose SHA-256 differs.

    ``path`` is a file, or a folder whose digest `ai_models.weights.folder_sha256` says; absent
    where another host serves the model: ``sha256`` is then what that host's people state, and
    the node says that it did not check it.
    """

    path: Text | None = None
    sha256: Digest | None = None
    licence: Annotated[str, Field(max_length=64)]
    source: Text
    ensemble: Annotated[list[Member], Field(max_length=15)] = []


class Network(Entry):
    """A named architecture and its arguments, for a ``state_dict``."""

    name: LongName
    arguments: dict[str, Any] = {}


class BundleOptions(Entry):
    """Which configuration of a MONAI bundle is read, and what in it is what."""

    config: Text = "configs/inference.json"
    network: LongName = "network_def"
    preprocessing: LongName = "preprocessing"
    inferer: LongName = "inferer"
    postprocessing: LongName = "postprocessing"
    weights: Text = "models/model.pt"


class NnunetOptions(Entry):
    """Which trained folds are averaged, and from which checkpoint."""

    folds: Annotated[list[Annotated[int, Field(ge=0, le=9)] | Literal["all"]], Field(min_length=1)]
    checkpoint: Text = "checkpoint_final.pth"
    step: Annotated[float, Field(gt=0, le=1)] = 0.5


class CommandOptions(Entry):
    """A program with a file contract, in an environment of its own: docs/models.md says how.

    Of ``run`` the words ``{input}``, ``{output}``, ``{device}`` and ``{folder}`` (of the card) are
    replaced; no shell reads it. ``environment`` adds variables.
    """

    run: Annotated[list[Text], Field(min_length=1, max_length=64)]
    environment: dict[LongName, Text] = {}


class EndpointOptions(Entry):
    """A model that another host serves; ``name`` is a key of ``models.endpoints`` of the node."""

    name: LongName
    model: LongName
    version: Annotated[str, Field(max_length=64)] = ""
    input: LongName = "input"
    outputs: Annotated[list[LongName], Field(min_length=1, max_length=8)] = ["output"]
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: int = 0


class Runtime(Entry):
    """How to run it. ``roi`` follows ``input.axes``, in voxels of ``input.spacing_mm``.

    ``fallbacks`` are what may be tried, in this order, when memory does not suffice: ``batch`` and
    ``offload`` (the sum is gathered in the host's memory) and ``cpu`` change nothing but time;
    ``roi`` halves the window, and ``half`` computes in 16 bits: they change the numbers a little
    and every result says so. ``compile`` and ``tensorrt`` cost minutes at load.
    """

    backend: Backend
    network: Network | None = None
    bundle: BundleOptions | None = None
    nnunet: NnunetOptions | None = None
    command: CommandOptions | None = None
    endpoint: EndpointOptions | None = None
    roi: Annotated[list[Edge], Field(min_length=2, max_length=3)] | None = None
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    batch: Annotated[int, Field(ge=1, le=64)] = 1
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    tensorrt: bool = False
    fallbacks: list[Fallback] = ["batch", "offload", "cpu"]
    deadline_s: Positive = 1800.0
    device_memory_mib: Count | None = None


class Explanation(Entry):
    """What a classification looked at: a map for each score that is at least ``from_score``.

    ``layer`` is a module of the network, chosen by the size of its map when absent.
    """

    method: Literal["grad_cam", "grad_cam_pp", "occlusion"]
    layer: LongName | None = None
    scores: list[Identifier] = []
    from_score: Fraction = 0.5


class Metric(Entry):
    """One measured figure: ``dice 0.97 on 12 held-out series``."""

    name: LongName
    value: Finite
    measured_on: Text


class Evidence(Entry):
    """What was measured, on what. Nothing measured is said as such, never left to be guessed."""

    validated_on: Text
    metrics: list[Metric] = []


class Trust(Entry):
    """What the model needs beyond data; a site allows it by naming the folder as trusted.

    ``remote_code``: Python beside the weights; ``config_exec``: expressions in a bundle's
    configuration; ``pickle``: weights that only Python's pickle reads; ``program``: a command.
    ``network`` is never allowed: what a model needs is there before it is loaded.
    """

    remote_code: bool = False
    config_exec: bool = False
    pickle: bool = False
    program: bool = False
    network: Literal[False] = False
