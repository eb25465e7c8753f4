"""Measure a nodule model: ``python -m ai_models.training.recipes.nodule_evaluation CARD_FOLDER``.

The model runs by its card, as the node runs it, on chests that training never drew (each by one of
four scanners), on CTs of patients that training never saw with nodules put into them, and on the
same without: what it marks there is made up. Writes ``evaluation.json`` beside ``--output``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.lungs_reference import lungs_reference
from ai_models.card import Card, load_card
from ai_models.card_outputs import SegmentationOutput
from ai_models.predictor import Predictor
from ai_models.training.lungs_data import REAL_CTS, read_ct
from ai_models.training.metrics import (
    Interval,
    ScanFindings,
    bootstrap_interval,
    dice,
    froc,
    match_centers,
    match_parts,
)
from ai_models.training.phantoms.chest import nodule_chest
from ai_models.training.phantoms.insertion import InsertedNodule, draw_nodules, insert
from ai_models.training.phantoms.scanners import SCANNERS
from ai_models.training.recipes.nodules_ct import REAL_TRAINING
from ai_models.types import DetectionPrediction, Prediction, SegmentationPrediction, Volume

LabelMap = npt.NDArray[np.uint8]

FIRST_HELD_BACK, FIRST_EMPTY = 90000, 91000
FIELD_MM = (100.0, 260.0, 330.0)
REAL_HELD_BACK = ("ts-aorta", "ts-pulmonary", "ts-example")
"""Two patients: ts-aorta and ts-pulmonary are parts of one CT."""
FINE_ENOUGH = ("ts-aorta", "ts-pulmonary")
"""Of 1.5 mm: the voxels of ts-example are as large as the smallest nodules."""
PATIENTS = {"ts-aorta": "first", "ts-pulmonary": "first", "ts-example": "second"}
RATES = (0.5, 1.0, 2.0, 4.0)
LOWEST_SCORE = 0.4


@dataclass(frozen=True)
class Scan:
    """One CT and what is in it."""

    name: str
    patient: str
    group: str
    volume: Volume
    truth: LabelMap
    nodules: tuple[InsertedNodule, ...]


@dataclass(frozen=True)
class Measured:
    """What the model found in one scan."""

    scan: str
    patient: str
    group: str
    findings: ScanFindings
    kinds: tuple[str, ...]
    diameters_mm: tuple[float, ...]
    dice: float
    dice_of_found: tuple[float, ...] = field(default=())


def drawn_scans(count: int) -> Iterator[Scan]:
    """Chests with nodules, and a third as many without, by each scanner in turn."""
    for index in range(count):
        yield _drawn(FIRST_HELD_BACK + index, 6, "drawn")
    for index in range(max(count // 3, 1)):
        yield _drawn(FIRST_EMPTY + index, 0, "drawn, without nodules")


def _drawn(seed: int, nodules: int, group: str) -> Scan:
    scanner = SCANNERS[seed % len(SCANNERS)]
    chest = nodule_chest(seed, scanner, nodules, diameters_mm=(5.0, 22.0), field_mm=FIELD_MM)
    return Scan(f"{seed} {scanner.name}", str(seed), group,
                Volume(chest.volume_hu, chest.affine_lps), chest.label_map, chest.nodules)


def real_scans(root: Path, repeats: int) -> Iterator[Scan]:
    """CTs of held-back patients below ``root``: as they are, and ``repeats`` times with nodules."""
    for ct in REAL_CTS:
        if ct.name not in (*REAL_HELD_BACK, REAL_TRAINING) or (found := read_ct(root, ct)) is None:
            continue
        hu, affine = found
        group = "real, as it is" if ct.name in REAL_HELD_BACK else "real, trained on, as it is"
        patient = PATIENTS.get(ct.name, ct.name)
        nothing = np.zeros(hu.shape, dtype=np.uint8)
        yield Scan(ct.name, patient, group, Volume(hu, affine), nothing, ())
        if ct.name not in FINE_ENOUGH:
            continue
        lungs = lungs_reference(hu, affine) > 0
        noise = _noise_hu(hu, lungs)
        for repeat in range(repeats):
            rng = np.random.default_rng((FIRST_HELD_BACK, repeat))
            nodules = draw_nodules(rng, lungs, affine, 5, diameters_mm=(5.0, 22.0), hu=hu)
            put = insert(hu, affine, nodules, lungs=lungs, blur_mm=0.8, noise_hu=noise, rng=rng)
            yield Scan(f"{ct.name} {repeat}", patient, "real, nodules put in",
                       Volume(np.rint(put.hu).astype(np.int16), affine), put.label_map,
                       put.nodules)


def _noise_hu(hu: npt.NDArray[np.int16], lungs: npt.NDArray[np.bool_]) -> float:
    """Of the lungs: the median of how much each voxel differs from its neighbours."""
    values = hu.astype(np.float32)
    rest = values - ndimage.uniform_filter(values, (1, 3, 3))
    return float(1.4826 * np.median(np.abs(rest[lungs])))


def measured(scan: Scan, prediction: Prediction) -> Measured:
    """Hold what was found against what is there."""
    kinds = tuple(one.nodule.kind for one in scan.nodules if one.voxels)
    diameters = tuple(one.nodule.diameter_mm for one in scan.nodules if one.voxels)
    if isinstance(prediction, SegmentationPrediction):
        parts, scores = _parts(prediction)
        truth = _renumbered(scan.truth)
        return Measured(
            scan.name, scan.patient, scan.group, match_parts(parts, scores, truth), kinds,
            diameters, dice(parts > 0, truth > 0), _dice_of_found(parts, truth),
        )
    if not isinstance(prediction, DetectionPrediction):
        raise TypeError("a model that finds nodules segments or detects")
    centres = [
        (scan.volume.affine_lps @ np.array([*np.argwhere(scan.truth == one.number).mean(0), 1]))[:3]
        for one in scan.nodules if one.voxels
    ]
    findings = match_centers(
        [one.center_lps_mm for one in prediction.detections],
        [one.score for one in prediction.detections], centres,
        [diameter / 2.0 for diameter in diameters] or 1.0,
    )
    return Measured(scan.name, scan.patient, scan.group, findings, kinds, diameters, float("nan"))


def _parts(prediction: SegmentationPrediction) -> tuple[npt.NDArray[np.int32], list[float]]:
    """Connected parts and the mean probability of each."""
    parts, count = ndimage.label(prediction.label_map > 0, np.ones((3, 3, 3)))
    probability = prediction.probabilities[1]
    scores = ndimage.mean(probability, parts, range(1, count + 1)) if count else []
    return np.asarray(parts, dtype=np.int32), [float(one) for one in scores]


def _renumbered(truth: LabelMap) -> LabelMap:
    """From 1 without gaps: a nodule without a voxel of its own could never be hit."""
    table = np.zeros(256, dtype=np.uint8)
    numbers = np.unique(truth[truth > 0])
    table[numbers] = np.arange(1, len(numbers) + 1)
    return table[truth]


def _dice_of_found(parts: npt.NDArray[np.int32], truth: LabelMap) -> tuple[float, ...]:
    """Of each nodule that was hit, with all the parts that hit it."""
    values = []
    for number in range(1, int(truth.max(initial=0)) + 1):
        here = truth == number
        hitting = np.unique(parts[here])
        if hitting.any():
            values.append(dice(np.isin(parts, hitting[hitting > 0]), here))
    return tuple(values)


def summary(rows: Sequence[Measured], threshold: float) -> dict[str, Any]:
    """Figures of one group with 95 % intervals; patients are drawn, each with all its scans."""
    patients = [one.patient for one in rows]

    def interval(figure: Callable[[Sequence[Measured]], float]) -> list[float | None]:
        """Value, low and high; of one or two patients there is no interval."""
        found: Interval = bootstrap_interval(rows, figure, patients=patients)
        return [
            round(part, 3) if np.isfinite(part) else None
            for part in (found.value, found.low, found.high)
        ]

    def sensitivity(some: Sequence[Measured], kind: str = "") -> float:
        hits = [
            np.isfinite(score) and score >= threshold for one in some
            for score, its in zip(one.findings.hits, one.kinds, strict=True)
            if kind in ("", its)
        ]
        return float(np.mean(hits)) if hits else float("nan")

    def false_per_scan(some: Sequence[Measured]) -> float:
        return float(np.mean([
            sum(score >= threshold for score in one.findings.false_scores) for one in some
        ]))

    figures: dict[str, Any] = {
        "scans": len(rows), "patients": len(set(patients)),
        "false_findings_per_scan": interval(false_per_scan),
    }
    nodules = sum(len(one.kinds) for one in rows)
    if not nodules:
        return figures
    figures |= {"nodules": nodules, "sensitivity": interval(sensitivity)}
    for kind in sorted({kind for one in rows for kind in one.kinds}):
        figures[f"sensitivity, {kind}"] = round(sensitivity(rows, kind), 3)
    curve = froc([one.findings for one in rows])
    figures["froc"] = {str(rate): round(curve.at(rate), 3) for rate in RATES}
    figures["mean_sensitivity_at_these_rates"] = interval(
        lambda some: froc([one.findings for one in some]).score(RATES)
    )
    if not np.isnan(rows[0].dice):
        figures["dice_of_a_scan"] = interval(lambda some: float(np.mean([o.dice for o in some])))
        figures["dice_of_a_found_nodule"] = interval(
            lambda some: float(np.mean([d for o in some for d in o.dice_of_found] or [np.nan]))
        )
    return figures


def measuring(card: Card) -> Card:
    """The card, so that it also hands on probabilities, or boxes of low scores."""
    update: dict[str, Any] = {"min_score": LOWEST_SCORE}
    if isinstance(card.output, SegmentationOutput):
        update = {"probabilities": True, "instances": False}
    return card.model_copy(update={"output": card.output.model_copy(update=update)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the model on everything and write its figures by group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--real-data", type=Path)
    parser.add_argument("--drawn", type=int, default=8, help="chests with nodules")
    parser.add_argument("--repeats", type=int, default=3, help="of each real CT with nodules")
    options = parser.parse_args(arguments)
    card = load_card(options.card)
    predictor = Predictor(measuring(card))
    predictor.load()
    rows: list[Measured] = []
    scans = [drawn_scans(options.drawn)]
    if options.real_data is not None:
        scans.append(real_scans(options.real_data, options.repeats))
    for scan in (one for several in scans for one in several):
        rows.append(measured(scan, predictor.predict(scan.volume)))
        sys.stdout.write(f"{rows[-1]}\n")
        sys.stdout.flush()
    predictor.close()
    threshold = float(getattr(card.output, "min_score", 0.0))
    groups = sorted({one.group for one in rows})
    result = {name: summary([o for o in rows if o.group == name], threshold) for name in groups}
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
