"""The model card: one ``model.yaml`` per model says everything the node must know about it.

A card is data, never code. It names the input the model was made for, what its numbers mean
(labels as SNOMED CT codes for the Segmented Property sequences of PS3.3 C.8.20.2), where the
weights lie with their SHA-256, and how to run them. Unknown keys and combinations that cannot
work are refused with ``file:line: key.path: what was expected``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, TypeAdapter, ValidationError

from ai_models.card_adaptation import Adaptation
from ai_models.card_base import Entry, Licence, LongName, Text
from ai_models.card_compression import Compression
from ai_models.card_contradictions import contradictions
from ai_models.card_entries import (
    ClassificationOutput,
    DetectionOutput,
    Evidence,
    Explanation,
    InputEntry,
    OutputEntry,
    RegressionOutput,
    Runtime,
    SegmentationOutput,
    TextOutput,
    Trust,
    Weights,
)
from ai_models.card_monitoring import Monitor
from ai_models.card_spelling import meant
from ai_models.types import Algorithm, CardError, Code, Label
from ai_models.yaml_lines import read_content, read_yaml

CARD_NAME = "model.yaml"
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
TASKS = ("segmentation", "classification", "regression", "detection", "text")


class Card(Entry):
    """A model, as its ``model.yaml`` describes it, whatever its task."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    """The name in rules and results: small letters, digits and ``-``."""
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")]
    """Of the model, in quotes where it looks like a number. Another one is another model: results
    name it, and versions are promoted and rolled back."""
    name: LongName
    """As people read it, in every result."""
    task: str
    """What it answers."""
    intended_use: Text
    """For what it was made, in a sentence that a physician understands."""
    not_for: tuple[Text, ...] = ()
    """What it must not be used for."""
    demonstration: bool
    """Whether it is only for show: every result says so, and a clinical site refuses it."""
    manufacturer: LongName
    """Who answers for it; Manufacturer of every result."""
    licence: Licence
    """Of the code, by its SPDX name if it has one. Empty where there is none: such a model is
    refused at a clinical site."""
    evidence: Evidence
    """What was measured, and on what."""
    input: InputEntry
    """What it takes."""
    output: OutputEntry
    """What its answers mean."""
    weights: Weights
    """Where they lie and what identifies them."""
    runtime: Runtime
    """How it is run."""
    report: LongName
    """A template of sr_templates, or one beside this card."""
    explanation: Explanation | None = None
    """What a classification looked at."""
    monitor: Monitor | None = None
    """What of its inputs is kept, so that a change of scanners is noticed."""
    adaptation: Adaptation | None = None
    """Of a version that was made from another one at a site."""
    compression: Compression | None = None
    """How far smaller versions may lie behind this one."""
    trust: Trust = Trust()
    """What it needs beyond data."""

    _folder: Path = PrivateAttr(default=Path())
    _content: bytes = PrivateAttr(default=b"")
    _fingerprint: str = PrivateAttr(default="")

    @property
    def folder(self) -> Path:
        """Where the card lies."""
        return self._folder

    @property
    def content(self) -> bytes:
        """The card's own bytes: the file may have been changed since."""
        return self._content

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
        """The labels by value; empty where the task has none."""
        return tuple(entry.label() for entry in getattr(self.output, "labels", ()))

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the numbers of a whole input are called; empty where the task has none."""
        named = (*getattr(self.output, "scores", ()), *getattr(self.output, "quantities", ()))
        return tuple(one.name for one in named)

    @property
    def conditional_names(self) -> tuple[str, ...]:
        """Those of the `output_names` that need a companion which may be missing."""
        return tuple(one.name for one in getattr(self.output, "scores", ()) if one.needs)

    @property
    def weights_path(self) -> Path:
        """The weights file or folder; the card's folder where another host has them."""
        return self._folder / (self.weights.path or "")

    @property
    def weights_sha256(self) -> str:
        """What identifies the weights: that of an ensemble, or of a network that is built on
        folders, is the digest of its parts'."""
        members = [self.weights.sha256 or "", *(one.sha256 for one in self.weights.ensemble)]
        if self.runtime.network is not None:
            members += [one.sha256 for one in self.runtime.network.folders.values()]
        if len(members) == 1:
            return members[0]
        return hashlib.sha256("\n".join(members).encode()).hexdigest()

    def algorithm(self, **parameters: str) -> Algorithm:
        """Who computed a result, for TID 4019 of every object built from it.

        A digest that the people of another host state is not among it: nothing compared it.
        """
        sha256 = "" if self.weights.path is None else self.weights_sha256
        return Algorithm(
            self.id, self.name, self.version, self.manufacturer, sha256,
            ARTIFICIAL_INTELLIGENCE, self.demonstration, parameters,
        )


