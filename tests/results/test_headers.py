from __future__ import annotations

import copy
import io
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.results.headers import normalise
from tests.results import samples

PATIENT_NAME = "Müller^Zoë"


def reread(dataset: Dataset) -> Dataset:
    """``dataset`` as it comes from a file: nothing decoded yet."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def raw(dataset: Dataset, keyword: str, vr: str, value: Any) -> None:
    """Set a value that the standard does not allow."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    dataset[tag] = DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE)


def refusal(datasets: list[Dataset]) -> str:
    with pytest.raises(UnsuitableInput) as refused:
        normalise(datasets)
    return refused.value.reason


def test_a_sound_series_is_carried_unchanged_and_without_a_note() -> None:
    datasets = samples.ct()
    copies, notes = normalise(datasets)
    assert notes == ()
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber"):
        assert {str(c[keyword].value) for c in copies} == {str(datasets[0][keyword].value)}
    assert [c.SOPInstanceUID for c in copies] == [d.SOPInstanceUID for d in datasets]
    assert [c.ImagePositionPatient for c in copies] == [d.ImagePositionPatient for d in datasets]


def test_the_source_itself_is_not_touched() -> None:
    datasets = samples.ct(PatientSex="U", StudyID=None)
    before = copy.deepcopy(datasets)
    normalise(datasets)
    assert datasets == before


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "PatientID",
    ],
)
def test_a_missing_type_2_attribute_is_added_empty(keyword: str) -> None:
    copies, notes = normalise(samples.ct(**{keyword: None}))
    assert str(copies[0][keyword].value or "") == ""
    assert any(keyword in note for note in notes)


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "repaired"),
    [
        ("PatientBirthDate", "DA", "1960", ""),
        ("PatientBirthDate", "DA", "1960.01.02", "19600102"),
        ("StudyTime", "TM", "10:15", "1015"),
        ("PatientSex", "CS", "U", ""),
    ],
)
def test_a_malformed_value_is_repaired_with_a_note_that_does_not_show_it(
    keyword: str, vr: str, value: str, repaired: str
) -> None:
    datasets = samples.ct()
    for dataset in datasets:
        raw(dataset, keyword, vr, value)
    copies, notes = normalise([reread(dataset) for dataset in datasets])
    assert str(copies[0][keyword].value or "") == repaired
    assert any(keyword in note for note in notes)
    assert not any(value in note for note in notes if value != "U")


@pytest.mark.parametrize(
    ("keyword", "good", "bad"),
    [
        ("PatientWeight", b"70.5", b"70,5"),
        ("PatientAge", b"064Y", b"64  "),
        ("PatientSize", b"1.75", b"1m75"),
    ],
)
def test_a_number_that_is_none_is_left_out_with_a_note(
    keyword: str, good: bytes, bad: bytes
) -> None:
    datasets = samples.ct(**{keyword: good.decode()})
    sources = []
    for dataset in datasets:
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        assert good in buffer.getvalue()
        sources.append(pydicom.dcmread(io.BytesIO(buffer.getvalue().replace(good, bad))))
    copies, notes = normalise(sources)
    assert keyword not in copies[0]
    assert any(keyword in note for note in notes)
    assert keyword not in samples.segmentation_of(sources, samples.lungs())


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", PATIENT_NAME),
        ("ISO 2022 IR 100", PATIENT_NAME),
        ("ISO_IR 192", PATIENT_NAME),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_a_name_in_any_character_set_reaches_the_segmentation_intact(
    character_set: str | list[str], name: str
) -> None:
    datasets = [reread(d) for d in samples.ct(SpecificCharacterSet=character_set, PatientName=name)]
    segmentation = samples.segmentation_of(datasets, samples.lungs())
    written = reread(segmentation)
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert str(written.PatientName) == name


def test_a_misspelt_character_set_keeps_the_name_and_is_noted() -> None:
    datasets = samples.ct(SpecificCharacterSet="ISO_IR 100", PatientName=PATIENT_NAME)
    sources = [reread(dataset) for dataset in datasets]
    for source in sources:
        raw(source, "SpecificCharacterSet", "CS", "ISO-IR_100")
    copies, notes = normalise(sources)
    assert str(copies[0].PatientName) == PATIENT_NAME
    assert any("SpecificCharacterSet" in note for note in notes)


