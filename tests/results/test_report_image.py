from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import ConfigurationError, GateRefused
from dicom_node.results import gate
from dicom_node.results.report import build_image_report, check_template
from dicom_node.results.request import Reference
from tests import dicom_samples
from tests.results import samples
from tests.results.samples import items, named
from tests.results.test_report import GROUP, encoded, numbers, texts

EXPLANATION = Reference("1.2.840.10008.5.1.4.1.1.30", "1.2.3.4", "1.2.3.5", "1.2.3.6")
PRESENT, UNDETERMINED, ABSENT = "52101004", "373068000", "272519000"


def image_report(
    outputs: dict[str, float],
    *,
    template: str = "chest_radiograph",
    datasets: list[Dataset] | None = None,
    explanation: Reference | None = None,
    **changes: object,
) -> Dataset:
    request = samples.request_for(
        datasets or [dicom_samples.radiograph()],
        template=template,
        labels=(),
        outputs=outputs,
        **{"input_notes": (), **changes},
    )
    return build_image_report(request, series_number=9002, explanation=explanation)


def terms(report: Dataset, concept: str = "121052") -> list[str]:
    return [item.ConceptCodeSequence[0].CodeValue for item in named(report, concept)]


@pytest.mark.parametrize(
    ("template", "task", "outputs", "message"),
    [
        ("lungs", "segmentation", (), ""),
        ("lung_nodules", "detection", (), ""),
        ("chest_radiograph", "segmentation", (), "no groups on segments"),
        ("chest_radiograph", "detection", (), "no groups on segments"),
        ("chest_radiograph", "classification", ("pneumothorax", "cardiomegaly"), ""),
        ("chest_radiograph", "classification", ("pneumothorax", "fracture_of_mars"),
         "does not report fracture_of_mars"),
        ("lungs", "classification", ("pneumothorax",), "no groups on whole images"),
        ("bone_age", "regression", ("bone_age_months",), ""),
        ("bone_age", "regression", ("z_score",), "asks for bone_age_months"),
        ("brain_tumour", "classification", ("glioma", "none"), "asks for meningioma, pituitary"),
        ("bone_age", "regression", (), ""),
        ("draft", "text", (), ""),
        ("lungs", "text", (), ""),
        ("draft", "segmentation", (), "no groups on segments"),
        ("draft", "regression", ("z_score",), "no groups on whole images"),
        ("kidneys", "text", (), "no report template"),
    ],
)
def test_a_template_must_have_what_the_task_of_a_card_needs(
    template: str, task: str, outputs: tuple[str, ...], message: str
) -> None:
    if not message:
        check_template(template, None, task, outputs)
        return
    with pytest.raises(ConfigurationError, match=message):
        check_template(template, None, task, outputs)


def test_each_output_has_a_group_with_its_probability_its_term_and_the_algorithm() -> None:
    report = image_report({"pneumothorax": 0.83, "pleural_effusion": 0.01})
    groups = named(report, GROUP)
    assert [group.ContentTemplateSequence[0].TemplateIdentifier for group in groups] == ["1501"] * 2
    assert [numbers(group) for group in groups] == [
        [("Probability", 0.83, "1")],
        [("Probability", 0.01, "1")],
    ]
    assert terms(report) == [PRESENT, ABSENT]
    assert all(named(group, "111001") for group in groups)
    assert not any(named(number, "111001") for number in items(report) if number.ValueType == "NUM")
    assert named(report, "111017") == []


@pytest.mark.parametrize(
    ("probability", "term"),
    [
        (1.0, PRESENT),
        (0.7, PRESENT),
        (math.nextafter(0.7, 0), UNDETERMINED),
        (0.3, UNDETERMINED),
        (math.nextafter(0.3, 0), ABSENT),
        (0.0, ABSENT),
    ],
)
def test_a_threshold_belongs_to_the_term_above_it(probability: float, term: str) -> None:
    assert terms(image_report({"pneumothorax": probability})) == [term]


def test_the_thresholds_stand_with_the_algorithm() -> None:
    report = image_report({"pneumothorax": 0.83})
    assert any(
        item.TextValue
        == "evaluation of pneumothorax: Present from 0.7, Undetermined from 0.3, else Absent"
        for item in items(report)
        if item.ValueType == "TEXT"
    )


def test_when_everything_is_absent_the_report_is_the_coded_negative_answer() -> None:
    report = image_report({"pneumothorax": 0.1, "nodule": 0.2})
    assert terms(report, "111017") == ["111241"]
    assert len(named(report, GROUP)) == 2
    assert any(
        "found nothing" in text and "(Pneumothorax, Nodule)" in text for text in texts(report)
    )


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ({"pneumothorax": math.nan}, "gate.not_finite"),
        ({"pneumothorax": math.inf}, "gate.not_finite"),
        ({"pneumothorax": 1.2}, "gate.out_of_range"),
        ({"pneumothorax": -0.1}, "gate.out_of_range"),
        ({"pneumothorax": 0.5, "surprise": 0.5}, "gate.unknown_number"),
        ({}, "gate.missing_number"),
    ],
)
def test_a_number_that_cannot_be_is_never_written(outputs: dict[str, float], reason: str) -> None:
    with pytest.raises(GateRefused) as refused:
        image_report(outputs)
    assert refused.value.reason == reason


