"""One series through one model on real objects: outcome, order, identity, refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

import sr_templates
from ai_models.card import Card
from ai_models.catalog import Catalog
from ai_models.predictor import Predictor
from ai_models.types import SegmentationPrediction, Volume
from dicom_node.errors import GateRefused, UnsuitableInput
from dicom_node.pipeline import description
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.results.equipment import node_equipment
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, with_attributes, write_series

AT = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
EQUIPMENT = node_equipment("DICOMNODE", "1")


def predict(card: Card, volume: Volume) -> SegmentationPrediction:
    predictor = Predictor(card, "cpu")
    predictor.load()
    try:
        return predictor.predict(volume)
    finally:
        predictor.close()


def card(folder: Path, threshold: float = 0.5, **changes: object) -> Card:
    write_model(folder / "models" / "tiny", threshold_onnx(threshold), id="tiny", **changes)
    return Catalog([folder / "models"]).get("tiny")


def run(folder: Path, paths: list[Path], threshold: float = 0.5, **changes: object) -> Analysis:
    return analyse(paths, card(folder, threshold, **changes), predict, Writing(EQUIPMENT, AT))


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_series(ct_series((12, 32, 40)), tmp_path / "series")


def test_a_finding_becomes_a_segmentation_and_then_the_reports_that_cite_it(
    tmp_path: Path, paths: list[Path]
) -> None:
    found = run(tmp_path, paths)
    kinds = [kind for kind, _ in found.objects]
    assert kinds[:2] == ["segmentation", "volumetric report"]
    assert found.outcome == "result"
    assert found.findings.any and found.findings.label_map is not None
    assert found.findings.label_map.shape == (12, 32, 40)
    segmentation, report = found.objects[0][1], found.objects[1][1]
    assert str(segmentation.SOPInstanceUID) in str(report)
    assert [int(d.SeriesNumber) for _, d in found.objects] == sorted(
        int(d.SeriesNumber) for _, d in found.objects
    )
    assert set(found.seconds_by_stage) == {"load", "model", "measure", "describe"}


def test_nothing_found_is_one_report_that_says_so(tmp_path: Path, paths: list[Path]) -> None:
    found = run(tmp_path, paths, threshold=5.0)
    assert found.outcome == "no_finding"
    assert [kind for kind, _ in found.objects] == ["negative report"]


def test_the_same_input_gives_the_same_objects_in_any_order_of_files(
    tmp_path: Path, paths: list[Path]
) -> None:
    first, again = run(tmp_path, paths), run(tmp_path, paths[::-1])
    assert _uids(first) == _uids(again)
    assert len(set(_uids(first))) == len(first.objects)


@pytest.mark.parametrize(
    "changes",
    [{"version": "9"}, {"input__intensity__clip": [-900, 1000]}, {"runtime__overlap": 0.5}],
    ids=["version", "input", "runtime"],
)
def test_what_can_change_a_result_changes_its_identity(
    tmp_path: Path, paths: list[Path], changes: dict[str, object]
) -> None:
    other = run(tmp_path / "other", paths, **changes)
    assert not set(_uids(run(tmp_path, paths))) & set(_uids(other))


def test_a_report_template_beside_the_card_is_used_and_changes_the_identity(
    tmp_path: Path, paths: list[Path]
) -> None:
    built_in = run(tmp_path, paths)
    own = Path(sr_templates.__file__).with_name("lungs.yaml").read_text()
    for folder, text, is_same in (("same", own, True), ("other", own + "# another\n", False)):
        beside = tmp_path / folder / "models" / "tiny" / "lungs.yaml"
        beside.parent.mkdir(parents=True)
        beside.write_text(text)
        found = run(tmp_path / folder, paths)
        assert (set(_uids(found)) == set(_uids(built_in))) is is_same
        assert is_same or not set(_uids(found)) & set(_uids(built_in))


def test_a_late_slice_makes_new_objects(tmp_path: Path, paths: list[Path]) -> None:
    assert not set(_uids(run(tmp_path, paths[:-1]))) & set(_uids(run(tmp_path, paths)))


@pytest.mark.parametrize(
    "corrected",
    [
        {"PatientID": "RIGHT"}, {"PatientName": "Right^Patient"}, {"AccessionNumber": "A2"},
        {"StudyInstanceUID": "1.2.99"}, {"SeriesInstanceUID": "1.2.98"},
    ],
    ids=lambda one: next(iter(one)),
)  # fmt: skip
def test_images_of_a_corrected_patient_make_new_objects_that_name_the_right_one(
    tmp_path: Path, paths: list[Path], corrected: dict[str, str]
) -> None:
    before = run(tmp_path, paths)
    for path in paths:
        with_attributes([dataset := pydicom.dcmread(path)], **corrected)
        dataset.save_as(path)
    after = run(tmp_path, paths)
    assert not set(_uids(before)) & set(_uids(after))
    (keyword, value), = corrected.items()
    if keyword != "SeriesInstanceUID":
        assert {str(dataset[keyword].value) for _, dataset in after.objects} == {value}


def _uids(found: Analysis) -> list[str]:
    return [str(dataset.SOPInstanceUID) for _, dataset in found.objects]


def test_a_model_is_not_run_on_another_modality(tmp_path: Path, paths: list[Path]) -> None:
    with pytest.raises(UnsuitableInput) as refused:
        run(tmp_path, paths, input__modality=["MR"], input__intensity={"unit": "arbitrary"})
    assert refused.value.reason == "input.modality"


def test_a_series_with_too_few_slices_is_not_given_to_the_model(
    tmp_path: Path, paths: list[Path]
) -> None:
    with pytest.raises(UnsuitableInput) as refused:
        run(tmp_path, paths, input__min_slices=100)
    assert refused.value.reason.startswith("input.")


def test_no_object_leaves_that_does_not_say_what_the_model_found(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = description.build_segmentation

    def shifted(*arguments: object, **how: object) -> object:
        images, frames, label_map, *rest = arguments
        moved = np.roll(np.asarray(label_map), 1, axis=1)
        return build(images, frames, moved, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(description, "build_segmentation", shifted)
    with pytest.raises(GateRefused):
        run(tmp_path, paths)