class SegmentationCard(Card):
    """A model that labels voxels."""

    task: Literal["segmentation"]
    output: SegmentationOutput


class ClassificationCard(Card):
    """A model that gives probabilities of a whole input."""

    task: Literal["classification"]
    output: ClassificationOutput


class RegressionCard(Card):
    """A model that gives numbers of a whole input."""

    task: Literal["regression"]
    output: RegressionOutput


class DetectionCard(Card):
    """A model that finds things and boxes them."""

    task: Literal["detection"]
    output: DetectionOutput


class TextCard(Card):
    """A model that writes sentences."""

    task: Literal["text"]
    output: TextOutput


AnyCard = Annotated[
    SegmentationCard | ClassificationCard | RegressionCard | DetectionCard | TextCard,
    Field(discriminator="task"),
]
_CARDS: TypeAdapter[Card] = TypeAdapter(AnyCard)


def load_card(folder: Path, content: bytes | None = None) -> Card:
    """Read and check ``folder/model.yaml``; the weights are not opened.

    ``content`` is taken in place of the file: what stood there when the card was good.

    Raises
    ------
    CardError
        ``file:line: key.path: message`` of the first thing wrong.
    """
    path = folder / CARD_NAME
    if content is None:
        content = read_content(path)
    values, lines = read_yaml(content, path)
    if not isinstance(values, dict):
        raise CardError("a card is a mapping of keys", file=str(path), line=1)
    try:
        card = _CARDS.validate_python(values)
    except ValidationError as error:
        raise _card_error(error, lines, path) from error
    problems = list(contradictions(card, folder))
    if problems:
        key_path, message = problems[0]
        raise CardError(
            message + _and_more(problems), key_path=key_path, line=_line_of(key_path, lines),
            file=str(path),
        )
    card._folder = folder
    card._content = content
    card._fingerprint = hashlib.sha256(content).hexdigest()
    return card


def _card_error(error: ValidationError, lines: dict[str, int], path: Path) -> CardError:
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    # The first part of a place is the task, by which pydantic chose among the kinds of card.
    places = first["loc"][1:] if first["loc"][:1] and first["loc"][0] in TASKS else first["loc"]
    key_path = ""
    for part in places:
        key_path += f"[{part}]" if isinstance(part, int) else f".{part}" if key_path else part
    message = first["msg"]
    if first["type"] == "extra_forbidden":
        # A place without a task is of no card that is known.
        kind = {"segmentation": SegmentationCard, "classification": ClassificationCard,
                "regression": RegressionCard, "detection": DetectionCard, "text": TextCard,
                }.get(str(first["loc"][0]))
        message = "unknown key" + (meant(kind, places) if kind is not None else "")
    if first["type"] == "missing":
        message = "required and absent"
    elif first["type"].startswith("union_tag"):
        key_path, message = "task", f"one of {', '.join(TASKS)} expected"
    elif key_path.endswith("sha256"):
        message = "64 lower-case hexadecimal digits expected, as sha256sum prints them"
    elif first["type"] == "string_type":
        message = "text expected (a number in quotes is text)"
    message += _and_more(problems)
    return CardError(message, key_path=key_path, line=_line_of(key_path, lines), file=str(path))


def _and_more(problems: Sequence[object]) -> str:
    return f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""


def _line_of(key_path: str, lines: dict[str, int]) -> int | None:
    while key_path and key_path not in lines:
        key_path = key_path[: max(key_path.rfind("."), key_path.rfind("["), 0)]
    return lines.get(key_path)