def test_of_classes_the_largest_is_coded_and_every_one_is_needed() -> None:
    datasets = dicom_samples.mr_series(StudyDescription="MR head", Manufacturer="SynthCo")
    scores = {"glioma": 0.2, "meningioma": 0.7, "pituitary": 0.05, "none": 0.05}
    report = image_report(scores, template="brain_tumour", datasets=datasets)
    assert terms(report, "TUMOUR_CLASS") == ["MENINGIOMA"]
    assert [numbers(group)[0][1] for group in named(report, GROUP)[1:]] == [0.2, 0.7, 0.05, 0.05]
    assert "Brain tumour: most probably meningioma." in texts(report)
    healthy = image_report(
        {**scores, "none": 0.9}, template="brain_tumour", datasets=datasets, language="de"
    )
    assert terms(healthy, "111017") == ["111241"]
    assert any("fand nichts" in text and "(Hirntumor)" in text for text in texts(healthy))
    del scores["glioma"]
    with pytest.raises(GateRefused) as refused:
        image_report(scores, template="brain_tumour", datasets=datasets)
    assert refused.value.reason == "gate.missing_number"


def test_what_is_optional_is_reported_when_it_is_there() -> None:
    alone = image_report({"bone_age_months": 122.0}, template="bone_age")
    assert numbers(named(alone, GROUP)[0]) == [("Bone age by Greulich and Pyle", 122.0, "mo")]
    both = image_report(
        {"bone_age_months": 122.0, "standard_deviation_months": 8.04}, template="bone_age"
    )
    assert numbers(named(both, GROUP)[0])[1] == ("Bone age by Greulich and Pyle", 8.0, "mo")
    said = "Bone age: 122.0 months by Greulich and Pyle, standard deviation 8.0 months."
    assert said in texts(both)
    assert named(both, "111017") == []


def test_the_only_image_is_the_source_of_the_measurement_and_a_series_is_not() -> None:
    datasets = [dicom_samples.radiograph()]
    report = image_report({"pneumothorax": 0.5}, datasets=datasets)
    (source,) = named(report, "121112")
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == datasets[0].SOPInstanceUID
    study = image_report(
        {"pulmonary_embolism": 0.5}, template="pulmonary_embolism", datasets=samples.ct()
    )
    assert named(study, "121112") == []
    gate.check_report(report, datasets)


def test_what_explains_the_result_is_referred_to_in_every_group_and_is_evidence() -> None:
    report = image_report({"pneumothorax": 0.5, "nodule": 0.5}, explanation=EXPLANATION)
    shown = [item.ReferencedSOPSequence[0] for item in named(report, "130401")]
    assert [item.ReferencedSOPInstanceUID for item in shown] == ["1.2.3.4"] * 2
    studies = report.CurrentRequestedProcedureEvidenceSequence
    assert [study.StudyInstanceUID for study in studies][1:] == ["1.2.3.6"]
    series = studies[1].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == "1.2.3.5"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"


def test_the_gate_takes_an_explanation_that_is_at_hand_and_no_other() -> None:
    datasets = [dicom_samples.radiograph()]
    report = image_report({"nodule": 0.5}, datasets=datasets, explanation=EXPLANATION)
    explanation = Dataset()
    explanation.SOPInstanceUID = EXPLANATION.sop_instance_uid
    gate.check_report(report, datasets, [explanation])
    with pytest.raises(GateRefused, match="not made from"):
        gate.check_report(report, datasets)


def test_a_finding_is_tracked_through_a_new_release_of_the_model() -> None:
    datasets = [dicom_samples.radiograph()]
    newer = samples.identity_of(datasets, model_version="2.0.0")
    first = image_report({"pneumothorax": 0.5}, datasets=datasets)
    second = image_report({"pneumothorax": 0.9}, datasets=datasets, identity=newer)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert named(first, "112040")[0].UID == named(second, "112040")[0].UID


def test_a_template_without_groups_on_images_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="no groups on whole images"):
        image_report({"volume_ml": 1.0}, template="lungs", datasets=samples.ct())


def test_a_model_brings_its_own_template(tmp_path: Path) -> None:
    from sr_templates.template import FOLDER

    text = (FOLDER / "bone_age.yaml").read_text(encoding="utf-8")
    text = text.replace("name: bone_age", "name: hand-age").replace("en: Bone age", "en: Hand age")
    (tmp_path / "hand-age.yaml").write_text(text, encoding="utf-8")
    report = image_report({"bone_age_months": 100.0}, template="hand-age", template_folder=tmp_path)
    assert any(text.startswith("Hand age: 100.0 months") for text in texts(report))


def test_the_same_input_gives_the_same_bytes() -> None:
    datasets = [dicom_samples.radiograph()]
    first, second = (image_report({"nodule": 0.5}, datasets=datasets) for _ in range(2))
    assert encoded(first) == encoded(second)


