"""What the quality gates of the shipped models of pictures refuse, in one table.

    python -m bench.quality_gate --shared SHARED [--page docs/quality-gate.md]

Below SHARED/data lie the pictures that are learned from, and real DICOM files of public projects.
Drawn hands, wrists and heads are those of the recipes, of their part ``held_back``. Files take the
way of a series in the node; pictures without one are shown to the gate alone. No network runs.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.card import Card, load_card
from ai_models.catalog import ZOO
from ai_models.prediction.quality import QualityGate
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.radiograph_files import CHEST, RadiographHeader, write_radiograph
from ai_models.training.recipes.quality_reference import Shown as Given
from ai_models.training.recipes.quality_reference import exact_interval, recipe_for
from ai_models.types import Image, ModelError, ModelInput, Volume
from dicom_node.errors import NodeError
from dicom_node.imaging.radiograph import load_radiograph
from dicom_node.imaging.volume import load_volume
from dicom_node.pipeline.loading import load_input

Picture = npt.NDArray[np.floating]
_DRAWN, _HEADS = 60, 24
_PICTURES = "labelled/pneumoniamnist/pneumoniamnist_trainval.npz"
_REAL = {
    "a real chest of an adult (CR, PA, MONOCHROME1)":
        "dicom/pydicom-data/data_store/data/RG1_J2KI.dcm",
    "a real lower leg (CR, EXTREMITY, orientation R F)":
        "dicom/pydicom-data/data_store/data/RG3_J2KI.dcm",
    "a real cervical spine, from the side (16 x 16)":
        "dicom/pydicom/src/pydicom/data/test_files/dicomdirtests/77654033/CR1/6154",
    "a real cervical spine, from the front (16 x 16)":
        "dicom/pydicom/src/pydicom/data/test_files/dicomdirtests/77654033/CR2/6247",
    "a real cervical spine, oblique (16 x 16)":
        "dicom/pydicom/src/pydicom/data/test_files/dicomdirtests/77654033/CR3/6278",
    "a real chest of a dog, from the side (DX, no view)":
        "dicom/highdicom/data/test_files/dx_image.dcm",
}
_ULTRASOUND = "dicom/cornerstone-wado/testImages/US-YBR_FULL_422-EVRLE.dcm"
_HEAD, _CHEST_CT = "series/mr_t1_studyforrest", "series/ct_chest_rider_pilot"
_MARKED = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """What was shown to a model, how many of it, and why how many were refused."""

    shown: str
    count: int
    reasons: Mapping[str, int]

    def cells(self) -> str:
        """As a line of a table."""
        refused = sum(self.reasons.values())
        low, high = exact_interval(refused, self.count)
        share = f"{100 * refused / self.count:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        if self.count == 1:
            share = "refused" if refused else "**taken**"
        most = sorted(self.reasons.items(), key=lambda one: -one[1])[:3]
        why = ", ".join(f"`{name}` {n}" if self.count > 1 else f"`{name}`" for name, n in most)
        return f"| {self.shown} | {self.count} | {share} | {why} |"


class Shown:
    """A model's gate, and what was shown to it."""

    def __init__(self, model_id: str) -> None:
        card = load_card(ZOO / model_id)
        self.card = card
        self._gate = QualityGate(card)
        self._gate.load()
        self._given = Given(card)
        self.rows: list[Row] = []

    def pictures(self, shown: str, sources: Sequence[ModelInput]) -> None:
        """Inputs without headers."""
        self._add(shown, [self._of(one) for one in sources])

    def files(self, shown: str, series: Sequence[Sequence[Path]]) -> None:
        """Series as the node takes them."""
        self._add(shown, [self._of_files(one) for one in series])

    def _add(self, shown: str, reasons: Sequence[str]) -> None:
        row = Row(shown, len(reasons), Counter(one for one in reasons if one))
        self.rows.append(row)
        print(f"{self.card.id}: {row.cells()}", flush=True)

    def _of(self, source: ModelInput) -> str:
        try:
            self._gate.check(source, self._given.prepared(_told(source, self.card)))
        except ModelError as error:
            return error.reason
        return ""

    def _of_files(self, paths: Sequence[Path]) -> str:
        try:
            return self._of(load_input(paths, self.card.input).model_input)
        except NodeError as error:
            return error.reason


