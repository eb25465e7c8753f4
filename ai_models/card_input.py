"""What a model takes: the series, its grid, and the values that the network sees."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ai_models.card_base import (
    Count,
    Edge,
    Entry,
    Finite,
    Identifier,
    LongName,
    Positive,
    ShortName,
)
from ai_models.card_crop import Crop
from ai_models.card_quality import Quality

Direction = Literal["L", "R", "P", "A", "S", "I"]


class Intensity(Entry):
    """Values are clipped and mapped linearly to ``scale_to``; then `InputEntry.normalisation`.

    Without ``clip`` and ``clip_percentiles`` nothing is clipped, and ``scale_to`` maps the lowest
    and the highest value of each input.
    """

    unit: Literal["HU", "SUVbw", "arbitrary", "displayed"]
    """Of the input: ``HU`` of a CT, ``SUVbw`` (g/ml) of a PET, ``displayed`` (0 to 1, white high)
    of an image, otherwise ``arbitrary``."""
    clip: tuple[Finite, Finite] | None = None
    """Lowest and highest value, in ``unit``."""
    clip_percentiles: tuple[Finite, Finite] | None = None
    """The same as percentiles (0 to 100) of each input."""
    scale_to: tuple[Finite, Finite] | None = None
    """What the lowest and the highest value become."""


class MeanAndDeviation(Entry):
    """A mean and a standard deviation for each channel: ``(value - mean) / std``."""

    mean: Annotated[list[Finite], Field(min_length=1, max_length=16)]
    """One for all channels, or one for each."""
    std: Annotated[list[Positive], Field(min_length=1, max_length=16)]
    """As many as there are means."""


Normalisation = Literal["none", "zscore", "zscore_nonzero", "imagenet"] | MeanAndDeviation


class ChannelEntry(Entry):
    """One channel of the input: the same series in a window of its own."""

    name: LongName
    """As people call it: ``bone window``."""
    intensity: Intensity
    """As ``input.intensity``, of this channel."""


class Foreground(Entry):
    """Inference looks only at the largest part that lies above a value, plus a margin."""

    above: Finite
    """In the unit of the input: -500 finds a body in a CT."""
    margin_mm: Annotated[float, Field(ge=0, le=200)] = 20.0
    """Around that part, on every side."""
    min_volume_ml: Annotated[float, Field(ge=0, le=10000)] = 0.0
    """An input whose part is smaller is refused, ``input.no_foreground``: nothing is in it that the
    model could know. Of a volume."""


class Search(Entry):
    """Findings count in one part of the body only, which a rule without learning outlines."""

    region: Literal["lungs"] = "lungs"
    """``lungs``: of a CT in HU, airless parts of them only where they are small."""
    margin_mm: Annotated[float, Field(ge=0, le=50)] = 5.0
    """A finding that comes as near counts too."""
    min_volume_ml: Annotated[float, Field(gt=0, le=10000)] = 100.0
    """An input that shows less of the region is refused, ``input.nothing_to_search``: a report
    without findings would say nothing."""


class Size(Entry):
    """The whole input in one piece, of the size that the network takes."""

    edges: Annotated[list[Edge], Field(min_length=2, max_length=3)]
    """In the order of ``input.axes``; rows and columns of an image, where ``ndim`` is 2, and where
    ``output.per`` is ``sequence``: then all slices are taken."""
    fit: Literal["stretch", "pad", "crop"] = "pad"
    """``stretch`` each edge; ``pad`` the rest with the lowest value after the longest edge was
    fitted, of an image whose pixels are not square in the patient's proportions; ``crop`` or pad
    about the middle at ``spacing_mm``, nothing scaled."""


def _axes_of_kind(values: dict[str, Any]) -> Literal[2, 3]:
    return 2 if values.get("kind") == "image" else 3


class Phases(Entry):
    """A series that shows the same place at several times, such as one with contrast medium."""

    min: Count = 2
    """A series of fewer phases is refused."""
    max: Annotated[int, Field(ge=2, le=64)] = 16
    """A series of more phases is refused."""


class CompanionEntry(Entry):
    """One more series of the same patient, resampled to the grid of the first: one channel."""

    role: Identifier
    """Its name in the rule's ``inputs`` and in reports: ``pt``, ``t2``, ``flair``."""
    modality: Annotated[list[ShortName], Field(min_length=1)]
    """Modality (0008,0060), one of these."""
    required: bool = True
    """Whether there is no answer without it. Without one that is not required the channel holds
    ``absent``, and the report says so."""
    intensity: Intensity
    """As ``input.intensity``, of this series."""
    absent: Finite = 0.0
    """Value of the channel outside of the series, and where there is none."""


class ClinicalEntry(Entry):
    """One thing that the headers say of the patient: two channels, its value and 1 where known."""

    name: Identifier
    """As the report has it."""
    keyword: Literal["PatientAge", "PatientSex", "PatientWeight", "PatientSize", "SmokingStatus"]
    """Where it stands: years, ``values``, kg, m, ``values``."""
    values: dict[ShortName, Finite] = {}
    """Numbers for words, such as ``{F: -1, M: 1}``; another word is not known."""
    center: Finite = 0.0
    """Taken off before."""
    scale: Positive = 1.0
    """Divided by."""


