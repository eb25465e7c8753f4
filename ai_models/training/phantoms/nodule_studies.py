"""A chest with nodules as files: a CT series in DICOM, its exact mask and what is in it.

    python -m ai_models.training.phantoms.nodule_studies --output DIR --seed 1 --count 4

``DIR/nodules.csv`` lists them for ``dicom-node train --data DIR/nodules.csv``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_models.training.phantoms.case_table import Row, add_rows
from ai_models.training.phantoms.chest import FIELD_MM, NoduleChest, nodule_chest
from ai_models.training.phantoms.dicom_files import PhantomStudy, write_ct
from ai_models.training.phantoms.scanners import SCANNERS
from ai_models.types import Affine


def write_study(folder: Path, study: PhantomStudy, chest: NoduleChest) -> list[Path]:
    """``ct/*.dcm``, ``truth.nii.gz`` (number of the nodule in each voxel), ``mask.nii.gz`` (1 in
    any nodule) and ``truth.json``.

    Returns the paths of the images.
    """
    paths = write_ct(folder / "ct", study, chest.scanner, chest.volume_hu, chest.affine_lps)
    write_nifti(folder / "truth.nii.gz", chest.label_map, chest.affine_lps)
    write_nifti(folder / "mask.nii.gz", (chest.label_map > 0).astype(np.uint8), chest.affine_lps)
    (folder / "truth.json").write_text(json.dumps(truth_of(chest), indent=1) + "\n")
    return paths


def truth_of(chest: NoduleChest) -> dict[str, Any]:
    """What is in a chest: kind, place (LPS mm), volume and lobe of every nodule, by number."""
    return {
        "scanner": chest.scanner.name,
        "nodules": [
            {
                "number": one.number,
                "kind": one.nodule.kind,
                "centre_lps_mm": [round(mm, 2) for mm in one.nodule.centre_lps_mm],
                "diameter_mm": round(one.nodule.diameter_mm, 2),
                "volume_ml": round(one.volume_ml, 4),
                "solid_fraction": round(one.nodule.solid_fraction, 3),
                "lobe": chest.lobe_of(one),
            }
            for one in chest.nodules
        ],
    }


def row_of(name: str, chest: NoduleChest) -> Row:
    """What the table says of a study in the folder ``name``."""
    return {
        "image": f"{name}/ct", "label": f"{name}/mask.nii.gz",
        "part_solid": int(any(one.nodule.kind == "part_solid" for one in chest.nodules)),
        "nodules": len(chest.nodules),
        "nodule_volume_ml": round(sum(one.volume_ml for one in chest.nodules), 4),
    }


def write_nifti(path: Path, array: npt.NDArray[np.generic], affine_lps: Affine) -> None:
    """``(slices, rows, columns)`` in LPS as NIfTI has it: index (column, row, slice) to RAS."""
    import nibabel

    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps[:, [2, 1, 0, 3]]
    image: Any = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
    nibabel.save(image, str(path))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write some studies, each by the next scanner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1, help="of the first study")
    parser.add_argument("--count", type=int, default=1, help="how many studies")
    parser.add_argument("--nodules", type=int, default=5, help="in each, at most")
    parser.add_argument("--field-mm", type=float, nargs=3, default=FIELD_MM, metavar="MM",
                        help="what is scanned: along the slices, rows and columns")
    options = parser.parse_args(arguments)
    table = options.output / "nodules.csv"
    for seed in range(options.seed, options.seed + options.count):
        chest = nodule_chest(
            seed, SCANNERS[seed % len(SCANNERS)], options.nodules,
            field_mm=(options.field_mm[0], options.field_mm[1], options.field_mm[2]),
        )
        name = f"nodules-{seed}"
        write_study(options.output / name, PhantomStudy(name), chest)
        add_rows(table, [row_of(name, chest)])
        print(f"written: {options.output / name}", flush=True)
    print(f"written: {table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