def test_text_in_nested_items_is_decoded_and_private_attributes_go() -> None:
    datasets = samples.ct(SpecificCharacterSet="ISO_IR 100")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Schädel"
    code.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "secret")
    for dataset in datasets:
        dataset.ProcedureCodeSequence = [copy.deepcopy(code)]
        dataset.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "secret")
    copies, notes = normalise([reread(dataset) for dataset in datasets])
    assert copies[0].ProcedureCodeSequence[0].CodeMeaning == "Schädel"
    assert "secret" not in str(copies[0])
    assert "private attributes: removed" in notes


def test_orientation_that_only_trembles_is_set_to_the_first_slices() -> None:
    datasets = samples.ct()
    for number, dataset in enumerate(datasets):
        dataset.ImageOrientationPatient = [1, 1e-5 * number, 0, 0, 1, 0]
    copies, notes = normalise(datasets)
    assert {tuple(c.ImageOrientationPatient) for c in copies} == {(1, 0, 0, 0, 1, 0)}
    assert any("ImageOrientationPatient" in note for note in notes)


def test_orientation_that_differs_is_refused() -> None:
    datasets = samples.ct()
    datasets[4].ImageOrientationPatient = [1, 0.002, 0, 0, 1, 0]
    assert refusal(datasets) == "input.mixed_orientation"


def test_an_empty_sop_class_is_taken_from_the_file_meta_information() -> None:
    datasets = samples.ct(SOPClassUID="")
    copies, notes = normalise(datasets)
    assert {c.SOPClassUID for c in copies} == {datasets[0].file_meta.MediaStorageSOPClassUID}
    assert any("SOPClassUID" in note for note in notes)


def test_a_lossy_source_carries_method_and_ratio() -> None:
    datasets = samples.ct(LossyImageCompression="01")
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.91"
    copies, notes = normalise(datasets)
    assert copies[0].LossyImageCompressionMethod == "ISO_15444_1"
    assert copies[0].LossyImageCompressionRatio
    assert len(notes) == 2
    complete = samples.ct(
        LossyImageCompression="01",
        LossyImageCompressionRatio="12",
        LossyImageCompressionMethod="ISO_10918_1",
    )
    segmentation = samples.segmentation_of(complete, samples.lungs())
    assert segmentation.LossyImageCompression == "01"
    assert segmentation.LossyImageCompressionRatio == 12
    assert segmentation.LossyImageCompressionMethod == "ISO_10918_1"


def test_a_missing_slice_thickness_becomes_the_distance_between_slices() -> None:
    copies, notes = normalise(samples.ct(SliceThickness=None))
    assert {float(c.SliceThickness) for c in copies} == {2.5}
    assert any("SliceThickness" in note for note in notes)


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("PixelSpacing", [2, 2], "input.mixed_pixel_spacing"),
        ("PatientID", "OTHER", "input.mixed_patients"),
        ("StudyInstanceUID", "1.2.3", "input.mixed_studies"),
        ("SeriesInstanceUID", "1.2.3", "input.mixed_series"),
        ("FrameOfReferenceUID", "1.2.3", "input.mixed_frame_of_reference"),
        ("Rows", 41, "input.mixed_matrix"),
    ],
)
def test_slices_that_do_not_belong_together_are_refused(
    keyword: str, value: object, reason: str
) -> None:
    datasets = samples.ct()
    setattr(datasets[5], keyword, value)
    assert refusal(datasets) == reason


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["1.02.3", ""])
def test_an_invalid_uid_is_refused(keyword: str, value: str) -> None:
    datasets = samples.ct()
    for dataset in datasets:
        raw(dataset, keyword, "UI", value)
    assert refusal(datasets) == "input.invalid_uid"


def test_a_series_without_a_frame_of_reference_is_refused() -> None:
    assert refusal(samples.ct(FrameOfReferenceUID=None)) == "input.no_frame_of_reference"


def test_no_source_is_refused() -> None:
    assert refusal([]) == "input.empty"


@pytest.mark.parametrize(
    ("vr", "value", "read"),
    [("UN", b"A^B" + b"C" * 100_000, "A^B" + "C" * 61), ("OB", b"A^B", "A^B"), ("SQ", b"", "")],
)
def test_a_name_of_any_encoding_and_length_becomes_one_that_can_be_written(
    vr: str, value: bytes, read: str
) -> None:
    datasets = samples.ct()[:1]
    tag = pydicom.tag.Tag("PatientName")
    datasets[0][tag] = pydicom.dataelem.RawDataElement(
        tag, vr, len(value), value, 0, False, True
    )
    (copy,), notes = normalise(datasets)
    assert str(reread(copy).PatientName) == read
    assert any("PatientName is not encoded as text" in note for note in notes)
