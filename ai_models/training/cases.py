"""Examinations to learn from: where they lie, what is true of them, and whose they are.

Three forms are read: a table (CSV), a folder of NIfTI images and labels, a folder of DICOM series
and Segmentations. How DICOM is decoded and placed in the patient is the node's own business: it is
handed in as a `DicomReader`, so that a network learns from what it will be given.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from ai_models.card import Card
from ai_models.card_entries import InputEntry
from ai_models.training.nifti_files import is_nifti, is_png
from ai_models.training.settings import TrainingError
from ai_models.types import ModelInput

Part = Literal["training", "validation", "test"]
PARTS: tuple[Part, ...] = ("training", "validation", "test")
ATTRIBUTES = ("sex", "age", "manufacturer", "kernel", "field_strength")
"""By which figures are told apart."""
_NAMED = frozenset({"image", "label", "patient", "split", "class", "series", *ATTRIBUTES})


@dataclass(frozen=True)
class Case:
    """One input with what is true of it.

    Attributes
    ----------
    name
        Of its file or series; shown while training, never in a record.
    patient
        Whose it is: all cases of a patient fall into one part. Never in a record.
    images
        Files by role; that of the card's own series is ``""``.
    labels
        A NIfTI file, or DICOM Segmentations; empty where the task needs none.
    values
        Scores (0 or 1) and quantities by name, and what is known of the patient by the card's
        clinical names.
    attributes
        Of `ATTRIBUTES`; age as a decade.
    part
        Where the table says so.
    """

    name: str
    patient: str
    images: Mapping[str, tuple[Path, ...]]
    labels: tuple[Path, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    part: Part | None = None

    @property
    def digest(self) -> str:
        """What a record may keep: it finds a case again and does not name it."""
        return hashlib.sha256(f"{self.patient}\n{self.name}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Series:
    """A DICOM series as the node sees it. ``sources`` are the series that a Segmentation refers
    to."""

    uid: str
    modality: str
    paths: tuple[Path, ...]
    patient: str
    study: str = ""
    frame_of_reference: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()


class DicomReader(Protocol):
    """What the node can do and this package cannot: find series, and read them as a card asks."""

    def series(self, folder: Path) -> list[Series]:
        """Every series below a folder."""

    def load(
        self, images: Mapping[str, Sequence[Path]], entry: InputEntry
    ) -> ModelInput:
        """The input of a model of these series, by role; ``""`` is the card's own."""


def find_cases(data: Path, card: Card, reader: DicomReader | None) -> list[Case]:
    """The cases of a CSV file or a folder.

    A folder with ``cases.csv`` is that table; one with ``images`` and ``labels`` (or ``imagesTr``
    and ``labelsTr``) is NIfTI; any other is DICOM.

    Raises
    ------
    TrainingError
        There is nothing to learn from, or a table is wrong; the message names the line.
    """
    if data.is_file() and data.suffix == ".csv":
        cases = table_cases(data, card, reader)
    elif (data / "cases.csv").is_file():
        cases = table_cases(data / "cases.csv", card, reader)
    elif nifti_folders(data) is not None:
        cases = nifti_cases(data)
    elif data.is_dir():
        cases = dicom_cases(data, card, reader)
    else:
        raise TrainingError(f"{data} is neither a folder nor a .csv file")
    if not cases:
        raise TrainingError(f"nothing to learn from was found in {data}")
    return cases


def nifti_folders(data: Path) -> tuple[Path, Path] | None:
    """Folders of images and of labels, where there are such."""
    for images, labels in (("images", "labels"), ("imagesTr", "labelsTr")):
        if (data / images).is_dir() and (data / labels).is_dir():
            return data / images, data / labels
    return None


def nifti_cases(data: Path) -> list[Case]:
    """``images/<name>.nii.gz`` with ``labels/<name>.nii.gz``; nnU-Net's ``_0000`` is left off.

    Each file is taken for a patient of its own: where a patient has several, a table must say so.
    """
    found = nifti_folders(data)
    if found is None:
        return []
    images, labels = found
    cases = []
    for image in sorted(images.glob("*.nii*")):
        name = image.name.partition(".nii")[0].removesuffix("_0000")
        label = next((one for one in (labels / f"{name}.nii.gz", labels / f"{name}.nii")
                      if one.is_file()), None)
        if label is None:
            raise TrainingError(f"{image.name} has no label in {labels}")
        cases.append(Case(name, name, {"": (image,)}, (label,)))
    return cases


