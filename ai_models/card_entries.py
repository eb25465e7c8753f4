"""The parts of a model card, from one place: input, outputs by task, runtime, provenance.

What fits together is checked in `ai_models.card_contradictions`.
"""

from __future__ import annotations

from ai_models.card_base import CodeEntry, Entry
from ai_models.card_input import (
    ChannelEntry,
    Foreground,
    InputEntry,
    Intensity,
    MeanAndDeviation,
    Search,
    Size,
)
from ai_models.card_outputs import (
    Calibration,
    ClassificationOutput,
    DetectionOutput,
    LabelEntry,
    OutputEntry,
    Postprocessing,
    QuantityEntry,
    RegressionOutput,
    ScoreEntry,
    SegmentationOutput,
    TextOutput,
)
from ai_models.card_provenance import Evidence, Explanation, Member, Metric, Trust, Weights
from ai_models.card_quality import Likeness, Quality
from ai_models.card_runtime import (
    BundleOptions,
    CommandOptions,
    EndpointOptions,
    Network,
    NnunetOptions,
    Runtime,
)

__all__ = [
    "BundleOptions",
    "Calibration",
    "ChannelEntry",
    "ClassificationOutput",
    "CodeEntry",
    "CommandOptions",
    "DetectionOutput",
    "EndpointOptions",
    "Entry",
    "Evidence",
    "Explanation",
    "Foreground",
    "InputEntry",
    "Intensity",
    "LabelEntry",
    "Likeness",
    "MeanAndDeviation",
    "Member",
    "Metric",
    "Network",
    "NnunetOptions",
    "OutputEntry",
    "Postprocessing",
    "Quality",
    "QuantityEntry",
    "RegressionOutput",
    "Runtime",
    "ScoreEntry",
    "Search",
    "SegmentationOutput",
    "Size",
    "TextOutput",
    "Trust",
    "Weights",
]