class InputEntry(Entry):
    """What the model takes; what does not fit is refused before the model is run."""

    kind: Literal["volume", "image"] = "volume"
    """A ``volume`` is a series of CT, MR or PET, an ``image`` one radiograph (CR, DX, MG)."""
    modality: Annotated[list[ShortName], Field(min_length=1)]
    """Modality (0008,0060), one of these."""
    body_part: list[ShortName] = []
    """Body Part Examined (0018,0015) in the terms of PS3.16 Annex L, for people and for rules; what
    a series says is compared with it where there is ``quality``."""
    views: list[ShortName] = []
    """View Position (0018,5101) of images, else View Code Sequence (0054,0220), one of these; any
    when empty."""
    ndim: Annotated[Literal[2, 3], Field(default_factory=_axes_of_kind)]
    """Axes that the network takes: 3, or 2 of an image and where it is given a volume slice by
    slice. Without it 3 of a volume, 2 of an image."""
    min_slices: Count = 1
    """A volume of fewer slices is refused."""
    max_slices: Count | None = None
    """A volume of more slices is refused."""
    max_slice_gap_mm: Positive | None = None
    """A volume whose slices are farther apart is refused."""
    max_slice_thickness_mm: Positive | None = None
    """A volume of thicker slices, Slice Thickness (0018,0050), is refused."""
    max_tilt_deg: Annotated[float, Field(gt=0, le=45)] | None = None
    """A volume is refused, ``input.tilted``, where an axis of its grid lies farther from the
    nearest direction of the patient (left, posterior, superior); without it any may lie so."""
    role: Identifier = "image"
    """Name of this series where there are companions: ``ct``."""
    phases: Literal[1] | Phases = 1
    """Of a series in several phases how many there may be; each is a channel, in order of time. 1:
    the series shows one moment."""
    companions: Annotated[list[CompanionEntry], Field(max_length=8)] = []
    """Further series of the same patient, a channel each behind those of this one."""
    presence: bool = False
    """One more channel for each companion that is not required: 1 where it is there, else 0."""
    clinical: Annotated[list[ClinicalEntry], Field(max_length=16)] = []
    """What the headers say of the patient, behind all other channels."""
    axes: tuple[Direction, Direction, Direction] = ("S", "P", "L")
    """Directions of the patient (LPS letters) in which the axes of the network's input grow:
    ``[S, P, L]`` is slices to Superior, rows to Posterior, columns to Left. Of a volume."""
    spacing_mm: tuple[Positive, Positive, Positive] | None = None
    """Of the network's samples along ``axes``; without it those of the series. Of an image the
    last two count, rows and columns."""
    size: Size | None = None
    """The whole input in one piece; in windows it is ``runtime.roi``."""
    intensity: Intensity
    """Unit of the input, and what becomes of its values."""
    channels: Annotated[list[ChannelEntry], Field(max_length=16)] = []
    """The network's channels where it takes several windows of one series; ``input.intensity``
    then says the unit only."""
    repeat: Annotated[int, Field(ge=1, le=16)] = 1
    """The one channel so many times, for networks made for colour."""
    normalisation: Normalisation = "none"
    """After ``intensity``: ``zscore`` (mean 0 and deviation 1 of each input), ``zscore_nonzero``
    (the same of what is not 0), ``imagenet``, or a mean and a deviation of one's own."""
    foreground: Foreground | None = None
    """Look only at where something is."""
    quality: Quality | None = None
    """What is looked at before the model is run. Without it only what the other keys say is."""
    crop: Crop | None = None
    """Look only at the rectangle about what another model outlines first. Of an ``image``."""
    search: Search | None = None
    """Of what the model finds only that counts which lies in or at one part of the body; the
    report says so. Of ``task: segmentation`` and ``detection``."""

    @property
    def is_joint(self) -> bool:
        """Whether the network is given more than one series at one moment."""
        return bool(self.companions or self.clinical) or self.phases != 1

    @property
    def phase_counts(self) -> tuple[int, int]:
        """The fewest and the most phases; 1 and 1 of a series that shows one moment."""
        phases = self.phases
        return (phases.min, phases.max) if isinstance(phases, Phases) else (1, 1)

    @property
    def constant_channels(self) -> int:
        """How many channels hold one value: what is there, and what is known of the patient."""
        optional = sum(not one.required for one in self.companions)
        return optional * self.presence + 2 * len(self.clinical)

    @property
    def channel_counts(self) -> tuple[int, int]:
        """The fewest and the most channels that the network gets; they differ by the phases."""
        own = max(1, len(self.channels)) * self.repeat
        further = len(self.companions) + self.constant_channels
        least, most = self.phase_counts
        return own * least + further, own * most + further

    def channel_names(self, count: int) -> list[str]:
        """What each of ``count`` channels is, as people and programs are told; of one window none.

        Phases are numbered from 1; a clinical value is followed by whether it is known.
        """
        if not self.is_joint:
            return [channel.name for channel in self.channels]
        behind = [one.role for one in self.companions]
        if self.presence:
            behind += [f"{one.role} is there" for one in self.companions if not one.required]
        for one in self.clinical:
            behind += [one.name, f"{one.name} is known"]
        own = [channel.name for channel in self.channels] or [self.role] * self.repeat
        phases = count - len(behind)
        if self.phases != 1:
            own = [f"{self.role} {number}" for number in range(1, phases + 1)]
        return [*own, *behind]
