"""`run` with the nodule models on drawn chests: findings by DICOM, and an explicit negative."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from ai_models.training.lungs_data import REAL_CTS, read_ct
from ai_models.training.phantoms.chest import nodule_chest
from ai_models.training.phantoms.dicom_files import PhantomStudy, write_ct
from ai_models.training.phantoms.nodule_studies import write_study
from ai_models.training.phantoms.scanners import SCANNERS
from tests.cli.running import Site
from tests.shared_data import needs_shared, shared

FIELD_MM = (64.0, 250.0, 320.0)


@pytest.mark.long
@pytest.mark.parametrize("model", ["nodules-ct", "nodules-detect-ct"])
def test_each_nodule_comes_back_as_a_segment_of_its_own_and_in_the_report(
    site: Site, model: str
) -> None:
    chest = nodule_chest(95003, SCANNERS[2], 3, kinds=("solid",), diameters_mm=(9.0, 16.0),
                         field_mm=FIELD_MM)
    write_study(site.folder / "study", PhantomStudy("nodules-95003"), chest)
    out = site.folder / "out"
    answer = site("run", model, site.folder / "study" / "ct", "--output", out)
    assert answer.code == 0, answer.err
    (series,) = json.loads((out / "predictions.json").read_text())["series"]
    assert series["outcome"] == "result"
    names = _segments(out)
    assert {"Nodule 1", "Nodule 2", "Nodule 3"} <= set(names)
    text = "".join(path.read_text() for path in out.glob("*.txt"))
    objects = [pydicom.dcmread(path) for path in out.glob("*.dcm")]
    assert {"SEG", "SR"} <= {one.Modality for one in objects}
    assert "DEMONSTRATION" in text or any("DEMONSTRATION" in str(one) for one in objects)


@pytest.mark.long
@needs_shared("data")
@pytest.mark.parametrize(
    ("model", "name"), [("nodules-ct", "ts-aorta"), ("nodules-detect-ct", "ts-pulmonary")]
)
def test_a_real_chest_in_which_nothing_is_found_is_an_explicit_negative(
    site: Site, model: str, name: str
) -> None:
    (ct,) = [one for one in REAL_CTS if one.name == name]
    found = read_ct(shared("data"), ct)
    assert found is not None
    study = PhantomStudy(name)
    write_ct(site.folder / "ct", study, replace(SCANNERS[0], kernel="B"), *found)
    out = site.folder / "out"
    answer = site("run", model, site.folder / "ct", "--output", out)
    assert answer.code == 0, answer.err
    assert not _segments(out)
    reports = [one for one in map(pydicom.dcmread, out.glob("*.dcm")) if one.Modality == "SR"]
    assert reports
    assert all("without findings" in str(one) for one in reports)


def _segments(out: Path) -> list[str]:
    objects = [pydicom.dcmread(path) for path in out.glob("*.dcm")]
    return [
        one.SegmentLabel for image in objects if image.Modality == "SEG"
        for one in image.SegmentSequence
    ]
