from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.results.key_objects import IMAGE_LIMIT, build_key_objects, chosen_slices
from tests.dicom_samples import radiograph
from tests.results import samples


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.ct()


def selected(document: Dataset) -> list[str]:
    return [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in document.ContentSequence
        if item.ValueType == "IMAGE"
    ]


def description(document: Dataset) -> str:
    return str(samples.named(document, "113012")[0].TextValue)


def built(datasets: list[Dataset]) -> Dataset:
    document = build_key_objects(samples.request_for(datasets), samples.lungs(), series_number=9007)
    assert document is not None
    return document


def test_the_images_with_a_finding_are_selected_and_no_others(datasets: list[Dataset]) -> None:
    expected = [str(datasets[index].SOPInstanceUID) for index in range(1, 9)]
    document = built(datasets)
    assert document.ConceptNameCodeSequence[0].CodeValue == "113000"
    assert selected(document) == expected
    evidence = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert [item.ReferencedSOPInstanceUID for item in evidence.ReferencedSOPSequence] == expected


def test_the_description_names_each_finding_and_says_that_it_is_a_demonstration(
    datasets: list[Dataset],
) -> None:
    assert description(built(datasets)) == (
        "DEMONSTRATION, NOT FOR CLINICAL USE. All images on which Lungs in CT (demonstration) "
        "found: Right lung (6), Left lung (7)."
    )
    assert "DEMONSTRATION" in built(datasets).SeriesDescription


@pytest.mark.parametrize(
    ("language", "words"),
    [("de", "Alle Bilder, auf denen"), ("fr", "Toutes les images"), ("zh", "全部图像")],
)
def test_the_description_is_in_the_language_of_the_result(
    datasets: list[Dataset], language: str, words: str
) -> None:
    request = samples.request_for(datasets, language=language)
    document = build_key_objects(request, samples.lungs(), series_number=9007)
    assert document is not None and words in description(document)


def test_a_device_made_the_selection(datasets: list[Dataset]) -> None:
    uid = samples.named(built(datasets), "121012")[0].UID
    assert uid == samples.EQUIPMENT.device_uid


def test_image_items_have_no_name(datasets: list[Dataset]) -> None:
    images = [item for item in built(datasets).ContentSequence if item.ValueType == "IMAGE"]
    assert all("ConceptNameCodeSequence" not in item for item in images)


def test_nothing_found_selects_nothing(datasets: list[Dataset]) -> None:
    request = samples.request_for(datasets)
    assert build_key_objects(request, np.zeros(samples.SHAPE, np.uint8), series_number=9007) is None


def test_frames_of_an_enhanced_source_are_named_by_their_numbers() -> None:
    order = [3, 1, 2, 0, 4, 5, 6, 7, 8, 9]
    source = samples.enhanced(order)
    frame_numbers = [order.index(number) + 1 for number in range(10)]
    request = samples.request_for([source], frame_numbers=frame_numbers)
    mask = samples.lungs()
    mask[3:] = 0
    document = build_key_objects(request, mask, series_number=9007)
    assert document is not None
    reference = document.ContentSequence[-1].ReferencedSOPSequence[0]
    assert selected(document) == [source.SOPInstanceUID]
    assert list(reference.ReferencedFrameNumber) == [2, 3]


def test_a_projection_image_with_a_finding_is_selected() -> None:
    image = radiograph()
    mask = np.zeros((1, image.Rows, image.Columns), np.uint8)
    mask[0, 3:9, 4:8] = 1
    document = build_key_objects(samples.request_for([image]), mask, series_number=9007)
    assert document is not None
    assert selected(document) == [image.SOPInstanceUID]


def test_of_a_long_series_the_largest_sections_and_an_even_spread_are_selected() -> None:
    areas = np.zeros((600, 2), int)
    areas[100:500, 0] = 10
    areas[123, 0] = 90
    areas[300:310, 1] = 5
    areas[307, 1] = 6
    chosen = chosen_slices(areas)
    assert len(chosen) <= IMAGE_LIMIT
    assert {100, 123, 307, 499} <= set(chosen)
    assert max(np.diff([c for c in chosen if c not in (123, 307)])) <= 10
    assert all(areas[index].any() for index in chosen)


def test_the_description_says_how_many_of_how_many_were_selected() -> None:
    datasets = samples.ct(shape=(60, 8, 8))
    mask = np.ones((60, 8, 8), np.uint8)
    document = build_key_objects(samples.request_for(datasets), mask, series_number=9007)
    assert document is not None
    assert f"{len(selected(document))} of 60 images" in description(document)


def test_the_same_input_gives_the_same_document(datasets: list[Dataset]) -> None:
    assert built(datasets) == built(datasets)


def test_a_model_that_is_no_demonstration_is_not_called_one(datasets: list[Dataset]) -> None:
    algorithm = replace(samples.ALGORITHM, name="Lungs", demonstration=False)
    request = samples.request_for(datasets, algorithm=algorithm)
    document = build_key_objects(request, samples.lungs(), series_number=9007)
    assert document is not None
    assert "demonstration" not in str(document).lower()
