"""What the answers of a model mean, by its task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ai_models.card_base import (
    Byte,
    Channel,
    CodeEntry,
    Entry,
    Finite,
    Fraction,
    Identifier,
    LongName,
    Positive,
    ShortName,
    Text,
)
from ai_models.types import Label


class LabelEntry(Entry):
    """One label of a segmentation or detection."""

    value: Annotated[int, Field(ge=1, le=255)]
    """From 1 on without gaps. Of ``softmax`` the channel, of ``sigmoid`` the channel + 1, of a
    label map the number in it."""
    name: LongName
    """Segment Label (0062,0005), as people read it."""
    category: CodeEntry
    """Segmented Property Category (CID 7150): Anatomical Structure, Morphologically Abnormal
    Structure."""
    type: CodeEntry
    """Segmented Property Type: which structure or finding."""
    laterality: CodeEntry | None = None
    """Modifier of the type: Left, Right, Right and left."""
    anatomic_region: CodeEntry | None = None
    """Where a finding lies, if its type does not say so."""
    color_rgb: tuple[Byte, Byte, Byte]
    """Recommended display colour, 0 to 255 each; no two labels have the same."""
    threshold: Fraction = 0.5
    """Probability from which a label of a ``sigmoid`` output holds."""

    def label(self) -> Label:
        """As the plain type that results are built from."""
        return Label(
            self.value, self.name, self.category.code(), self.type.code(), self.color_rgb,
            self.laterality.code() if self.laterality else None,
            self.anatomic_region.code() if self.anatomic_region else None,
        )


class Postprocessing(Entry):
    """What happens to every label: applied in the order holes, component, volume."""

    fill_holes: bool = False
    """Background that one label encloses on all sides becomes that label."""
    largest_component: bool = False
    """Only the largest part of each label is kept."""
    min_volume_ml: Annotated[float, Field(ge=0, le=10000)] = 0.0
    """Smaller parts are dropped. Of a volume."""


class OutputEntry(Entry):
    """What every task has."""

    mirror: Annotated[list[Literal[0, 1, 2]], Field(max_length=3)] = []
    """Axes of the network's input (0 the first spatial one) along which it is mirrored; the
    answers to all combinations are averaged (test-time augmentation)."""


class SegmentationOutput(OutputEntry):
    """``task: segmentation``: labels of voxels."""

    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """``softmax`` has channel 0 for the background, ``sigmoid`` has one channel for each label;
    ``none``: the network answers probabilities itself, the background first."""
    overlapping: bool = False
    """Labels of a ``sigmoid`` output may share voxels; 64 labels at most."""
    probabilities: bool = False
    """Hand on the probability of every label beside the label map."""
    ignored: Annotated[list[Channel], Field(max_length=255)] = []
    """Channels that the network answers and nobody reports."""
    labels: Annotated[list[LabelEntry], Field(min_length=1, max_length=255)]
    """What is reported. Each name and each colour once."""
    postprocessing: Postprocessing = Postprocessing()
    """Holes, stray parts, small parts."""
    instances: bool = False
    """Each connected part of a label is a finding of its own, with its own segment, numbered by
    volume: nodules, lesions. Of a volume."""


class Calibration(Entry):
    """Of logits before the activation: ``(logit - bias) / temperature``; both measured, not set."""

    temperature: Positive = 1.0
    """Above 1 where the network is too sure of itself."""
    bias: Finite = 0.0
    """Taken off before."""


class ScoreEntry(Entry):
    """One score of a classification."""

    name: Identifier
    """As the report template has it: small letters, digits and ``_``."""
    channel: Channel
    """Of the network's output, from 0."""
    calibration: Calibration = Calibration()
    """Of a network that is run here and whose activation the card names."""
    needs: Annotated[list[Identifier], Field(max_length=16)] = []
    """Roles of ``input.companions`` without which this score says too little: where one is not
    there, the report calls it undetermined and tells no number."""


class ClassificationOutput(OutputEntry):
    """``task: classification``: probabilities of a whole image or series."""

    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """``none``: the network answers probabilities itself."""
    per: Literal["image", "slice", "sequence", "study"] = "image"
    """``slice`` runs the network on each slice (``input.ndim: 2``); the others take the whole
    input. ``sequence`` answers each of its slices, knowing the others."""
    aggregate: Literal["max", "mean", "noisy_or", "decisive"] = "max"
    """How the scores of slices become that of the series: the highest, the mean, or that at least
    one is true. ``decisive``: all are those of the slice where ``absence`` is lowest."""
    absence: Identifier | None = None
    """Of ``decisive`` the score that nothing is there: nearly every series has a slice without a
    tumour, so its highest score would say that there is none."""
    channels: Annotated[int, Field(ge=1, le=4096)]
    """How many outputs the network has, reported or not."""
    scores: Annotated[list[ScoreEntry], Field(min_length=1, max_length=255)]
    """What is reported. Each name and each channel once."""


class QuantityEntry(Entry):
    """One number of a regression: ``value = output * factor + offset``."""

    name: Identifier
    """As the report template has it: small letters, digits and ``_``."""
    channel: Channel = 0
    """Of the network's output, from 0."""
    unit: ShortName
    """In UCUM, as the report template has it: ``mo``, ``mm``, ``%``."""
    factor: Finite = 1.0
    """From the network's number to the unit."""
    offset: Finite = 0.0
    """Added after that, in the unit."""
    minimum: Finite
    """A lower answer is refused, never clipped."""
    maximum: Finite
    """A higher answer is refused, never clipped."""


class RegressionOutput(OutputEntry):
    """``task: regression``: numbers of a whole image or volume, by name."""

    channels: Annotated[int, Field(ge=1, le=4096)] = 1
    """How many outputs the network has, reported or not."""
    quantities: Annotated[list[QuantityEntry], Field(min_length=1, max_length=255)]
    """What is reported. Each name once."""


class DetectionOutput(OutputEntry):
    """``task: detection``: boxes of things found in a volume.

    The network answers boxes ``(n, 6)`` along the axes of its input in voxels.
    """

    box_format: Literal["corners", "center_size"] = "corners"
    """Two corners, or a centre and lengths of edges. Of a network that is run as it is."""
    min_score: Fraction = 0.5
    """A box with a lower score is dropped."""
    max_overlap: Fraction = 0.22
    """A box that overlaps a better one by more (intersection over union) is dropped."""
    max_findings: Annotated[int, Field(ge=1, le=64)] = 64
    """An answer with more boxes is refused: it is noise."""
    mask: Literal["ellipsoid", "box"] = "ellipsoid"
    """The shape by which a Segmentation shows a box."""
    first_label: Literal[0, 1] = 0
    """What the network calls the first label."""
    labels: Annotated[list[LabelEntry], Field(min_length=1, max_length=255)]
    """What there is to be found, in the order of the network's own numbers."""


class TextOutput(OutputEntry):
    """``task: text``: sentences, which every report calls a draft."""

    prompt: Text
    """All that the model is told besides the images; nothing about the patient is added."""
    system_prompt: Text | None = None
    """Told before, for models that know such a role."""
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 512
    """A text that ends here and not by itself is refused."""
    max_images: Annotated[int, Field(ge=1, le=64)] = 1
    """Of a volume, so many slices are shown, from the middle of equal parts."""
    language: Literal["en", "de", "fr", "zh"] = "en"
    """Of the sentences."""
