"""Every template on every compatible prediction, in every language, read back and rendered."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from ai_models.types import Code, Label
from dicom_node.results.declined import build_not_analysed_report
from dicom_node.results.report import (
    build_image_report,
    build_planar_report,
    build_text_report,
    build_volumetric_report,
)
from dicom_node.results.request import ResultRequest
from sr_templates.entries import LANGUAGES
from sr_templates.report_template import ReportTemplate, Step
from sr_templates.template import load_template
from tests import dicom_samples
from tests.conformance import validators
from tests.results import samples
from tests.sr_templates.test_template import TEMPLATES

NODULES = tuple(
    Label(
        value,
        f"Nodule {value}",
        Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        Code("27925004", "SCT", "Nodule"),
        (255, value, 0),
        anatomic_region=samples.LUNG,
    )
    for value in (1, 2)
)
SOURCES: dict[str, list[Dataset]] = {
    "CT": samples.ct(),
    "DX": [dicom_samples.radiograph()],
    "MR": dicom_samples.mr_series(Manufacturer="SynthCo"),
}
MASK = samples.lungs()
FINDING_CATEGORY, ALGORITHM_FAMILY = "276214006", "111000"
# A failing example is not made smaller: each try builds and reads a whole report.
FEW = settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])


class Measured:
    """What was measured of one label: attributes by the names of the template."""

    def __init__(self, numbers: dict[str, float]) -> None:
        self.volume_ml = self.mean_hu = self.standard_deviation_hu = 1.0
        self.voxel_count = 1
        self.__dict__.update(numbers)


def source_of(template: ReportTemplate) -> list[Dataset]:
    return next(
        SOURCES[modality] for modality in SOURCES if modality in template.procedure_reported
    )


def named_numbers(template: ReportTemplate, group: Any) -> st.SearchStrategy[dict[str, float]]:
    """Numbers that ``group`` may be given: all that it needs and any that are optional."""
    needed, optional = {}, {}
    for name, key in group.measurements.items():
        quantity = template.quantities[key]
        low = -1000.0 if quantity.minimum is None else quantity.minimum
        high = 3000.0 if quantity.maximum is None else quantity.maximum
        (optional if quantity.optional else needed)[name] = st.floats(low, high)
    for name in () if not getattr(group, "largest_of", None) else group.largest_of.terms:
        needed[name] = st.floats(0, 1)
    return st.fixed_dictionaries(needed, optional=optional)


def image_numbers(template: ReportTemplate) -> st.SearchStrategy[dict[str, float]]:
    groups = [named_numbers(template, group) for group in template.image]
    together = st.tuples(*groups).map(
        lambda parts: {k: v for part in parts for k, v in part.items()}
    )
    return together.filter(bool)


def read_back(report: Dataset) -> Any:
    import highdicom as hd

    buffer = io.BytesIO()
    report.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return hd.sr.srread(buffer).content


def code_of(code: Code) -> tuple[str, str, str]:
    return (code.value, code.scheme, code.meaning)


def read_code(code: Any) -> tuple[str, str, str]:
    return (code.value, code.scheme_designator, code.meaning)


def expected(template: ReportTemplate, group: Any, numbers: dict[str, float]) -> tuple[Any, Any]:
    """Measurements and evaluations that a group must carry, worked out anew."""
    measurements = [
        (code_of(quantity.concept), round(numbers[name], quantity.decimals), quantity.unit.value)
        for name, key in group.measurements.items()
        for quantity in (template.quantities[key],)
        if name in numbers
    ]
    evaluations = []
    for name, key in group.evaluations.items():
        if name in numbers:
            scale = template.scales[key]
            step: Step = next(s for s in scale.steps if numbers[name] >= (s.at_least or -1e9))
            evaluations.append((code_of(scale.concept), code_of(step.value)))
    largest_of = getattr(group, "largest_of", None)
    if largest_of is not None:
        best = max(numbers[name] for name in largest_of.terms)
        name = next(one for one in largest_of.terms if numbers[one] == best)
        term = largest_of.terms[name]
        if term.negative and largest_of.negative_from and best < largest_of.negative_from:
            term = largest_of.otherwise
        evaluations.append((code_of(largest_of.concept), code_of(term.value)))
    return measurements, evaluations


def found(group: Any) -> tuple[Any, Any]:
    """What highdicom reads; it takes every code of a group for an evaluation."""
    measurements = [
        (read_code(one.name), one.value, one.unit.value) for one in group.get_measurements()
    ]
    evaluations = [
        (read_code(one.name), read_code(one.value))
        for one in group.get_qualitative_evaluations()
        if one.name.value not in (FINDING_CATEGORY, ALGORITHM_FAMILY)
    ]
    return measurements, evaluations


def request_of(template: ReportTemplate, **changes: Any) -> ResultRequest:
    return samples.request_for(source_of(template), template=template.name, **changes)


def volumetric(template: ReportTemplate, numbers: dict[str, float], language: str) -> Dataset:
    request = request_of(template, labels=NODULES, language=language)
    segmentation = samples.segmentation_of(SOURCES["CT"], MASK, labels=NODULES)
    measurements = {1: Measured(numbers), 2: Measured(numbers)}
    return build_volumetric_report(request, segmentation, MASK, measurements, series_number=9002)


@pytest.mark.parametrize("name", [n for n in TEMPLATES if load_template(n).volumetric is not None])
def test_groups_on_segments_read_back_as_they_were_given(name: str) -> None:
    template = load_template(name)
    group = template.volumetric
    assert group is not None

    @FEW
    @given(numbers=named_numbers(template, group), language=st.sampled_from(LANGUAGES))
    def check(numbers: dict[str, float], language: str) -> None:
        read = read_back(volumetric(template, numbers, language))
        groups = read.get_volumetric_roi_measurement_groups()
        assert len(groups) == 2 + (group.total is not None)
        for one in groups[:2]:
            assert found(one) == expected(template, group, numbers)

    check()


@pytest.mark.parametrize("name", [n for n in TEMPLATES if load_template(n).planar is not None])
@pytest.mark.parametrize("language", LANGUAGES)
def test_groups_on_regions_read_back_as_they_were_given(name: str, language: str) -> None:
    template = load_template(name)
    request = request_of(template, labels=NODULES, language=language)
    report = build_planar_report(request, MASK, series_number=9003)
    assert report is not None
    assert template.planar is not None
    groups = read_back(report).get_planar_roi_measurement_groups()
    concepts = [
        code_of(template.quantities[k].concept) for k in template.planar.measurements.values()
    ]
    for one in groups:
        assert [measurement[0] for measurement in found(one)[0]] == concepts
    first = dict(
        zip(template.planar.measurements, (m[1] for m in found(groups[0])[0]), strict=True)
    )
    row_mm, column_mm = (float(value) for value in source_of(template)[0].PixelSpacing)
    assert first["area_mm2"] == round(22 * row_mm * 14 * column_mm, 1)
    if "long_axis_mm" in first:
        long_axis_mm = ((22 * row_mm) ** 2 + (14 * column_mm) ** 2) ** 0.5
        assert first["long_axis_mm"] == pytest.approx(long_axis_mm, abs=0.05)


@pytest.mark.parametrize("name", [n for n in TEMPLATES if load_template(n).image])
def test_groups_on_images_read_back_as_they_were_given(name: str) -> None:
    template = load_template(name)

    @FEW
    @given(numbers=image_numbers(template), language=st.sampled_from(LANGUAGES))
    def check(numbers: dict[str, float], language: str) -> None:
        request = request_of(template, outputs=numbers, labels=(), language=language)
        read = read_back(build_image_report(request, series_number=9002))
        wanted = [expected(template, group, numbers) for group in template.image]
        groups = read.get_image_measurement_groups()
        assert [found(one) for one in groups] == [one for one in wanted if any(one)]

    check()


def example(template: ReportTemplate, language: str) -> list[Dataset]:
    """Every kind of report of one template, with all that it can say."""
    numbers = {
        name: min(template.quantities[key].maximum or 200.0, 200.0) / 2
        for group in (template.volumetric, *template.image)
        if group is not None
        for name, key in group.measurements.items()
    }
    reports = []
    if template.volumetric is not None:
        planar = build_planar_report(
            request_of(template, labels=NODULES, language=language), MASK, series_number=9003
        )
        assert planar is not None
        reports += [volumetric(template, numbers, language), planar]
    if template.image:
        request = request_of(template, outputs=numbers, labels=(), language=language)
        reports.append(build_image_report(request, series_number=9002))
    if not template.has_groups:
        request = request_of(template, labels=(), language=language)
        reports.append(build_text_report(request, "Lungs clear.", series_number=9012))
    assert reports
    return reports


@pytest.mark.parametrize("name", [*TEMPLATES, "declined"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_dcmtk_renders_every_report_in_every_language(
    name: str, language: str, tmp_path: Path
) -> None:
    if name == "declined":
        request = samples.request_for(SOURCES["CT"], labels=(), language=language)
        reports = [build_not_analysed_report(request, "input.x", "why", series_number=1)]
    else:
        reports = example(load_template(name), language)
    complaints = []
    for number, report in enumerate(reports):
        report.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        try:
            complaints += validators.dsrdump(tmp_path / f"{number}.dcm")
            if language == "zh":
                complaints += validators.dciodvfy(tmp_path / f"{number}.dcm")
        except validators.ToolMissing as missing:
            pytest.skip(str(missing))
    assert validators.unexplained(complaints) == []