def _told(source: ModelInput, card: Card) -> ModelInput:
    if isinstance(source, Image):
        return replace(source, clinical={one.name: None for one in card.input.clinical})
    return source


def _black_and_white(shown: Picture) -> Picture:
    return 1.0 - shown


def _constant(values: Picture) -> Callable[[Picture], Picture]:
    return lambda _: values


def _clipped(shown: Picture) -> Picture:
    middle = np.median(shown)
    return np.clip(middle + 8 * (shown - middle), 0.0, 1.0)


def _noisy(shown: Picture) -> Picture:
    noise = np.random.default_rng(1).normal(0.0, 0.2, shown.shape)
    return np.clip(shown + noise, 0.0, 1.0)


CHANGES: Mapping[str, Callable[[Picture], Picture]] = {
    "as they are": lambda one: one,
    "black and white exchanged": _black_and_white,
    "contrast times 8": _clipped,
    "contrast times 3": lambda one: np.clip(0.5 + 3 * (one - 0.5), 0.0, 1.0),
    "contrast times 0.5": lambda one: 0.5 + 0.5 * (one - 0.5),
    "contrast times 0.15": lambda one: 0.5 + 0.15 * (one - 0.5),
    "half as bright": lambda one: 0.5 * one,
    "with noise": _noisy,
    "turned by 90 degrees": lambda one: np.rot90(one, 1, (-2, -1)),
    "turned by 180 degrees": lambda one: np.rot90(one, 2, (-2, -1)),
    "upside down": lambda one: one[..., ::-1, :],
    "left and right exchanged": lambda one: one[..., ::-1],
}


def _image(shown: Picture) -> Image:
    return Image(np.ascontiguousarray(shown, dtype=np.float32), (1.0, 1.0))


def drawn(model_id: str, count: int, data: Path | None = None) -> list[ModelInput]:
    """Held-back inputs of a recipe."""
    recipe = recipe_for(model_id, data)
    count = min(count, recipe.counts["held_back"])
    return [recipe.draw("held_back", number).source for number in range(count)]


def show_changed(model: Shown, what: str, sources: Sequence[ModelInput]) -> None:
    """All ``sources`` in every change, and pictures of nothing."""
    for how, change in CHANGES.items():
        changed = [_changed(one, change) for one in sources]
        model.pictures(f"{what}, {how}", changed)
    shape = sources[0].array.shape
    noise = np.random.default_rng(0)
    nothing = {
        "black": np.zeros(shape), "white": np.ones(shape), "noise": noise.random(shape),
    }
    for name, values in nothing.items():
        model.pictures(name, [_changed(sources[0], _constant(values))])


def _changed(source: ModelInput, change: Callable[[Picture], Picture]) -> ModelInput:
    if isinstance(source, Image):
        return replace(source, array=_image(change(source.array)).array)
    if not isinstance(source, Volume):
        raise TypeError("a picture or a volume of one series expected")
    highest = float(source.array.max())
    values = change(source.array.astype(np.float64) / highest) * highest
    return replace(source, array=np.ascontiguousarray(np.rint(values), dtype=np.int16))


def tagged(
    folder: Path, sources: Sequence[ModelInput], header: RadiographHeader
) -> list[list[Path]]:
    """Each written as a radiograph of its own that says what ``header`` says."""
    return [
        [write_radiograph(folder / f"{number}", PhantomStudy(f"shown-{number}", age_y=6), header,
                          np.asarray(one.array, np.float32))]
        for number, one in enumerate(sources)
    ]