def test_what_is_not_told_for_want_of_a_series_is_undetermined_and_no_negative() -> None:
    report = image_report(
        {}, template="fdg_pet_ct", datasets=dicom_samples.ct_series(),
        undetermined={"malignant_lesion": ("pt",)},
    )
    assert terms(report) == [UNDETERMINED]
    assert [one for group in named(report, GROUP) for one in numbers(group)] == []
    assert named(report, "111017") == []
    said = " ".join(texts(report))
    assert "Malignant lesion of the lung: undetermined." in said
    assert "this is not answered without PT" in said and "found nothing" not in said
    assert any(
        item.TextValue == "evaluation of malignant_lesion: Undetermined without pt"
        for item in items(report) if item.ValueType == "TEXT"
    )


def test_one_score_may_be_undetermined_beside_another_that_is_told() -> None:
    report = image_report(
        {"enhancing_lesion": 0.02}, template="dynamic_lesion",
        datasets=dicom_samples.mr_series(), undetermined={"washout_lesion": ("t2",)},
    )
    assert sorted(terms(report)) == sorted([ABSENT, UNDETERMINED])
    assert named(report, "111017") == []


def test_a_template_that_cannot_say_undetermined_is_refused_for_what_may_be() -> None:
    check_template("fdg_pet_ct", None, "classification", ["malignant_lesion"], ["malignant_lesion"])
    for template, outputs in (
        ("bone_age", ["bone_age_months"]), ("brain_tumour", ["meningioma"]),
    ):
        with pytest.raises(ConfigurationError, match="Undetermined|asks for"):
            check_template(template, None, "classification", outputs, outputs)


def test_the_reader_is_told_what_scores_were_compared_with() -> None:
    said = texts(image_report({"pneumothorax": 0.83, "nodule": 0.1}))
    (told,) = [one for one in said if one.startswith("Scores were compared with")]
    assert told.endswith(": present from 0.7, undetermined from 0.3, absent below that.")
    german = texts(image_report({"pneumothorax": 0.83}, language="de"))
    assert any("vorhanden ab 0.7, unbestimmt ab 0.3, darunter nicht" in one for one in german)
    assert not any("compared" in one for one in texts(
        image_report({"bone_age_months": 120.0}, template="bone_age")))


@pytest.mark.parametrize(
    ("calibrated", "words"), [(True, "are calibrated on"), (False, "are not calibrated")]
)
def test_the_reader_is_told_whether_probabilities_are_calibrated(
    calibrated: bool, words: str
) -> None:
    assert any(words in one for one in texts(image_report({"nodule": 0.4}, calibrated=calibrated)))
    assert not any("calibrated" in one for one in texts(image_report({"nodule": 0.4})))


def test_the_reader_is_told_what_the_card_says_of_the_model_however_long_it_is() -> None:
    evidence = "Pictures of children of one hospital. " * 60
    said = texts(image_report(
        {"nodule": 0.4}, evidence=evidence, not_for=("diagnosis", "adults, lateral projections")
    ))
    start = next(n for n, one in enumerate(said) if one.startswith("What the model was measured"))
    assert all(len(one) <= 1024 for one in said)
    assert " ".join(said[start:-1]).endswith(evidence.strip())
    assert said[-1] == "The model is not for: diagnosis; adults, lateral projections."


@pytest.mark.parametrize(("none", "term"), [(0.7, ABSENT), (0.69, UNDETERMINED)])
def test_a_likeliest_class_that_is_none_excludes_a_tumour_only_where_little_is_left_to_others(
    none: float, term: str
) -> None:
    datasets = dicom_samples.mr_series(StudyDescription="MR head", Manufacturer="SynthCo")
    scores = {"glioma": 0.1, "meningioma": 0.1, "pituitary": 0.1, "none": none}
    report = image_report(scores, template="brain_tumour", datasets=datasets)
    assert terms(report, "TUMOUR_CLASS") == [term]
    assert bool(named(report, "111017")) == (term == ABSENT)
    said = " ".join(texts(report))
    assert ("found nothing" in said) == (term == ABSENT)
    assert ("a tumour is not excluded)." in said) == (term == UNDETERMINED)
    assert "most probably none from 0.7, undetermined (a tumour is not excluded) below that" in said


@pytest.mark.parametrize(
    ("attributes", "side"),
    [({"ImageLaterality": "L"}, "Left"), ({"ImageLaterality": "R"}, "Right"),
     ({"ImageLaterality": "U"}, ""), ({}, "")],
)
def test_the_site_of_a_hand_has_the_side_that_its_image_states(
    attributes: dict[str, str], side: str
) -> None:
    hand = dicom_samples.radiograph(BodyPartExamined="HAND", **attributes)
    report = image_report({"bone_age_months": 122.0}, template="bone_age", datasets=[hand])
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in named(report, "272741003")] == [
        one for one in [side] if one
    ]
    chest = image_report({"nodule": 0.8}, datasets=[dicom_samples.radiograph(**attributes)])
    assert named(chest, "272741003") == []
