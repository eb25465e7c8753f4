from __future__ import annotations

from dataclasses import replace

from pydicom.dataset import Dataset

from dicom_node.results import legend
from dicom_node.results.drawing import drawable
from tests.results import samples

REQUEST = samples.request_for(samples.ct())


def test_labels_on_other_images_are_named_as_such_while_they_are_few() -> None:
    items = legend.contour_legend(REQUEST, {1}, {1, 2}, {1: "2400 ml"})
    assert [item.text for item in items] == ["Right lung 2400 ml", "Left lung (not on this image)"]
    labels = tuple(replace(samples.RIGHT, value=n, name=f"label {n}") for n in range(1, 101))
    many = replace(REQUEST, labels=labels)
    assert len(legend.contour_legend(many, {5}, set(range(1, 101)), {})) == 1


def test_a_picture_says_that_nobody_verified_it_in_the_language_of_the_result() -> None:
    for language, words in (("en", "not verified"), ("de", "nicht geprüft"), ("fr", "non vérifié")):
        rows = legend.provenance(replace(REQUEST, language=language))
        assert words in rows[0][0].text
        assert rows[-1][0].text == "DEMONSTRATION, NOT FOR CLINICAL USE"


def test_chinese_is_drawn_where_there_is_a_font_and_english_elsewhere() -> None:
    words = legend.phrase(replace(REQUEST, language="zh"), "not verified")
    has_font = drawable("未经核实", "?") != "?"
    assert words == ("AI结果，未经核实" if has_font else "AI result, not verified")


def test_an_image_without_numbers_is_named_without_them() -> None:
    assert legend.place(REQUEST, Dataset(), None)[0].text == "Series -, image -"
    image = Dataset()
    image.SeriesNumber, image.InstanceNumber = 4, 48
    assert legend.place(REQUEST, image, 7)[0].text == "Series 4, image 48, frame 7"
