from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ai_models.types import Image
from dicom_node.imaging.display import displayed, displayed_image
from tests.results import samples

RAMP_HU = np.arange(-1400, 1000, dtype=np.int16).reshape(2, 30, 40)


def header(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def ends(pixels: np.ndarray) -> tuple[int, int]:
    """The last value shown black and the first one shown white."""
    shown = pixels.reshape(-1)
    values = RAMP_HU.reshape(-1)
    assert (np.diff(shown.astype(int)) >= 0).all()
    return int(values[shown == 0].max()), int(values[shown == 255].min())


@pytest.mark.parametrize(
    ("values", "black", "white"),
    [
        ({"WindowCenter": [100, -600], "WindowWidth": [200, 1500]}, 0, 199),
        ({"WindowCenter": 100, "WindowWidth": 200, "BodyPartExamined": "CHEST"}, 0, 199),
        ({"BodyPartExamined": "CHEST"}, -1347, 146),
        ({"BodyPartExamined": "ABDOMEN"}, -160, 239),
        ({"WindowCenter": 100, "WindowWidth": 0}, -160, 239),
    ],
    ids=["first window", "window before body part", "chest", "abdomen", "unusable window"],
)
def test_a_ct_is_shown_through_its_window_or_that_of_its_body_part(
    values: dict[str, object], black: int, white: int
) -> None:
    pixels = displayed(RAMP_HU, "HU", header(**values))
    assert pixels.dtype == np.uint8
    assert ends(pixels) == (pytest.approx(black, abs=3), pytest.approx(white, abs=3))


def test_lungs_are_shown_in_the_lung_window_whatever_the_header_says() -> None:
    soft_tissue = header(WindowCenter=40, WindowWidth=400)
    assert ends(displayed(RAMP_HU, "HU", soft_tissue, samples.LABELS))[1] > 140


def test_the_window_of_an_enhanced_image_is_that_of_its_frames() -> None:
    image = samples.enhanced()
    voi = header(WindowCenter=500, WindowWidth=100)
    image.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = [voi]
    assert ends(displayed(RAMP_HU, "HU", image)) == (450, 549)


def test_without_a_window_a_single_bright_voxel_does_not_darken_an_mr() -> None:
    values = np.tile(np.linspace(0, 500, 40, dtype=np.float32), (2, 30, 1))
    values[0, 0, 0] = 30000
    pixels = displayed(values, "arbitrary", header())
    assert pixels.min() == 0
    assert pixels[1].max() == 255


def test_an_image_whose_low_values_are_white_is_inverted() -> None:
    window = {"WindowCenter": 0, "WindowWidth": 400}
    plain = displayed(RAMP_HU, "arbitrary", header(**window))
    inverted = displayed(
        RAMP_HU, "arbitrary", header(PhotometricInterpretation="MONOCHROME1", **window)
    )
    assert (plain == 255 - inverted).all()


def test_a_constant_volume_is_shown_without_a_warning() -> None:
    with np.errstate(all="raise"):
        assert displayed(np.zeros((2, 3, 4), np.int16), "arbitrary", header()).shape == (2, 3, 4)


def test_a_radiograph_is_one_slice_of_what_it_displays() -> None:
    array = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert displayed_image(Image(array, None)).tolist() == [[[0, 128, 255]]]
