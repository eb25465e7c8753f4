from __future__ import annotations

from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import GateRefused
from dicom_node.results import report_forms
from dicom_node.results.gate_forms import check_report_form
from dicom_node.results.sop_classes import ENHANCED_SR, SEGMENTATION
from tests.results import kept_samples, samples
from tests.results.samples import items, named


@pytest.fixture(scope="module")
def kept() -> dict[str, Dataset]:
    return dict(kept_samples.lungs(samples.ct()))


def enhanced(kept: dict[str, Dataset]) -> Dataset:
    report = kept["volumetric report"]
    return report_forms.identified(report_forms.as_class(report, ENHANCED_SR), report, "enhanced")


def text(kept: dict[str, Dataset]) -> Dataset:
    report = report_forms.without(
        kept["volumetric report"], [str(kept["segmentation"].SOPInstanceUID)]
    )
    return report_forms.identified(report_forms.as_text(report), kept["volumetric report"], "text")


def refusal(form: Dataset, kept: dict[str, Dataset], *, without_segmentation: bool = False) -> str:
    not_sent = {str(kept["segmentation"].SOPInstanceUID)} if without_segmentation else set()
    try:
        check_report_form(form, kept["volumetric report"], [], not_sent)
    except GateRefused as refused:
        return refused.reason
    return ""


def test_forms_that_say_the_same_pass(kept: dict[str, Dataset]) -> None:
    assert refusal(enhanced(kept), kept) == ""
    assert refusal(text(kept), kept, without_segmentation=True) == ""


def another_patient(form: Dataset) -> None:
    form.PatientID = "ANOTHER"


def verified(form: Dataset) -> None:
    form.VerificationFlag = "VERIFIED"


def another_number(form: Dataset) -> None:
    named(form, "118565006")[0].MeasuredValueSequence[0].NumericValue = "2400.3"


def another_unit(form: Dataset) -> None:
    measured = named(form, "118565006")[0].MeasuredValueSequence[0]
    measured.MeasurementUnitsCodeSequence[0].CodeValue = "l"


def another_side(form: Dataset) -> None:
    named(form, "272741003")[0].ConceptCodeSequence[0].CodeValue = "7771000"


def another_sentence(form: Dataset) -> None:
    named(form, "121106")[0].TextValue = "For clinical use."


def another_source(form: Dataset) -> None:
    library = named(form, "111028")[0]
    last = list(items(library))[-1]
    last.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def no_evidence(form: Dataset) -> None:
    del form.CurrentRequestedProcedureEvidenceSequence


def coordinates_in_the_patient(form: Dataset) -> None:
    named(form, "118565006")[0].ValueType = "SCOORD3D"


def no_report(form: Dataset) -> None:
    form.SOPClassUID = SEGMENTATION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (another_patient, "gate.reference"),
        (another_source, "gate.reference"),
        (no_evidence, "gate.reference"),
        (verified, "gate.form"),
        (another_number, "gate.form"),
        (another_unit, "gate.form"),
        (another_side, "gate.form"),
        (another_sentence, "gate.form"),
        (coordinates_in_the_patient, "gate.form"),
        (no_report, "gate.form"),
    ],
)
def test_a_form_that_says_something_else_is_refused(
    kept: dict[str, Dataset], change: Callable[[Dataset], None], reason: str
) -> None:
    form = enhanced(kept)
    change(form)
    assert refusal(form, kept) == reason


def test_a_form_that_cites_what_is_not_sent_is_refused(kept: dict[str, Dataset]) -> None:
    assert refusal(enhanced(kept), kept, without_segmentation=True) == "gate.reference"


def test_a_form_with_the_uid_of_what_it_was_made_from_is_refused(kept: dict[str, Dataset]) -> None:
    form = enhanced(kept)
    form.SOPInstanceUID = kept["volumetric report"].SOPInstanceUID
    form.file_meta.MediaStorageSOPInstanceUID = form.SOPInstanceUID
    assert refusal(form, kept) == "gate.reference"


def test_a_text_that_lacks_a_number_is_refused(kept: dict[str, Dataset]) -> None:
    form = text(kept)
    # The sentence of the template says it as well, and sentences may not change.
    sentence = named(form, "121071")[0]
    sentence.TextValue = sentence.TextValue.replace("120.5", "")
    for comment in named(form, "121106"):
        comment.TextValue = comment.TextValue.replace("120.5", "")
    for comment in named(kept["volumetric report"], "121106"):
        comment.TextValue = comment.TextValue.replace("120.5", "")
    assert refusal(form, kept, without_segmentation=True) == "gate.form"


def test_a_segment_that_does_not_exist_is_refused() -> None:
    kept = dict(kept_samples.lungs(samples.ct()))
    form = enhanced(kept)
    segmentation = report_forms.plain(kept["segmentation"])
    segmentation.SegmentSequence = segmentation.SegmentSequence[:1]
    with pytest.raises(GateRefused) as refused:
        check_report_form(form, kept["volumetric report"], [segmentation], ())
    assert refused.value.reason == "gate.reference"
