"""CT angiographies, dynamic series and PET-CTs as files: what scanners would have sent, and masks.

    python -m ai_models.training.phantoms.examination_files pet-ct --output DIR --seed 1 --count 2

Each examination is a folder: ``ct``, ``mr`` or ``pt`` with DICOM, ``truth.nii.gz`` and
``truth.json``. ``DIR/KIND.csv`` lists them for ``dicom-node train --data DIR/KIND.csv``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, PositronEmissionTomographyImageStorage

from ai_models.training.phantoms.angiography import (
    LEVELS,
    AngiographyPhantom,
    angiography_phantom,
    random_angiography,
)
from ai_models.training.phantoms.case_table import Row, add_rows
from ai_models.training.phantoms.dicom_files import (
    PhantomStudy,
    SeriesHeader,
    write_ct,
    write_slices,
)
from ai_models.training.phantoms.dynamic import (
    KINDS,
    MR_SCANNERS,
    DynamicPhantom,
    MrScanner,
    dynamic_phantom,
    lesion_curve,
    random_dynamic,
)
from ai_models.training.phantoms.nodule_studies import write_nifti
from ai_models.training.phantoms.pet import (
    PET_SCANNERS,
    Patient,
    PetCtPhantom,
    PetScanner,
    petct_phantom,
    random_petct,
)
from ai_models.training.phantoms.scanners import SCANNERS, Scanner

F18_HALF_LIFE_S = 6586.2
INJECTED_BQ = 3.2e8
BEGAN = "120000"
INJECTED, UPTAKE_S = "110000", 3600.0
TIME_TAGS = ("TemporalPositionIdentifier", "AcquisitionTime", "TriggerTime")


def write_angiography(
    folder: Path, study: PhantomStudy, phantom: AngiographyPhantom, scanner: Scanner
) -> list[Path]:
    """``ct/*.dcm`` with the mask of the clots as truth; returns the paths of the images."""
    paths = write_ct(folder / "ct", study, scanner, phantom.volume_hu, phantom.affine_lps)
    steps = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    _write_truth(folder, phantom.clots, phantom.affine_lps, {
        "embolism": bool(phantom.clots.any()),
        "levels": [LEVELS[level] for level in phantom.levels],
        "clot_volume_ml": round(float(phantom.clots.sum() * steps.prod()) / 1000.0, 4),
        "slices_with_clot": np.flatnonzero(phantom.slices_with_clot).tolist(),
    })
    return paths


def write_dynamic(
    folder: Path, study: PhantomStudy, phantom: DynamicPhantom, scanner: MrScanner,
    *, tags: Sequence[str] = TIME_TAGS, number: int = 1,
) -> list[Path]:
    """``mr/*.dcm``, all phases in one series; returns the paths, phase by phase.

    ``tags`` says which of `TIME_TAGS` tell when a phase was acquired (PS3.3 C.7.6.17, C.7.6.16,
    C.8.3.1); scanners write one of them or all.

    Raises
    ------
    ValueError
        A tag that is not among `TIME_TAGS`.
    """
    if set(tags) - set(TIME_TAGS):
        raise ValueError(f"{tags}: of {TIME_TAGS} expected")
    header = SeriesHeader(
        number, f"Dynamic {scanner.name}", "MR", MRImageStorage, _mr_elements(scanner),
    )
    slices = phantom.phases.shape[1]
    paths = []
    for index, (phase, seconds) in enumerate(zip(phantom.phases, phantom.times_s, strict=True)):
        told: dict[str, Any] = {
            "TemporalPositionIdentifier": index + 1,
            "AcquisitionTime": clock(BEGAN, seconds),
            "TriggerTime": f"{seconds * 1000.0:.1f}",
        }
        elements = {keyword: told[keyword] for keyword in tags}
        if "TemporalPositionIdentifier" in tags:
            elements["NumberOfTemporalPositions"] = len(phantom.phases)
        paths += write_slices(
            folder / "mr", study, header, phase, phantom.affine_lps,
            first_number=1 + index * slices, elements=elements,
        )
    truth: dict[str, Any] = {"kind": phantom.kind, "times_s": list(phantom.times_s)}
    if phantom.lesion.any():
        truth["curve"] = [round(one, 3) for one in lesion_curve(phantom)]
    _write_truth(folder, phantom.lesion, phantom.affine_lps, truth)
    return paths


def write_petct(
    folder: Path, study: PhantomStudy, phantom: PetCtPhantom, scanner: Scanner,
    pet_scanner: PetScanner,
) -> tuple[list[Path], list[Path]]:
    """``ct/*.dcm`` and ``pt/*.dcm`` in one frame of reference; returns the paths of both.

    The PET is in Bq/ml, decay-corrected to the start of the series: by its dose, weight and times
    its SUVbw are those of the phantom (PS3.3 C.8.9.1).
    """
    patient = phantom.variation.patient
    known = replace(
        study, sex=patient.sex or "", weight_kg=patient.weight_kg,
        age_y=None if patient.age_y is None else int(patient.age_y),
    )
    ct = write_ct(folder / "ct", known, scanner, phantom.volume_hu, phantom.ct_affine_lps)
    if patient.smokes is not None:
        _say_smoking(ct, patient)
    header = SeriesHeader(
        2, f"FDG {pet_scanner.name}", "PT", PositronEmissionTomographyImageStorage,
        _pet_elements(pet_scanner, len(phantom.suv)),
    )
    left_bq = INJECTED_BQ * 2.0 ** (-UPTAKE_S / F18_HALF_LIFE_S)
    activity = phantom.suv * (left_bq / (patient.weight_kg * 1000.0))
    pet = []
    for index, plane in enumerate(activity):
        # As scanners do, each slice has the slope that uses its 15 bits best.
        slope = max(float(plane.max()) / 32767.0, 1e-6)
        affine = phantom.pet_affine_lps.copy()
        affine[:3, 3] += index * affine[:3, 0]
        pet += write_slices(
            folder / "pt", known, header, np.rint(plane / slope).astype(np.int16)[None], affine,
            slope=slope, first_number=index + 1, elements={"ImageIndex": index + 1},
        )
    _write_truth(folder, phantom.lesion, phantom.ct_affine_lps, {
        "malignant": phantom.variation.malignant, "lesion": phantom.variation.lesion,
        "lesion_suv": phantom.variation.lesion_suv if phantom.variation.lesion else None,
        "highest_suv": round(float(phantom.suv.max()), 3), "age_y": patient.age_y,
        "sex": patient.sex, "smokes": patient.smokes,
    })
    return ct, pet


def clock(start: str, seconds: float) -> str:
    """A time of day (PS3.5 6.2, TM) so many seconds after ``start`` ``HHMMSS``."""
    hours, minutes, rest = int(start[:2]), int(start[2:4]), float(start[4:])
    total = hours * 3600 + minutes * 60 + rest + seconds
    return f"{int(total // 3600):02d}{int(total // 60 % 60):02d}{total % 60:09.6f}"


def _say_smoking(paths: Sequence[Path], patient: Patient) -> None:
    import pydicom

    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.SmokingStatus = "YES" if patient.smokes else "NO"
        dataset.save_as(path)


def _mr_elements(scanner: MrScanner) -> Mapping[str, Any]:
    return {
        "Manufacturer": scanner.manufacturer, "ManufacturerModelName": scanner.model,
        "MagneticFieldStrength": f"{scanner.field_t:g}", "BodyPartExamined": "BREAST",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"], "ScanningSequence": "GR",
        "SequenceVariant": "SP", "ScanOptions": "FS", "MRAcquisitionType": "3D",
        "RepetitionTime": "4.5", "EchoTime": "1.7", "EchoTrainLength": 1, "FlipAngle": "10",
        "SliceThickness": f"{scanner.spacing_mm[0]:g}", "SpacingBetweenSlices":
        f"{scanner.spacing_mm[0]:g}", "ContrastBolusAgent": "Gadolinium",
    }


def _pet_elements(scanner: PetScanner, slices: int) -> Mapping[str, Any]:
    dose = Dataset()
    dose.Radiopharmaceutical = "Fluorodeoxyglucose F^18^"
    dose.RadiopharmaceuticalStartTime = INJECTED
    dose.RadionuclideTotalDose = f"{INJECTED_BQ:.10g}"
    dose.RadionuclideHalfLife = f"{F18_HALF_LIFE_S:.10g}"
    dose.RadionuclidePositronFraction = "0.97"
    dose.RadiopharmaceuticalCodeSequence = [_code("C-B1031", "SRT", "Fluorodeoxyglucose F^18^")]
    dose.RadionuclideCodeSequence = [_code("C-111A1", "SRT", "^18^Fluorine")]
    return {
        "Manufacturer": scanner.manufacturer, "ManufacturerModelName": scanner.model,
        "BodyPartExamined": "CHEST", "ImageType": ["ORIGINAL", "PRIMARY"],
        "SeriesType": ["STATIC", "IMAGE"], "Units": "BQML", "CountsSource": "EMISSION",
        "NumberOfSlices": slices, "DecayCorrection": "START", "DecayFactor": "1",
        "CorrectedImage": ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"],
        "RandomsCorrectionMethod": "DLYD", "AttenuationCorrectionMethod": "CT",
        "ScatterCorrectionMethod": "MODEL", "ReconstructionMethod": "OSEM",
        "CollimatorType": "NONE", "FrameReferenceTime": "0", "ActualFrameDuration": "120000",
        "SliceThickness": f"{scanner.spacing_mm[0]:g}", "SeriesTime": BEGAN,
        "AcquisitionTime": BEGAN, "RadiopharmaceuticalInformationSequence": [dose],
    }


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _write_truth(
    folder: Path, mask: np.ndarray[Any, np.dtype[np.uint8]],
    affine_lps: np.ndarray[Any, np.dtype[np.float64]], told: Mapping[str, Any],
) -> None:
    write_nifti(folder / "truth.nii.gz", mask, affine_lps)
    (folder / "truth.json").write_text(json.dumps(told, indent=1) + "\n")


def _angiography(folder: Path, seed: int) -> None:
    rng = np.random.default_rng((seed, 7))
    scanner = replace(SCANNERS[seed % len(SCANNERS)], spacing_mm=(2.5, 1.3, 1.3))
    phantom = angiography_phantom(
        seed, (116, 208, 272), scanner.spacing_mm, random_angiography(rng, embolism=seed % 2 == 1),
        scanner,
    )
    write_angiography(folder, PhantomStudy(folder.name), phantom, scanner)


def _dynamic(folder: Path, seed: int) -> None:
    rng = np.random.default_rng((seed, 8))
    scanner = MR_SCANNERS[seed % len(MR_SCANNERS)]
    slices, rows, columns = (
        round(mm / step) for mm, step in zip((112.0, 200.0, 350.0), scanner.spacing_mm, strict=True)
    )
    phantom = dynamic_phantom(
        seed, (slices, rows, columns), scanner.spacing_mm,
        random_dynamic(rng, KINDS[seed % len(KINDS)]), scanner,
    )
    write_dynamic(folder, PhantomStudy(folder.name, sex="F"), phantom, scanner)


def _petct(folder: Path, seed: int) -> None:
    rng = np.random.default_rng((seed, 9))
    scanner = replace(SCANNERS[seed % len(SCANNERS)], spacing_mm=(3.0, 1.8, 1.8))
    pet_scanner = PET_SCANNERS[seed % len(PET_SCANNERS)]
    phantom = petct_phantom(
        seed, (96, 160, 200), scanner.spacing_mm, random_petct(rng, malignant=seed % 2 == 1),
        scanner, pet_scanner,
    )
    write_petct(folder, PhantomStudy(folder.name), phantom, scanner, pet_scanner)


_WRITERS: Mapping[str, Callable[[Path, int], None]] = {
    "angiography": _angiography, "dynamic": _dynamic, "pet-ct": _petct,
}


def row_of(kind: str, name: str, told: Mapping[str, Any]) -> Row:
    """What the table says of an examination in the folder ``name``, of which ``told`` is true."""
    row: dict[str, str | int | float] = {
        "image": f"{name}/{'mr' if kind == 'dynamic' else 'ct'}", "label": f"{name}/truth.nii.gz",
    }
    if kind == "angiography":
        return row | {"embolism": int(told["embolism"]), "clot_volume_ml": told["clot_volume_ml"]}
    if kind == "dynamic":
        return row | {"lesion": int("curve" in told), "wash_out": int(told["kind"] == "wash-out")}
    return row | {"pt": f"{name}/pt", "malignant": int(told["malignant"]),
                  "highest_suv": told["highest_suv"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write some examinations, each by the next scanner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(_WRITERS))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1, help="of the first examination")
    parser.add_argument("--count", type=int, default=1, help="how many examinations")
    options = parser.parse_args(arguments)
    table = options.output / f"{options.kind}.csv"
    for seed in range(options.seed, options.seed + options.count):
        folder = options.output / f"{options.kind}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        _WRITERS[options.kind](folder, seed)
        told = json.loads((folder / "truth.json").read_text())
        add_rows(table, [row_of(options.kind, folder.name, told)])
        print(f"written: {folder}", flush=True)
    print(f"written: {table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
