"""What in ``output`` and ``explanation`` of a card cannot go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ai_models.array.labels import MOST_OVERLAPPING
from ai_models.card_abilities import ABILITIES, a_model, backends_that, listed
from ai_models.card_checks_input import axis_count
from ai_models.card_outputs import (
    Calibration,
    ClassificationOutput,
    DetectionOutput,
    LabelEntry,
    RegressionOutput,
    ScoreEntry,
    SegmentationOutput,
    TextOutput,
)

if TYPE_CHECKING:
    from ai_models.card import Card

Problems = Iterator[tuple[str, str]]


def output_problems(card: Card) -> Problems:
    """Key path and sentence of each."""
    output = card.output
    if isinstance(output, SegmentationOutput):
        yield from _labels(output.labels)
        yield from _segmentation(card, output)
    elif isinstance(output, ClassificationOutput):
        yield from _classification(card, output)
    elif isinstance(output, RegressionOutput):
        yield from _regression(card, output)
    elif isinstance(output, DetectionOutput):
        yield from _labels(output.labels)
        yield from _detection(card, output)
    elif isinstance(output, TextOutput) and card.input.kind == "image" and output.max_images > 1:
        yield "output.max_images", "there is one image where input.kind is image"
    yield from _mirror(card)
    yield from _explanation(card)


def _labels(entries: Sequence[LabelEntry]) -> Problems:
    for position, entry in enumerate(entries):
        here = f"output.labels[{position}]"
        for earlier in entries[:position]:
            if earlier.value == entry.value:
                yield f"{here}.value", f"{entry.value} is already the value of {earlier.name!r}"
            if earlier.name == entry.name:
                yield f"{here}.name", f"{entry.name!r} is already a label"
            if earlier.color_rgb == entry.color_rgb:
                yield f"{here}.color_rgb", f"same colour as {earlier.name!r}"


def _segmentation(card: Card, output: SegmentationOutput) -> Problems:
    if output.overlapping and output.activation != "sigmoid":
        yield "output.overlapping", (
            f"labels that share voxels need output.activation: sigmoid, found {output.activation}"
        )
    for position, label in enumerate(output.labels):
        here = f"output.labels[{position}]"
        if output.overlapping and label.value > MOST_OVERLAPPING:
            yield f"{here}.value", f"overlapping labels go from 1 to {MOST_OVERLAPPING}"
        if output.activation == "softmax" and label.gives("threshold"):
            yield f"{here}.threshold", (
                "of softmax the highest label holds: a threshold needs output.activation: sigmoid"
            )
    yield from _ignored(output)
    channels_count = not _answers_a_label_map(card, output)
    if channels_count:
        yield from _gaps(output)
    if card.input.kind == "image" and output.postprocessing.min_volume_ml > 0:
        yield "output.postprocessing.min_volume_ml", "an image has no millilitres: 0 expected"
    if output.instances:
        yield from _instances(card, output)


def _instances(card: Card, output: SegmentationOutput) -> Problems:
    if card.input.kind == "image":
        yield "output.instances", "findings of their own are numbered by volume: of a volume only"
    if output.postprocessing.largest_component:
        yield "output.postprocessing.largest_component", (
            "one part of each label is left: output.instances tells each part apart"
        )
    if output.probabilities:
        yield "output.probabilities", (
            "they are those of labels, and with output.instances every part has one of its own"
        )


def _answers_a_label_map(card: Card, output: SegmentationOutput) -> bool:
    """Whether the numbers of labels are those of a map, where gaps do no harm."""
    by_map = card.runtime.backend in ("command", "nnunet", "monai_bundle")
    return by_map and not output.overlapping and not output.probabilities


def _ignored(output: SegmentationOutput) -> Problems:
    first = 1 if output.activation == "sigmoid" else 0
    names = {label.value - first: label.name for label in output.labels}
    for position, channel in enumerate(output.ignored):
        here = f"output.ignored[{position}]"
        if channel in output.ignored[:position]:
            yield here, f"{channel} is written twice"
        elif channel in names:
            yield here, f"channel {channel} is that of the label {names[channel]!r}"
        elif channel == 0 and not first:
            yield here, "channel 0 is the background, which is never reported"


def _gaps(output: SegmentationOutput) -> Problems:
    """Channels that are neither labels nor ignored: a count that is off by one shifts them all."""
    first = 1 if output.activation == "sigmoid" else 0
    taken = {label.value for label in output.labels} | {one + first for one in output.ignored}
    count = len(taken)
    missing = sorted(set(range(1, count + 1)) - taken)
    if not missing:
        return
    for position, label in enumerate(output.labels):
        if label.value > count:
            yield f"output.labels[{position}].value", (
                f"labels count from 1 without gaps, {missing[0]} expected, found {label.value}: a "
                "channel that nobody reports stands in output.ignored"
            )
            return
    yield "output.ignored", f"labels and ignored channels leave out channel {missing[0] - first}"


def _classification(card: Card, output: ClassificationOutput) -> Problems:
    entries = output.scores
    yield from _names("output.scores", [entry.name for entry in entries])
    calibrates = "calibration" in ABILITIES[card.runtime.backend].follows
    for position, entry in enumerate(entries):
        here = f"output.scores[{position}]"
        for earlier in entries[:position]:
            if earlier.channel == entry.channel:
                yield f"{here}.channel", f"{entry.channel} is already that of {earlier.name!r}"
        if entry.channel >= output.channels:
            yield f"{here}.channel", _too_high(output.channels)
        yield from _needs(card, here, entry)
        if entry.calibration == Calibration():
            continue
        if not calibrates:
            yield f"{here}.calibration", (
                f"{a_model(card.runtime.backend)} answers probabilities; logits are calibrated by "
                f"{backends_that('calibration')}"
            )
        elif output.activation == "none":
            yield f"{here}.calibration", (
                "of logits: output.activation: softmax or sigmoid expected with it"
            )
    if output.activation == "softmax" and output.channels < 2:
        yield "output.channels", "softmax of one channel is always 1: 2 or more, or sigmoid"
    if output.per == "slice" and (card.input.kind != "volume" or card.input.ndim != 2):
        yield "output.per", "slices are those of a volume: input.kind: volume, ndim: 2 expected"
    if output.per in ("image", "study") and card.input.kind == "volume" and card.input.ndim == 2:
        yield "output.per", "a network that is given slices (input.ndim: 2) answers per: slice"
    if output.per == "sequence" and (card.input.kind != "volume" or card.input.ndim != 3):
        yield "output.per", "a sequence is a whole volume: input.kind: volume, ndim: 3 expected"
    if output.per not in ("slice", "sequence") and output.gives("aggregate"):
        yield "output.aggregate", (
            "only scores of slices are put together: output.per: slice or sequence"
        )
    yield from _absence(output)


def _absence(output: ClassificationOutput) -> Problems:
    names = [entry.name for entry in output.scores]
    if output.absence is None:
        if output.aggregate == "decisive":
            yield "output.absence", f"which score says that nothing is there: {listed(names)}"
    elif output.aggregate != "decisive":
        yield "output.absence", "only with output.aggregate: decisive"
    elif output.absence not in names:
        yield "output.absence", f"no such score: {listed(names)} expected"


def _needs(card: Card, here: str, entry: ScoreEntry) -> Problems:
    optional = [one.role for one in card.input.companions if not one.required]
    required = [one.role for one in card.input.companions if one.required]
    for position, role in enumerate(entry.needs):
        where = f"{here}.needs[{position}]"
        if role in required:
            yield where, f"without {role!r} nothing is answered: it is required"
        elif role not in optional:
            yield where, (
                f"no such companion: {listed(optional)} expected" if optional
                else "a role of input.companions expected, of which there is none to be missed"
            )
        if role in entry.needs[:position]:
            yield where, f"{role!r} is written twice"


def _regression(card: Card, output: RegressionOutput) -> Problems:
    yield from _names("output.quantities", [entry.name for entry in output.quantities])
    for position, entry in enumerate(output.quantities):
        here = f"output.quantities[{position}]"
        if entry.channel >= output.channels:
            yield f"{here}.channel", _too_high(output.channels)
        if entry.minimum >= entry.maximum:
            yield f"{here}.minimum", f"not below the maximum {entry.maximum:g}"
        if entry.factor == 0:
            yield f"{here}.factor", "0 would make every answer the same"
    if card.input.kind == "volume" and card.input.ndim == 2:
        yield "input.ndim", "numbers are those of a whole volume, not of slices: 3 expected"


def _detection(card: Card, output: DetectionOutput) -> Problems:
    backend = card.runtime.backend
    if card.input.kind != "volume" or card.input.ndim != 3:
        yield "input.kind", "boxes lie in a volume: input.kind: volume, ndim: 3 expected"
    values = [label.value for label in output.labels]
    for position, label in enumerate(output.labels):
        here = f"output.labels[{position}]"
        if backend != "command" and len(set(values)) == len(values) and label.value > len(values):
            yield f"{here}.value", (
                f"labels count from 1 to {len(values)} without gaps, found {label.value}"
            )
        if label.gives("threshold"):
            yield f"{here}.threshold", "of a detection it is output.min_score"
    if backend in ("command", "monai_bundle") and output.gives("box_format"):
        yield "output.box_format", f"{a_model(backend)} answers corners"
    if backend == "command" and output.gives("first_label"):
        yield "output.first_label", "a program answers the values of the labels themselves"


def _mirror(card: Card) -> Problems:
    mirror, backend = card.output.mirror, card.runtime.backend
    if not mirror:
        return
    if card.task in ("detection", "text"):
        yield "output.mirror", f"the answers of a {card.task} cannot be averaged"
    elif "mirror" not in ABILITIES[backend].follows:
        yield "output.mirror", (
            f"{a_model(backend)} is not mirrored by the node; {backends_that('mirror')} expected"
        )
    # nnU-Net is given whole volumes, whatever its own windows are.
    count = 3 if backend == "nnunet" else axis_count(card.input)
    for position, axis in enumerate(mirror):
        here = f"output.mirror[{position}]"
        if axis >= count:
            yield here, f"the network's input has {count} axes: 0 to {count - 1} expected"
        if axis in mirror[:position]:
            yield here, f"{axis} is written twice"


def _explanation(card: Card) -> Problems:
    entry, output = card.explanation, card.output
    if entry is None:
        return
    if not isinstance(output, ClassificationOutput):
        yield "explanation", f"only a classification is explained, the task is {card.task}"
        return
    names = [score.name for score in output.scores]
    for position, name in enumerate(entry.scores):
        here = f"explanation.scores[{position}]"
        if name not in names:
            yield here, f"no such score: {listed(names)} expected"
        if name in entry.scores[:position]:
            yield here, f"{name!r} is written twice"
    if entry.method == "occlusion":
        if entry.layer is not None:
            yield "explanation.layer", "of grad_cam and grad_cam_pp: occlusion looks at no layer"
    elif "grad_cam" not in ABILITIES[card.runtime.backend].follows:
        yield "explanation.method", (
            f"{a_model(card.runtime.backend)} does not show its layers: occlusion expected"
        )


def _names(where: str, names: Sequence[str]) -> Problems:
    for position, name in enumerate(names):
        if name in names[:position]:
            yield f"{where}[{position}].name", f"{name!r} is already there"


def _too_high(channels: int) -> str:
    return f"the network has {channels} (output.channels): 0 to {channels - 1} expected"
