"""Several series through one model: what is taken, what is missing, and what the result says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ai_models.card import Card, load_card
from ai_models.drafting.guard import DraftSentence
from ai_models.predictor import Predictor
from ai_models.types import (
    JointInput,
    ModelInput,
    Prediction,
    SegmentationPrediction,
)
from dicom_node.errors import UnsuitableInput
from dicom_node.pipeline.analysis import Analysis, Writing, analyse, with_draft
from dicom_node.pipeline.exchange import read_source, write_source
from dicom_node.pipeline.loading import load_input
from dicom_node.results.equipment import node_equipment
from tests.ai_models.drafting.test_impression import Scripted
from tests.ai_models.prediction.test_joint import AGE, PT, SEX
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import (
    ct_series,
    enhanced_series,
    mr_series,
    with_attributes,
    write_series,
)
from tests.pet_ct import pet_of, suv_of

WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
REQUIRED = {**PT, "required": True}


def card_of(folder: Path, **changes: Any) -> Card:
    """A network that marks what is bright in its first channel, whatever the others hold."""
    return load_card(write_model(
        folder / "model", bright_of(changes.pop("channels", 2)), id="tiny",
        **{"input__role": "ct", "input__companions": [PT], **changes},
    ))


def bright_of(channels: int) -> bytes:
    """As `threshold_onnx`, of the first of several channels."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(threshold_onnx(0.5))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    slope = numpy_helper.to_array(model.graph.initializer[0])
    first = np.zeros((2, channels, 1, 1, 1), dtype=np.float32)
    first[:, :1] = slope
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(first, "slope"))
    return bytes(model.SerializeToString())


class Kept:
    """The predictor, and what it was given last."""

    source: ModelInput

    def __call__(self, card: Card, source: ModelInput) -> Prediction:
        self.source = source
        predictor = Predictor(card, "cpu")
        predictor.load()
        return predictor.predict(source)


def study(folder: Path, **attributes: Any) -> tuple[list[Path], list[Path]]:
    ct = ct_series((12, 32, 40))
    pet = pet_of(ct[0], values_bqml=np.full((10, 10, 8), 20000.0), **attributes)
    return write_series(ct, folder / "ct"), write_series(pet, folder / "pt")


def sentences(report: Dataset) -> list[str]:
    found = [str(report.TextValue)] if report.get("ValueType") == "TEXT" else []
    for child in report.get("ContentSequence", []):
        found += sentences(child)
    return found


def report_of(found: Analysis) -> Dataset:
    return next(dataset for kind, dataset in found.objects if kind.endswith("report"))


def evidence(report: Dataset) -> dict[str, int]:
    return {
        str(series.SeriesInstanceUID): len(series.ReferencedSOPSequence)
        for item in report.CurrentRequestedProcedureEvidenceSequence
        for series in item.ReferencedSeriesSequence
    }


def groups(report: Dataset) -> list[list[str]]:
    """Modality and number of images of each group of the Image Library."""
    library = next(
        one for one in report.ContentSequence
        if one.ConceptNameCodeSequence[0].CodeValue == "111028"
    )
    return [
        [
            next(str(one.ConceptCodeSequence[0].CodeValue) for one in group.ContentSequence
                 if one.ValueType == "CODE"),
            str(sum(one.ValueType == "IMAGE" for one in group.ContentSequence)),
        ]
        for group in library.ContentSequence
    ]


def test_a_pet_is_taken_with_its_ct_and_stands_in_the_evidence(tmp_path: Path) -> None:
    ct, pt = study(tmp_path)
    model = Kept()
    found = analyse(ct, card_of(tmp_path), model, WRITING, companions={"pt": pt})
    assert isinstance(model.source, JointInput)
    uptake = model.source.companions["pt"]
    assert uptake is not None and uptake.unit == "SUVbw"
    assert float(uptake.array.max()) == pytest.approx(suv_of(20000.0), rel=1e-4)
    report = report_of(found)
    uids = {kind: str(one[0].SeriesInstanceUID) for kind, one in zip(
        ("ct", "pt"), (found.loaded.source_images, *found.loaded.further_images), strict=True)}
    assert evidence(report) | {} == {uids["ct"]: 12, uids["pt"]: 10} | {
        str(found.objects[0][1].SeriesInstanceUID): 1
    }
    assert groups(report) == [["CT", "12"], ["PT", "10"]]
    said = " ".join(sentences(report))
    assert "ct was analysed together with pt (PT, 10 slices)" in said
    assert "without pt" not in said


def test_a_report_on_two_series_takes_a_draft_and_keeps_both_in_its_evidence(
    tmp_path: Path,
) -> None:
    ct, pt = study(tmp_path)
    found = analyse(ct, card_of(tmp_path), Kept(), WRITING, companions={"pt": pt})
    asked = with_draft(found, Scripted()).impression
    assert asked is not None
    one = next(item for item in asked.evidence if item.quantity == "Volume")
    text = f"The {one.finding.lower()} has a volume of {one.value} ml."
    drafted = with_draft(found, Scripted((DraftSentence(text, (one.id,)),)))
    assert drafted.impression is not None and drafted.impression.is_drafted
    assert evidence(report_of(drafted)) == evidence(report_of(found))
    assert text in sentences(report_of(drafted))