def dicom_cases(data: Path, card: Card, reader: DicomReader | None) -> list[Case]:
    """Series of the card's modality below a folder with the Segmentations that refer to them.

    Companions are the first series of their modality in the same study and frame of reference.
    """
    found = _reader(reader).series(data)
    segmentations = [one for one in found if one.modality == "SEG"]
    cases = []
    for one in found:
        if one.modality not in card.modality:
            continue
        labels = tuple(path for seg in segmentations if one.uid in seg.sources
                       for path in seg.paths)
        if not labels:
            continue
        images = {"": one.paths}
        for companion in card.input.companions:
            beside = next((other for other in found
                           if other.modality in companion.modality and other.uid != one.uid
                           and (other.study, other.frame_of_reference)
                           == (one.study, one.frame_of_reference)), None)
            if beside is not None:
                images[companion.role] = beside.paths
        cases.append(Case(one.uid, one.patient, images, labels, {}, one.attributes))
    return cases


def table_cases(path: Path, card: Card, reader: DicomReader | None) -> list[Case]:
    """A CSV file with a header line, in UTF-8; paths count from its folder and stay below it.

    Columns: ``image`` (a NIfTI, PNG or DICOM file, or a folder of one DICOM series), or ``series``
    (a Series Instance UID below the folder of the table); ``label``; ``patient``; ``split``;
    ``class`` (the name of a score); every score, quantity, clinical entry and companion role of
    the card by its name; what figures are told apart by: ``sex``, ``age``, ``manufacturer``,
    ``kernel``, ``field_strength``.
    """
    try:
        return _rows(path, card, reader)
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path} is not UTF-8: save it as CSV UTF-8") from error
    except csv.Error as error:
        raise TrainingError(f"{path} cannot be read as CSV: {error}") from error


def _rows(path: Path, card: Card, reader: DicomReader | None) -> list[Case]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        names = list(rows.fieldnames or ())
        for column in sorted(set(names)):
            times = names.count(column)
            if column and times > 1:
                raise TrainingError(f"{path}: column {column!r} is there {times} times")
        known = _NAMED | set(card.output_names) | {one.role for one in card.input.companions}
        known |= {one.name for one in card.input.clinical}
        for column in sorted(set(rows.fieldnames or ()) - known):
            # Others may stand there for their own sake; a patient or part misspelt must not.
            near = difflib.get_close_matches(column.strip().lower(), known, 1, 0.75)
            if near:
                raise TrainingError(f"{path}: column {column!r}: is {near[0]!r} meant?")
        table = _Table(path, card, reader)
        return [table.case(number, row) for number, row in enumerate(rows, start=2)]


