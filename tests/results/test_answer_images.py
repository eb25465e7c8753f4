"""On which images the answer of a classification rests: in its report, and as key objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ai_models.types import FloatArray
from dicom_node.errors import GateRefused
from dicom_node.results.form_builders import Workbench
from dicom_node.results.forms import prepare
from dicom_node.results.gate_selection import check_selected
from dicom_node.results.key_objects import selected_by
from dicom_node.results.key_slices import IMAGE_LIMIT, key_slices
from dicom_node.results.profile import Wanted
from dicom_node.results.report import build_image_report
from sr_templates.numbers import evaluated
from sr_templates.template import load_template
from tests.dicom_samples import mr_series, radiograph
from tests.results import samples
from tests.results.kept_samples import Kept, source_of
from tests.results.samples import named
from tests.results.test_report import GROUP, texts

# Of eight slices: the tumour is in three, and the slice beside it is the surest to have none.
BY_SLICE: dict[str, FloatArray] = {
    "glioma": np.array([0.1, 0.1, 0.6, 0.9, 0.5, 0.0, 0.1, 0.1], np.float32),
    "meningioma": np.array([0.1, 0.1, 0.2, 0.05, 0.2, 0.0, 0.1, 0.1], np.float32),
    "pituitary": np.array([0.1, 0.1, 0.1, 0.03, 0.2, 0.01, 0.1, 0.1], np.float32),
    "none": np.array([0.7, 0.7, 0.1, 0.02, 0.1, 0.99, 0.7, 0.7], np.float32),
}


def head() -> list[Dataset]:
    return samples.headers(mr_series(StudyDescription="MR head", Manufacturer="SynthCo"))


def report_on(
    datasets: Sequence[Dataset], outputs: Mapping[str, float], template: str, **changes: object
) -> Dataset:
    request = samples.request_for(
        datasets, template=template, labels=(), outputs=outputs, input_notes=(), **changes
    )
    return build_image_report(request, series_number=9002)


def of_a_tumour(datasets: Sequence[Dataset], **changes: object) -> Dataset:
    outputs = {name: float(scores[3]) for name, scores in BY_SLICE.items()}
    return report_on(
        datasets, outputs, "brain_tumour",
        **{"by_slice": BY_SLICE, "absence": "none", **changes},
    )


def sources(report: Dataset) -> list[str]:
    found = named(report, "121112")
    return [str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in found]


def selected(document: Dataset) -> list[str]:
    return [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in document.ContentSequence if item.ValueType == "IMAGE"
    ]


def key_objects(datasets: Sequence[Dataset], report: Dataset) -> Dataset:
    bench = Workbench([("image report", report)], source_of(datasets))
    ((document, made_from),) = bench.build(("key objects", "key_objects"))
    assert made_from == report.SOPInstanceUID
    return document


def test_a_report_names_the_slice_that_decided_and_not_the_one_that_is_surest_of_nothing() -> None:
    datasets = head()
    report = of_a_tumour(datasets)
    number = int(datasets[3].InstanceNumber)
    assert f"Brain tumour: the score is highest in image number {number}." in texts(report)
    assert "Brain tumour: 3 of 8 images have this answer by themselves." in texts(report)
    assert sources(report) == [str(datasets[index].SOPInstanceUID) for index in (2, 3, 4)]
    assert sources(named(report, GROUP)[0]) == sources(report)


def test_key_objects_of_a_classified_series_are_the_slices_that_its_answer_rests_on() -> None:
    datasets = head()
    document = key_objects(datasets, of_a_tumour(datasets))
    assert selected(document) == [str(datasets[index].SOPInstanceUID) for index in (2, 3, 4)]
    assert named(document, "113012")[0].TextValue == (
        "DEMONSTRATION, NOT FOR CLINICAL USE. Images (3) on which the answer of Lungs in CT "
        "(demonstration) rests: Neoplasm (Glioma)."
    )
    assert document.StudyInstanceUID == datasets[0].StudyInstanceUID
    again = key_objects(datasets, of_a_tumour(datasets))
    assert again == document


def test_frames_of_a_multi_frame_series_are_selected_by_their_numbers() -> None:
    order = [3, 1, 2, 0, 4, 5, 6, 7, 8, 9]
    source = samples.enhanced(order)
    frames = [order.index(index) + 1 for index in range(10)]
    scores = np.array([0, 0, 0, 0.9, 0.8, 0, 0, 0, 0, 0], np.float32)
    report = report_on(
        [source], {"pulmonary_embolism": 0.9}, "pulmonary_embolism", frame_numbers=frames,
        by_slice={"pulmonary_embolism": scores},
    )
    (item,) = named(report, "121112")
    assert list(item.ReferencedSOPSequence[0].ReferencedFrameNumber) == sorted(frames[3:5])
    selection = selected_by(report, [source])
    assert selection is not None
    assert selection.images == ((str(source.SOPInstanceUID), tuple(sorted(frames[3:5]))),)


@pytest.mark.parametrize(("score", "term"), [(0.9, "Present"), (0.5, "Undetermined"), (0.1, "")])
def test_a_radiograph_is_selected_unless_everything_was_found_absent(
    score: float, term: str
) -> None:
    datasets = [radiograph()]
    report = report_on(
        datasets, {"pneumothorax": score, "nodule": 0.01}, "chest_radiograph"
    )
    selection = selected_by(report, datasets)
    if not term:
        assert selection is None
        assert any("found nothing it looks for" in one for one in texts(report))
        return
    assert selection is not None
    assert selection.images == ((str(datasets[0].SOPInstanceUID), ()),)
    assert selection.findings == (f"Pneumothorax ({term})",)
    assert selected(key_objects(datasets, report)) == [str(datasets[0].SOPInstanceUID)]


def test_where_nothing_was_found_no_key_objects_are_sent_and_nothing_is_said_to_have_failed(
) -> None:
    datasets = [radiograph()]
    asked = {"pacs": (None, Wanted(key_objects=True))}
    for score, kinds in ((0.9, ["key objects"]), (0.1, [])):
        kept: Kept = [("image report", report_on(datasets, {"nodule": score}, "chest_radiograph"))]
        prepared = prepare(asked, kept, source_of(datasets))
        assert [one.sending.kind for one in prepared.derived] == kinds
        assert prepared.failed == {}


def test_a_number_that_is_no_finding_selects_no_image() -> None:
    datasets = [radiograph()]
    report = report_on(datasets, {"bone_age_months": 120.0}, "bone_age")
    assert selected_by(report, datasets) is None


def test_the_gate_refuses_a_selection_of_other_images() -> None:
    datasets = head()
    document = key_objects(datasets, of_a_tumour(datasets))
    frames = [1] * len(datasets)
    images = [(str(datasets[index].SOPInstanceUID), ()) for index in (2, 3, 4)]
    check_selected(document, datasets, frames, images)
    for wrong in (images[:2], [*images, (str(datasets[5].SOPInstanceUID), ())]):
        with pytest.raises(GateRefused, match="rests on"):
            check_selected(document, datasets, frames, wrong)


def test_of_many_slices_the_highest_are_shown_and_the_decisive_one_always() -> None:
    template = load_template("pulmonary_embolism", None)
    (group,) = template.image
    scores = np.linspace(0.75, 0.95, 200, dtype=np.float32)
    (name,) = group.evaluations
    found = key_slices(group, evaluated(template, group, {name: 0.95}), {name: scores})
    assert found is not None
    assert (found.decisive, found.agreeing, found.slices) == (199, 200, 200)
    assert found.shown == tuple(range(200 - IMAGE_LIMIT, 200))
    # A mean that no slice reaches by itself still has a slice that speaks for it most.
    low = np.array([0.1, 0.2], np.float32)
    found = key_slices(group, evaluated(template, group, {name: 0.95}), {name: low})
    assert found is not None and found.shown == (1,)
    assert key_slices(group, evaluated(template, group, {name: 0.01}), {name: scores}) is None


def test_slices_that_speak_for_another_class_are_told_and_those_that_show_none_are_not() -> None:
    datasets = head()
    assert not any("another answer" in one for one in texts(of_a_tumour(datasets)))
    changed = {name: scores.copy() for name, scores in BY_SLICE.items()}
    changed["pituitary"][4], changed["none"][7], changed["meningioma"][7] = 0.8, 0.1, 0.6
    report = of_a_tumour(datasets, by_slice=changed)
    said = "Brain tumour: images that speak for another answer by themselves: 2."
    assert said in texts(report)
    assert sources(report) == [str(datasets[index].SOPInstanceUID) for index in (2, 3)]
