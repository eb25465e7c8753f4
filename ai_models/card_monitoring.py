"""What of an input is kept so that a change of scanners is noticed, and when it is told of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ai_models.card_abilities import ABILITIES, a_model, backends_that
from ai_models.card_base import Digest, Entry, LongName, Text

if TYPE_CHECKING:
    from ai_models.card import Card


class Monitor(Entry):
    """Numbers that say how an input looks to the model, kept by scanner and without the patient."""

    layer: LongName | None = None
    """Whose map is pooled over the input: a module of a ``state_dict`` network, such as the last
    of the encoder, or an output of an ``onnx`` file. Without it the numbers are of the network's
    input itself, whatever the back-end."""
    reference: Text | None = None
    """A file ``.npy`` beside the card with these numbers of the inputs that the model was tried
    on: a row of float32 for each. ``dicom-node shift MODEL --reference FOLDER`` writes it. Without
    it the first inputs of a site are the reference, and no report tells of one."""
    sha256: Digest | None = None
    """Of ``reference``, as ``sha256sum`` prints it."""
    out_of_range: Annotated[float, Field(ge=1, le=100)] = 1.5
    """The report tells of an input that is farther from its nearest reference inputs than so many
    times the farthest reference input from the others."""


def monitor_problems(card: Card, folder: Path) -> Iterator[tuple[str, str]]:
    """Key path and sentence of what in ``monitor`` cannot go together."""
    monitor, backend = card.monitor, card.runtime.backend
    if monitor is None:
        return
    if card.task == "text":
        yield "monitor", "a text model takes pictures: it has no numbers to watch"
    if monitor.layer is not None:
        if "monitor.layer" not in ABILITIES[backend].follows:
            yield "monitor.layer", (
                f"{backends_that('monitor.layer')} expected: {a_model(backend)} shows no layers"
            )
        elif card.runtime.compile:
            yield "monitor.layer", "a compiled network shows no layers: runtime.compile false"
    if monitor.reference is None:
        for key in ("sha256", "out_of_range"):
            if monitor.gives(key):
                yield f"monitor.{key}", "of monitor.reference, which is not there"
        return
    there = folder / monitor.reference
    if Path(monitor.reference).is_absolute() or not there.resolve().is_relative_to(
        folder.resolve()
    ):
        yield "monitor.reference", "must lie in the folder of the card"
    elif there.suffix != ".npy":
        yield "monitor.reference", "a file that ends in .npy expected"
    if monitor.sha256 is None:
        yield "monitor.sha256", "required and absent: nothing is loaded that was not compared"
