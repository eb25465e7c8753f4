from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.results.report_text import report_text


def coded(value: str, meaning: str) -> list[Dataset]:
    code = Dataset()
    code.CodeValue, code.CodeMeaning, code.CodingSchemeDesignator = value, meaning, "99TEST"
    return [code]


def item(kind: str, value: str, meaning: str, *children: Dataset) -> Dataset:
    one = Dataset()
    one.ValueType = kind
    one.ConceptNameCodeSequence = coded(value, meaning)
    if children:
        one.ContentSequence = list(children)
    return one


def code(value: str, name: str, meaning: str, *children: Dataset) -> Dataset:
    one = item("CODE", value, name, *children)
    one.ConceptCodeSequence = coded("1", meaning)
    return one


def number(name: str, value: str, unit: str, *children: Dataset) -> Dataset:
    one, measured = item("NUM", "2", name, *children), Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = coded(unit, "unit in words")
    one.MeasuredValueSequence = [measured]
    return one


def text(value: str, name: str, words: str) -> Dataset:
    one = item("TEXT", value, name)
    one.TextValue = words
    return one


def report() -> Dataset:
    mean = code("121401", "Derivation", "Mean")
    right = code("272741003", "Laterality", "Right")
    group = item(
        "CONTAINER", "125007", "Measurement Group",
        text("112039", "Tracking Identifier", "lungs-ct Right lung"),
        code("121071", "Finding", "Lung"),
        code("363698007", "Finding Site", "Lung", right),
        number("Volume", "745.7", "ml"),
        number("Attenuation", "-840", "[hnsf'U]", mean),
        code("9", "Margin", "Smooth"),
    )  # fmt: skip
    return item(
        "CONTAINER", "126000", "Imaging Measurement Report",
        code("121049", "Language of Content Item and Descendants", "English"),
        item("CONTAINER", "111028", "Image Library", number("Slices", "12", "1")),
        item("CONTAINER", "126010", "Imaging Measurements", group),
        item("CONTAINER", "C0034375", "Qualitative Evaluations",
             text("121106", "Comment", "Two lungs were found."),
             text("121106", "Comment", "Two lungs were found."),
             number("Probability of disease", "0.7", "{ratio}")),
    )  # fmt: skip


def test_a_group_is_a_finding_with_its_side_its_numbers_and_its_terms() -> None:
    finding = report_text(report()).findings[1]
    assert finding.title == "Lung, Right"
    assert finding.rows == (
        ("Volume", "745.7 ml"),
        ("Attenuation, Mean", "-840 HU"),
        ("Margin", "Smooth"),
    )


def test_sentences_are_given_once_and_numbers_of_the_whole_image_stand_apart() -> None:
    text_ = report_text(report())
    assert text_.title == "Imaging Measurement Report"
    assert text_.sentences == ("Two lungs were found.",)
    assert text_.findings[0].rows == (("Probability of disease", "0.7 unit in words"),)


def test_what_is_for_machines_is_left_out() -> None:
    shown = str(report_text(report()))
    assert "lungs-ct" not in shown
    assert "Language" not in shown
    assert "Slices" not in shown
