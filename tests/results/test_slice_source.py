from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.results.slice_source import (
    frame_item,
    patient_orientation,
    pixel_spacing,
    source_of,
)
from tests.dicom_samples import radiograph
from tests.results import samples


@pytest.mark.parametrize(
    ("cosines", "letters"),
    [
        ((1, 0, 0, 0, 1, 0), ["L", "P"]),
        ((-1, 0, 0, 0, 1, 0), ["R", "P"]),
        ((0, 1, 0, 0, 0, -1), ["P", "F"]),
        ((np.cos(0.5), np.sin(0.5), 0, 0, 0, -1), ["LP", "F"]),
        ((np.cos(0.1), np.sin(0.1), 0, 0, 0, -1), ["L", "F"]),
    ],
)
def test_rows_and_columns_lead_where_their_direction_cosines_say(
    cosines: tuple[float, ...], letters: list[str]
) -> None:
    image = Dataset()
    image.ImageOrientationPatient = [f"{value:.6g}" for value in cosines]
    assert patient_orientation(image, None) == letters


def test_a_radiograph_says_itself_where_it_leads_or_nothing_is_known() -> None:
    assert patient_orientation(radiograph(), None) == ["L", "F"]
    assert patient_orientation(radiograph(PatientOrientation=None), None) == []


def test_a_frame_has_its_own_groups_and_the_shared_ones() -> None:
    image = samples.enhanced()
    assert patient_orientation(image, 3) == ["L", "P"]
    assert pixel_spacing(image, 3) == [1.0, 1.25]
    position = frame_item(image, 3, "PlanePositionSequence")
    assert position is image.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    assert frame_item(image, 3, "FrameVOILUTSequence") is None


def test_a_slice_is_an_image_or_a_frame_of_one() -> None:
    datasets, image = samples.ct(), samples.enhanced()
    assert source_of(samples.request_for(datasets), datasets, 4) == (datasets[4], None)
    frames = [4, 2, 1, 3, 5, 6, 7, 8, 9, 10]
    request = samples.request_for([image], frame_numbers=frames)
    assert source_of(request, [image], 0) == (image, 4)


def test_a_radiograph_without_pixel_spacing_has_none() -> None:
    assert pixel_spacing(radiograph(PixelSpacing=None), None) is None