def chest_model(shared: Path, parts: Mapping[str, Sequence[ModelInput]]) -> Shown:
    """The rows of pneumonia-dx."""
    model = Shown("pneumonia-dx")
    show_changed(model, "held-back chests", parts["pneumonia-dx"])
    with tempfile.TemporaryDirectory() as name:
        for what in ("bone-age-dx", "wrist-osteopenia-dx"):
            part = "HAND" if what == "bone-age-dx" else "WRIST"
            for stated in (part, "", "CHEST"):
                header = replace(CHEST, body_part=stated)
                series = tagged(Path(name) / (what + stated), parts[what], header)
                says = f"header {stated}" if stated else "header without a part"
                model.files(f"drawn {part.lower()}s, {says}", series)
    for what, file in _REAL.items():
        model.files(what, [[shared / file]])
        image = load_radiograph(shared / file).image
        model.pictures("the same, headers not looked at", [image])
    for what, slices in _foreign(shared):
        model.pictures(what, [_image(one) for one in slices])
    return model


def _foreign(shared: Path) -> Iterator[tuple[str, list[Picture]]]:
    """Slices of other modalities, as if somebody had sent them as radiographs."""
    for what, folder in (("slices of a real MR of a head", _HEAD),
                         ("slices of a real CT of a chest", _CHEST_CT)):
        loaded = load_volume(sorted((shared / folder).rglob("*.dcm")))
        array = np.asarray(loaded.volume.array, np.float32)
        low, high = np.percentile(array, (1, 99.5))
        at = np.linspace(0.2, 0.8, 20) * (len(array) - 1)
        yield what, [np.clip((array[int(one)] - low) / (high - low), 0, 1) for one in at]
    import pydicom

    frame = np.asarray(pydicom.dcmread(shared / _ULTRASOUND).pixel_array, dtype=np.float32)
    yield "a real ultrasound picture", [frame.mean(axis=-1) / 255.0]


def run(shared: Path) -> list[Shown]:
    """All models; prints each row as it is known."""
    pictures = shared / _PICTURES
    parts = {
        "pneumonia-dx": drawn("pneumonia-dx", 10_000, pictures),
        "bone-age-dx": drawn("bone-age-dx", _DRAWN),
        "wrist-osteopenia-dx": drawn("wrist-osteopenia-dx", _DRAWN),
    }
    models = [chest_model(shared, parts)]
    for own, word in (("bone-age-dx", "hands"), ("wrist-osteopenia-dx", "wrists")):
        model = Shown(own)
        show_changed(model, f"drawn {word}", parts[own])
        for other, sources in parts.items():
            if other != own:
                words = {"pneumonia-dx": "real chests", "bone-age-dx": "drawn hands"}
                # Of full size: 28 x 28 pixels are too few for the others.
                model.pictures(words.get(other, "drawn wrists"), [
                    _image(ndimage.zoom(one.array, 8, order=1)) if one.array.shape[0] < 64 else one
                    for one in sources[:_DRAWN]
                ])
        for what, file in list(_REAL.items())[:2]:
            model.pictures(f"{what}, headers not looked at",
                           [load_radiograph(shared / file).image])
        models.append(model)
    model = Shown("brain-tumour-mr")
    show_changed(model, "drawn heads", drawn("brain-tumour-mr", _HEADS))
    model.files("a real MR of a head (T1 without contrast medium)",
                [sorted((shared / _HEAD).rglob("*.dcm"))])
    models.append(model)
    return models


def page_of(models: Sequence[Shown]) -> str:
    """The tables in Markdown."""
    told = []
    for model in models:
        told += [f"\n### {model.card.id}\n", "| shown | how many | refused (95 % interval) | why |",
                 "|---|---|---|---|", *(row.cells() for row in model.rows)]
    return "\n".join(told)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the tables where asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality_gate", description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="write the tables there, between its marks")
    options = parser.parse_args(arguments)
    told = page_of(run(options.shared / "data"))
    if options.page is None:
        print(told)
        return 0
    page = options.page.read_text(encoding="utf-8")
    options.page.write_text(
        _MARKED.sub(lambda found: f"{found[1]}{told}\n\n{found[2]}", page), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
