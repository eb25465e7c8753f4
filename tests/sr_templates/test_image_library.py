from __future__ import annotations

from pydicom.dataset import Dataset

from sr_templates.image_library import add_images, image_library
from tests.results import samples
from tests.results.samples import named


def library_of(images: list[Dataset]) -> Dataset:
    report = Dataset()
    report.ContentSequence = [image_library(images[0])]
    add_images(report, images)
    return report


def values(report: Dataset, code: str) -> list[float]:
    return [float(i.MeasuredValueSequence[0].NumericValue) for i in named(report, code)]


def test_what_images_share_stands_once_and_each_is_listed() -> None:
    datasets = samples.ct()
    report = library_of(datasets)
    assert values(report, "110910") == [40]
    assert values(report, "110911") == [48]
    assert values(report, "111026") == [1.25]
    assert values(report, "111066") == [1.0]
    assert values(report, "110904") == [1.0]
    listed = [
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in named(report, "260753009")
    ]
    assert listed == [dataset.SOPInstanceUID for dataset in datasets]


def test_an_enhanced_image_is_described_from_its_shared_groups() -> None:
    report = library_of([samples.enhanced()])
    assert values(report, "111026") == [1.25]
    assert values(report, "112225") == [2.5]
    assert len(named(report, "260753009")) == 1


def test_of_images_that_do_not_agree_only_the_modality_is_told() -> None:
    report = Dataset()
    report.ContentSequence = [image_library(samples.ct()[0], images_agree=False)]
    add_images(report, samples.ct())
    assert len(named(report, "121139")) == 1
    assert values(report, "110910") == []
    assert len(named(report, "260753009")) == 10
