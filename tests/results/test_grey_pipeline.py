from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.results.grey_pipeline import Rescale, Window, write_grey_pipeline
from tests.results import samples


def image(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def pipeline(*images: Dataset, frames: tuple[int | None, ...] | None = None) -> Dataset:
    state = Dataset()
    shown = list(zip(images, frames or [None] * len(images), strict=True))
    references = [image(ReferencedSOPInstanceUID=f"1.{n}") for n in range(len(images))]
    write_grey_pipeline(state, shown, references)
    return state


def rescaled(slope: float, intercept: float, center: float, width: float) -> Dataset:
    return image(
        RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU",
        WindowCenter=[center, 40], WindowWidth=[width, 400],
    )  # fmt: skip


def linear(window: Window, values: np.ndarray) -> np.ndarray:
    return np.clip((values - (window.center - 0.5)) / (window.width - 1) + 0.5, 0, 1)


def test_one_rescale_and_one_window_hold_for_all_images() -> None:
    state = pipeline(*[rescaled(1, -1024, -600, 1500)] * 3)
    assert (state.RescaleSlope, state.RescaleIntercept, state.RescaleType) == (1, -1024, "HU")
    (voi,) = state.SoftcopyVOILUTSequence
    assert (voi.WindowCenter, voi.WindowWidth) == (-600, 1500)
    assert "ReferencedImageSequence" not in voi
    assert state.PresentationLUTShape == "IDENTITY"


def test_windows_that_differ_name_their_images() -> None:
    state = pipeline(rescaled(1, 0, 100, 200), rescaled(1, 0, 50, 80), rescaled(1, 0, 100, 200))
    named = [
        [one.ReferencedSOPInstanceUID for one in voi.ReferencedImageSequence]
        for voi in state.SoftcopyVOILUTSequence
    ]
    assert named == [["1.0", "1.2"], ["1.1"]]


def test_where_rescales_differ_windows_are_in_stored_values() -> None:
    state = pipeline(rescaled(2, 10, 100, 200), rescaled(4, 0, 100, 200))
    assert "RescaleSlope" not in state
    assert len(state.SoftcopyVOILUTSequence) == 2


@pytest.mark.parametrize("slope", [0.25, 1.0, 3.5])
def test_a_window_of_stored_values_shows_what_the_window_shows(slope: float) -> None:
    window, rescale = Window(100, 200, "LINEAR"), Rescale(slope, -30, "US")
    stored = np.linspace(-500, 2000, 777)
    shown = linear(window.of_stored_values(rescale), stored)
    assert shown == pytest.approx(linear(window, stored * slope - 30), abs=1e-9)


def test_low_values_that_are_white_stay_white() -> None:
    assert (
        pipeline(image(PhotometricInterpretation="MONOCHROME1")).PresentationLUTShape == "INVERSE"
    )


def test_tables_of_a_radiograph_are_carried() -> None:
    lut = image(LUTDescriptor=[2, 0, 8], LUTData=[0, 255])
    state = pipeline(image(ModalityLUTSequence=[lut], VOILUTSequence=[lut, lut]))
    assert state.ModalityLUTSequence[0].LUTDescriptor == [2, 0, 8]
    assert len(state.SoftcopyVOILUTSequence[0].VOILUTSequence) == 1


def test_the_groups_of_an_enhanced_image_are_read() -> None:
    enhanced = samples.enhanced()
    voi = image(WindowCenter=300, WindowWidth=50)
    enhanced.PerFrameFunctionalGroupsSequence[3].FrameVOILUTSequence = [voi]
    state = pipeline(enhanced, enhanced, frames=(2, 4))
    assert state.RescaleIntercept == -1024
    (item,) = state.SoftcopyVOILUTSequence
    assert item.WindowCenter == 300
    assert [one.ReferencedSOPInstanceUID for one in item.ReferencedImageSequence] == ["1.1"]


def test_a_window_that_cannot_be_one_is_left_out() -> None:
    assert "SoftcopyVOILUTSequence" not in pipeline(image(WindowCenter=1, WindowWidth=0))
