"""Where a model looked, of a volume and of a radiograph, cited by the group of each output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ai_models.types import FloatArray
from dicom_node.errors import GateRefused
from dicom_node.results import gate
from dicom_node.results.explanation import saliency_objects
from dicom_node.results.report import build_image_report
from dicom_node.results.request import ResultRequest
from tests.dicom_samples import radiograph
from tests.results import samples

GROUP, EXPLAINED = "125007", "130401"


def of_volume() -> tuple[ResultRequest, FloatArray]:
    headers = samples.headers(samples.ct())
    request = samples.request_for(
        headers, labels=(), template="pulmonary_embolism", outputs={"pulmonary_embolism": 0.83}
    )
    saliency = np.zeros(samples.SHAPE, np.float32)
    saliency[3:6, 10:20, 12:25] = 0.9
    return request, saliency


def of_radiograph() -> tuple[ResultRequest, FloatArray]:
    headers = samples.headers([radiograph(modality="DX")])
    request = samples.request_for(
        headers, labels=(), template="chest_radiograph",
        outputs={"pneumothorax": 0.83, "pleural_effusion": 0.4, "cardiomegaly": 0.1},
    )
    saliency = np.zeros((int(headers[0].Rows), int(headers[0].Columns)), np.float32)
    saliency[10:30, 8:20] = 0.9
    return request, saliency


def grey(request: ResultRequest) -> np.ndarray:
    first = request.source_images[0]
    shape = (len(request.frame_numbers), int(first.Rows), int(first.Columns))
    return np.full(shape, 90, np.uint8)


def cited(report: Dataset) -> list[str]:
    return [
        str(one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for group in samples.named(report, GROUP)
        for one in samples.named(group, EXPLAINED)
    ]


@pytest.mark.parametrize(
    ("method", "code"), [("grad_cam", "130403"), ("grad_cam_pp", "130403"), ("occlusion", "130404")]
)
def test_a_volume_gets_a_parametric_map_of_what_the_method_measures(method: str, code: str) -> None:
    request, saliency = of_volume()
    objects, explanations = saliency_objects(
        request, {"pulmonary_embolism": saliency}, method, grey(request)
    )
    assert [kind for kind, _ in objects] == ["parametric map"]
    shared = objects[0][1].SharedFunctionalGroupsSequence[0]
    definition = shared.RealWorldValueMappingSequence[0].QuantityDefinitionSequence[0]
    assert definition.ConceptCodeSequence[0].CodeValue == code
    report = build_image_report(request, series_number=9002, explanation=explanations)
    gate.check_report(report, request.source_images, [one for _, one in objects])
    assert cited(report) == [str(objects[0][1].SOPInstanceUID)]


def test_a_radiograph_gets_pictures_and_each_group_cites_that_of_its_output() -> None:
    request, saliency = of_radiograph()
    objects, explanations = saliency_objects(
        request,
        {"pleural_effusion": saliency, "pneumothorax": saliency[::-1]},
        "grad_cam", grey(request),
    )
    assert [kind for kind, _ in objects] == ["secondary capture"] * 2
    assert [one.InstanceNumber for _, one in objects] == [1, 2]
    report = build_image_report(request, series_number=9002, explanation=explanations)
    gate.check_report(report, request.source_images, [one for _, one in objects])
    by_output = {name: one.sop_instance_uid for name, one in explanations.items()}
    assert set(cited(report)) == set(by_output.values())
    for group in samples.named(report, GROUP):
        finding = str(samples.named(group, "121071")[0].ConceptCodeSequence[0].CodeMeaning)
        name = finding.lower().replace(" ", "_")
        assert cited_in(group) == [by_output[name]] if name in by_output else not cited_in(group)


def cited_in(group: Dataset) -> list[str]:
    return [
        str(one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for one in samples.named(group, EXPLAINED)
    ]


@pytest.mark.parametrize("build", [of_volume, of_radiograph])
def test_where_nothing_stands_out_nothing_is_shown(build: object) -> None:
    assert callable(build)
    request, saliency = build()
    objects, explanations = saliency_objects(
        request, {"pulmonary_embolism": saliency * 0}, "occlusion", grey(request)
    )
    assert objects == []
    assert explanations == {}
    report = build_image_report(request, series_number=9002, explanation=explanations)
    assert cited(report) == []


@pytest.mark.parametrize(
    ("value", "method", "reason"),
    [
        (1.5, "grad_cam", "gate.range"), (-0.1, "grad_cam", "gate.range"),
        (np.nan, "grad_cam", "gate.not_finite"), (0.5, "attention", "gate.quantity"),
    ],
)
def test_what_is_no_saliency_is_refused(value: float, method: str, reason: str) -> None:
    for request, saliency in (of_volume(), of_radiograph()):
        saliency[..., 0, 0] = value
        with pytest.raises(GateRefused) as caught:
            saliency_objects(request, {"a": saliency}, method, grey(request))
        assert caught.value.reason == reason


def test_saliency_on_another_grid_is_refused() -> None:
    request, saliency = of_volume()
    with pytest.raises(GateRefused) as caught:
        saliency_objects(request, {"a": saliency[1:]}, "occlusion", grey(request))
    assert caught.value.reason == "gate.shape"


def test_one_image_of_a_stack_is_shown_as_every_volume_is() -> None:
    request, saliency = of_volume()
    one = replace(request, source_images=request.source_images[:1], frame_numbers=[1])
    objects, _ = saliency_objects(one, {"a": saliency[4:5]}, "occlusion", grey(one))
    assert [kind for kind, _ in objects] == ["parametric map"]