class _Table:
    def __init__(self, path: Path, card: Card, reader: DicomReader | None) -> None:
        self.path, self.card, self.reader = path, card, reader
        self.by_uid: dict[str, Series] | None = None

    def case(self, line: int, row: Mapping[str, str | None]) -> Case:
        where = f"{self.path}:{line}"
        cells = {name: text.strip() for name, text in row.items() if name and text and text.strip()}
        images, attributes, patient = self._images(where, cells)
        for companion in self.card.input.companions:
            if companion.role in cells:
                images[companion.role] = self._files(where, cells[companion.role])
        values = self._values(where, cells)
        for name in ATTRIBUTES:
            if name in cells:
                attributes[name] = cells[name] if name != "age" else age_decade(cells[name])
        part = next((one for one in PARTS if one == cells.get("split")), None)
        if "split" in cells and part is None:
            raise TrainingError(f"{where}: split is one of {', '.join(PARTS)}")
        labels = self._files(where, cells["label"]) if "label" in cells else ()
        name = cells.get("series") or cells["image"]
        return Case(name, cells.get("patient") or patient or name, images, labels, values,
                    attributes, part)

    def _images(
        self, where: str, cells: Mapping[str, str]
    ) -> tuple[dict[str, tuple[Path, ...]], dict[str, str], str]:
        if "image" in cells:
            files = self._files(where, cells["image"])
            one = self._described(where, files, cells["image"])
            if one is None:
                return {"": files}, {}, ""
            return {"": one.paths}, dict(one.attributes), one.patient
        if "series" not in cells:
            raise TrainingError(f"{where}: neither image nor series")
        if self.by_uid is None:
            found = _reader(self.reader).series(self.path.parent)
            self.by_uid = {one.uid: one for one in found}
        one = self.by_uid.get(cells["series"])
        if one is None:
            raise TrainingError(f"{where}: no such series below {self.path.parent}")
        return {"": one.paths}, dict(one.attributes), one.patient

    def _described(self, where: str, files: tuple[Path, ...], text: str) -> Series | None:
        """What the headers of a DICOM series say; ``None`` of other files, or without a reader."""
        if self.reader is None or not files or is_nifti(files[0]) or is_png(files[0]):
            return None
        found = self.reader.series(self.path.parent / text)
        if len(found) != 1:
            raise TrainingError(f"{where}: one DICOM series expected in {text}, not {len(found)}")
        return found[0]

    def _files(self, where: str, text: str) -> tuple[Path, ...]:
        # A table may come from anywhere: it names nothing but what lies beside it. A link there
        # was laid by whoever keeps the folder, and is followed.
        if Path(text).is_absolute() or ".." in Path(text).parts:
            raise TrainingError(f"{where}: {text} is not below the folder of the table")
        path = self.path.parent / text
        try:
            is_there = path.exists()
        except OSError as error:
            raise TrainingError(f"{where}: there is no such file ({error.strerror})") from error
        if is_there and path.is_dir():
            return tuple(sorted(one for one in path.rglob("*") if one.is_file()))
        if not is_there or not path.is_file():
            raise TrainingError(f"{where}: there is no {path}")
        return (path,)

    def _values(self, where: str, cells: Mapping[str, str]) -> dict[str, float]:
        values = {}
        for name in (*self.card.output_names, *(one.name for one in self.card.input.clinical)):
            if name in cells:
                try:
                    values[name] = float(cells[name])
                except ValueError as error:
                    raise TrainingError(f"{where}: {name} is no number") from error
                if not math.isfinite(values[name]):
                    raise TrainingError(f"{where}: {name} is no number")
                if self.card.task == "classification" and name in self.card.output_names and not (
                    0 <= values[name] <= 1
                ):
                    raise TrainingError(f"{where}: {name} is a score: 0 or 1, not {cells[name]}")
        if "class" in cells:
            if cells["class"] not in self.card.output_names:
                raise TrainingError(
                    f"{where}: class is one of {', '.join(self.card.output_names)}"
                )
            values |= {one: float(one == cells["class"]) for one in self.card.output_names}
        return values


def _reader(reader: DicomReader | None) -> DicomReader:
    if reader is None:
        raise TrainingError("DICOM is read by the node: dicom-node train")
    return reader


def age_decade(text: str) -> str:
    """Of an age in years or as DICOM writes it (``067Y``): a decade, as `metrics.age_band`."""
    from ai_models.training.metrics import age_band

    parts = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
    scale = parts.get(text[-1:].upper())
    try:
        return age_band(float(text[:-1]) * scale if scale else float(text))
    except ValueError:
        return "unknown"


def split_by_patient(
    cases: Sequence[Case], *, validation: float = 0.15, test: float = 0.15, seed: int = 20
) -> dict[Part, list[Case]]:
    """Every case in one of three parts, and every patient in one part only.

    Where a table says the part it stays; other patients are dealt out by a digest of their own, so
    that a case that is added later moves few others.

    Raises
    ------
    TrainingError
        A patient is in two parts, or there are too few patients for the parts.
    """
    fixed: dict[str, Part] = {}
    for case in cases:
        if case.part is not None and fixed.setdefault(case.patient, case.part) != case.part:
            raise TrainingError(
                f"a patient of {case.name} is in {fixed[case.patient]} and in {case.part}"
            )
    free = sorted(_patients(cases) - set(fixed), key=lambda one: _dealt(one, seed))
    counts = {"test": _share(len(free), test), "validation": _share(len(free), validation)}
    chosen: dict[str, Part] = dict(fixed)
    first = 0
    for part in ("test", "validation"):
        # A part that the table fills is left as the table has it.
        count = 0 if part in fixed.values() else counts[part]
        for patient in free[first : first + count]:
            chosen[patient] = "test" if part == "test" else "validation"
        first += count
    for patient in free[first:]:
        chosen[patient] = "training"
    parts: dict[Part, list[Case]] = {part: [] for part in PARTS}
    for case in cases:
        parts[chosen[case.patient]].append(replace(case, part=chosen[case.patient]))
    if not parts["training"]:
        raise TrainingError(f"{len(_patients(cases))} patients are too few to train, and to test")
    return parts


def _patients(cases: Iterable[Case]) -> set[str]:
    return {case.patient for case in cases}


def _dealt(patient: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n{patient}".encode()).hexdigest()


def _share(count: int, part: float) -> int:
    return max(1, round(count * part)) if part > 0 and count > 1 else 0