def test_what_was_missing_and_why_is_said_and_makes_another_result(tmp_path: Path) -> None:
    ct, pt = study(tmp_path)
    card = card_of(tmp_path)
    alone = analyse(
        ct, card, Kept(), WRITING, missing={"pt": "not there within 15 min"}
    )
    said = sentences(report_of(alone))
    wanted = "without pt (not there within 15 min): from ct alone"
    assert sum(wanted in one for one in said) == 1
    assert not any("without pt" in one and wanted not in one for one in said)
    joint = analyse(ct, card, Kept(), WRITING, companions={"pt": pt})
    again = analyse(ct[::-1], card, Kept(), WRITING, companions={"pt": pt[::-1]})
    uids = [[str(one.SOPInstanceUID) for _, one in x.objects] for x in (alone, joint, again)]
    assert set(uids[0]).isdisjoint(uids[1])
    assert uids[1] == uids[2]


@pytest.mark.parametrize(("reason", "attributes"), [
    ("input.suv_missing", {"PatientWeight": None}),
    ("input.companion_patient", {"PatientID": "SYN-2"}),
    ("input.companion_patient", {"PatientBirthDate": "19310203"}),
    ("input.companion_frame", {"FrameOfReferenceUID": generate_uid()}),
    ("input.modality", {"Modality": "NM"}),
    ("input.companion_spacing", {"PixelSpacing": ["1e-9", "1e-9"]}),
    ("input.companion_spacing", {"PixelSpacing": ["1e9", "1e9"]}),
])
def test_a_companion_that_cannot_be_used_is_done_without_or_ends_the_job(
    tmp_path: Path, reason: str, attributes: dict[str, Any]
) -> None:
    ct, pt = study(tmp_path, **attributes)
    found = analyse(ct, card_of(tmp_path), Kept(), WRITING, companions={"pt": pt})
    assert found.loaded.missing["pt"].startswith(reason)
    series = str(found.loaded.source_images[0].SeriesInstanceUID)
    assert series in evidence(report_of(found))
    needed = card_of(tmp_path / "needed", input__companions=[REQUIRED])
    with pytest.raises(UnsuitableInput) as told:
        analyse(ct, needed, Kept(), WRITING, companions={"pt": pt})
    assert told.value.reason == reason


def test_what_lies_nowhere_near_the_series_is_not_analysed_together_with_it(
    tmp_path: Path,
) -> None:
    ct = ct_series((12, 32, 40))
    pet = pet_of(ct[0], values_bqml=np.full((10, 10, 8), 20000.0))
    for image in pet:
        x, y, z = (float(one) for one in image.ImagePositionPatient)
        image.ImagePositionPatient = [f"{one:.3f}" for one in (x + 900.0, y, z)]
    files = {name: write_series(one, tmp_path / name) for name, one in (("ct", ct), ("pt", pet))}
    found = analyse(
        files["ct"], card_of(tmp_path), Kept(), WRITING, companions={"pt": files["pt"]}
    )
    assert found.loaded.missing == {
        "pt": "input.companion_apart: pt shows no place that the series shows"
    }


def test_without_what_the_card_requires_there_is_no_answer(tmp_path: Path) -> None:
    ct, _ = study(tmp_path)
    card = card_of(tmp_path, input__companions=[REQUIRED])
    with pytest.raises(UnsuitableInput) as told:
        analyse(ct, card, Kept(), WRITING, missing={"pt": "not there in time"})
    assert told.value.reason == "input.companion_missing"
    assert "not there in time" in str(told.value)


def test_what_the_headers_say_of_the_patient_reaches_the_network(tmp_path: Path) -> None:
    ct, pt = study(tmp_path, PatientSex="F")
    weight = {"name": "weight", "keyword": "PatientWeight", "center": 0.0, "scale": 1.0}
    card = card_of(tmp_path, channels=8, input__clinical=[AGE, SEX, weight])
    model = Kept()
    analyse(ct, card, model, WRITING, companions={"pt": pt})
    assert isinstance(model.source, JointInput)
    age, sex, kg = (model.source.clinical[name] for name in ("age", "sex", "weight"))
    assert age == pytest.approx(66.89, abs=0.01)
    # The CT says O, which the card has no number for; the PET says F, and the weight.
    assert sex == -1.0
    assert kg == 70.0


def test_a_weight_or_size_in_another_unit_is_not_told_to_the_network(tmp_path: Path) -> None:
    weight = {"name": "weight", "keyword": "PatientWeight", "center": 0.0, "scale": 1.0}
    size = {"name": "size", "keyword": "PatientSize", "center": 0.0, "scale": 1.0}
    ct = ct_series((12, 32, 40))
    with_attributes(ct, PatientWeight="70000", PatientSize="172")
    card = card_of(tmp_path, channels=6, input__clinical=[weight, size])
    model = Kept()
    found = analyse(write_series(ct, tmp_path / "ct"), card, model, WRITING)
    assert isinstance(model.source, JointInput)
    assert dict(model.source.clinical) == {"weight": None, "size": None}
    assert found.request.lacking[1:] == tuple(
        f"without {name}: the images state no value of it that can be used"
        for name in ("weight", "size")
    )
    said = sentences(report_of(found))
    lacking = next(at for at, one in enumerate(said) if "Analysed without weight: " in one)
    assert lacking < next(at for at, one in enumerate(said) if " ml" in one)
    assert not any("weight is not known" in one for one in said)


def phases(folder: Path) -> list[Path]:
    datasets: list[Dataset] = []
    for phase in range(3):
        values = np.full((6, 20, 18), 100 + 200 * phase, np.int16)
        values[2:4, 5:12, 5:12] += 500
        one = mr_series(values.shape, values=values, TemporalPositionIdentifier=phase + 1)
        if datasets:
            with_attributes(one, **{
                keyword: datasets[0][keyword].value
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
            })
        datasets += one
    return write_series(datasets, folder)


def test_phases_are_given_in_order_and_the_results_lie_on_the_first(tmp_path: Path) -> None:
    paths = phases(tmp_path / "mr")
    card = card_of(
        tmp_path, channels=3, input__companions=[], input__modality=["MR"], report="structures",
        input__phases={"min": 3, "max": 3},
        input__intensity={"unit": "arbitrary", "clip": [0, 1000], "scale_to": [0, 1]},
    )
    model = Kept()
    found = analyse(paths, card, model, WRITING)
    assert isinstance(model.source, JointInput) and len(model.source.phases) == 3
    assert isinstance(found.prediction, SegmentationPrediction)
    report = report_of(found)
    assert groups(report) == [["MR", "18"]]
    series = str(found.loaded.source_images[0].SeriesInstanceUID)
    assert evidence(report)[series] == 18
    referenced = found.objects[0][1].ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(referenced) == 6
    first = analyse(paths[6:], replace_phases(tmp_path, card), Kept(), WRITING)
    assert str(first.objects[0][1].SOPInstanceUID) != str(found.objects[0][1].SOPInstanceUID)


def test_phases_of_one_object_are_one_instance_and_all_of_them_count(
    tmp_path: Path,
) -> None:
    shape = (6, 20, 18)
    uids = []
    for last in (300, 400):
        values = np.concatenate([np.full(shape, one) for one in (600, 500, last)])
        enhanced = enhanced_series(
            values.shape, modality="MR", values_hu=values.astype(np.int16),
            SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.5",
            FrameOfReferenceUID="1.2.3.6",
        )
        enhanced.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        frames = enhanced.PerFrameFunctionalGroupsSequence
        for number, frame in enumerate(frames):
            phase, index = divmod(number, shape[0])
            frame.PlanePositionSequence = frames[index].PlanePositionSequence
            content = Dataset()
            content.TemporalPositionIndex = phase + 1
            frame.FrameContentSequence = [content]
        paths = write_series([enhanced], tmp_path / str(last))
        card = card_of(
            tmp_path / f"card-{last}", channels=3, input__companions=[], input__modality=["MR"],
            report="structures", input__phases={"min": 3, "max": 3},
            input__intensity={"unit": "arbitrary", "clip": [0, 1000], "scale_to": [0, 1]},
        )
        loaded = load_input(paths, card.input)
        assert isinstance(loaded.model_input, JointInput)
        assert [float(one.array.max()) for one in loaded.model_input.phases] == [600, 500, last]
        assert loaded.further_images == () and len(loaded.source_images) == 1
        uids.append(loaded.all_digests["1.2.3.4"])
    assert uids[0] != uids[1]


def replace_phases(folder: Path, card: Card) -> Card:
    return card_of(
        folder / "two", channels=2, input__companions=[], input__modality=["MR"],
        report="structures",
        input__phases={"min": 2, "max": 2},
        input__intensity={"unit": "arbitrary", "clip": [0, 1000], "scale_to": [0, 1]},
    )


def test_a_joint_input_travels_to_a_worker_as_it_is(tmp_path: Path) -> None:
    ct, pt = study(tmp_path)
    model = Kept()
    analyse(ct, card_of(tmp_path), model, WRITING, companions={"pt": pt})
    assert isinstance(model.source, JointInput)
    reference = model.source.reference
    sent = replace(
        model.source, phases=(reference, reference), times_s=(0.0, 30.0),
        companions={**model.source.companions, "mr": None}, clinical={"age": 61.5, "sex": None},
    )
    told = json.loads(json.dumps(write_source(tmp_path, sent)))
    got = read_source(told)
    assert isinstance(got, JointInput)
    assert (got.times_s, got.clinical) == (sent.times_s, sent.clinical)
    assert len(got.phases) == 2 and got.companions.keys() == {"pt", "mr"}
    assert got.companions["mr"] is None
    pairs = [(got.reference, reference), (got.phases[1], reference),
             (got.companions["pt"], sent.companions["pt"])]
    for one, other in pairs:
        assert one is not None and other is not None
        assert np.array_equal(one.array, other.array) and one.unit == other.unit
        assert np.array_equal(one.affine_lps, other.affine_lps)
