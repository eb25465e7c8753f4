"""The objects of the matrix: one or more of each kind and form, by the project's own builders."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from ai_models.array.labels import overlapping, voxels_by_label
from ai_models.types import Code, FloatArray, Label, LabelMap
from dicom_node.results.evidence import references_to
from dicom_node.results.form_builders import Workbench
from dicom_node.results.profile import DOCUMENTS
from dicom_node.results.rejection_note import build_rejection_note
from dicom_node.results.report import (
    build_image_report,
    build_planar_report,
    build_text_report,
    build_volumetric_report,
)
from dicom_node.results.request import SERIES_NUMBERS, ResultRequest
from dicom_node.results.secondary_capture import build_saliency_captures
from dicom_node.results.segmentation import build_probability_map
from tests.acceptance.compatibility.several_series import on_several_series
from tests.acceptance.compatibility.specimen import Specimen
from tests.dicom_samples import mr_series, radiograph
from tests.results import kept_samples, samples
from tests.results.detected import reported

CT, ENHANCED_CT, RADIOGRAPH, MR = "CT", "enhanced CT", "radiograph", "MR"
# Forms of a result with a segmentation, and of one without.
FORMS_OF_FINDINGS = (
    ("segmentation", "labelmap"),
    ("structure set", "structure_set"),
    ("presentation state", "presentation_state"),
    ("secondary capture", "pictures"),
    ("key objects", "key_objects"),
    ("pdf", "pdf"),
    ("volumetric report", "comprehensive_3d+labelmap"),
    ("volumetric report", "comprehensive_3d+no_segmentation"),
    *(("volumetric report", document) for document in list(DOCUMENTS)[1:]),
    *(("planar report", document) for document in list(DOCUMENTS)[1:]),
)
FORMS_ON_RADIOGRAPH = (
    ("presentation state", "presentation_state"),
    ("secondary capture", "pictures"),
    ("key objects", "key_objects"),
)
FORMS_OF_AN_ANSWER = (
    ("secondary capture", "notice"),
    *(("negative report", document) for document in list(DOCUMENTS)[1:]),
)
FORMS_OF_A_DRAFT = (
    ("secondary capture", "notice"),
    *(("text report", document) for document in list(DOCUMENTS)[1:]),
)
FORMS_OF_A_CLASSIFICATION = (
    ("key objects", "key_objects"),
    *(("image report", document) for document in list(DOCUMENTS)[1:]),
)
FORMS_OF_AN_EXPLANATION = (("secondary capture", "pictures"),)
NODULES = tuple(
    Label(
        value,
        f"Nodule {value}",
        Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        Code("27925004", "SCT", "Nodule"),
        (255, 40 * value, 0),
        anatomic_region=samples.LUNG,
    )
    for value in (1, 2)
)
Kept = list[tuple[str, Dataset]]
Forms = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Nodule:
    """What the report on nodules takes of each."""

    long_axis_mm: float
    short_axis_mm: float
    volume_ml: float
    mean_hu: float
    volume_doubling_time_d: float
    solid_fraction: float = 0.95
    standard_deviation_hu: float = 120.0
    voxel_count: int = 100


MEASURED = {1: Nodule(9.5, 6.0, 0.30, -40.0, 400.0), 2: Nodule(5.0, 4.5, 0.05, -600.0, 90.0)}


def specimens() -> list[Specimen]:
    """All of them; each call makes new source series."""
    return [
        *_findings(),
        *_nodules(),
        *_overlapping(),
        *_detections(),
        *_answers(),
        *_drafts(),
        *_maps(),
        *_on_enhanced_ct(),
        *_on_radiograph(),
        *_on_mr(),
        *on_several_series(NODULES, MEASURED),
    ]


def _findings() -> Iterator[Specimen]:
    source = samples.ct()
    headers = _headers(source)
    voxels = _voxels(samples.lungs())
    kept = kept_samples.lungs(headers)
    for kind, dataset in kept:
        found = voxels if kind == "segmentation" else {}
        drawn = 2 if kind == "planar report" else 0
        yield Specimen(kind, CT, dataset, source, voxels=found, measurements=drawn)
    yield from _forms(kept, FORMS_OF_FINDINGS, source, CT, voxels=voxels, measurements=2)
    request = samples.request_for(headers)
    note = build_rejection_note(
        request,
        references_to([dataset for _, dataset in kept]),
        series_number=SERIES_NUMBERS["rejection note"],
    )
    yield Specimen("rejection note", CT, note, source)


def _overlapping() -> Iterator[Specimen]:
    """Labels of which one lies within the other: viewers must show both whole."""
    source = samples.ct()
    headers = _headers(source)
    lungs = samples.lungs()
    part = lungs == 1
    part[:, :20] = False
    mask = overlapping({1: lungs == 1, 2: part}, lungs.shape)
    segmentation = samples.segmentation_of(headers, mask, labels=NODULES)
    counts = voxels_by_label(mask)
    voxels = {value: int(counts[value]) for value in (1, 2)}
    yield Specimen("segmentation", f"{CT}, overlapping", segmentation, source, voxels=voxels)


def _detections() -> Iterator[Specimen]:
    made = reported()
    counts = voxels_by_label(made.found.label_map)
    voxels = {value: int(counts[value]) for value in (1, 2, 3)}
    of = f"{CT}, detections"
    source = made.source
    yield Specimen("segmentation", of, made.segmentation, source, voxels=voxels)
    yield Specimen("volumetric report", of, made.volumetric, source)
    yield Specimen("planar report", of, made.planar, source, measurements=3)


def _drafts() -> Iterator[Specimen]:
    source = samples.ct()
    headers = _headers(source)
    request = samples.request_for(headers, labels=(), template="draft")
    report = build_text_report(
        request, "The lungs are clear.", series_number=SERIES_NUMBERS["text report"]
    )
    of = f"{CT}, draft"
    yield Specimen("text report", of, report, source)
    yield from _forms([("text report", report)], FORMS_OF_A_DRAFT, source, of, voxels={})


def _answers() -> Iterator[Specimen]:
    source = samples.ct()
    for kept in (
        kept_samples.negative(_headers(source)),
        kept_samples.not_analysed(_headers(source)),
    ):
        for kind, dataset in kept:
            yield Specimen(kind, CT, dataset, source)
    yield from _forms(
        kept_samples.negative(_headers(source)), FORMS_OF_AN_ANSWER, source, CT, voxels={}
    )


def _maps() -> Iterator[Specimen]:
    source = samples.ct()
    headers = _headers(source)
    kept = kept_samples.embolism(headers)
    for kind, dataset in kept:
        yield Specimen(kind, f"{CT}, pulmonary embolism", dataset, source)
    yield from _forms(kept, FORMS_OF_AN_EXPLANATION, source, f"{CT}, saliency", voxels={})
    probabilities = _probabilities()
    fractional = build_probability_map(
        samples.request_for(headers),
        probabilities,
        series_number=SERIES_NUMBERS["probability map"],
    )
    assert fractional is not None
    written = {value: int((plane >= 0.5 / 255).sum()) for value, plane in probabilities.items()}
    yield Specimen("probability map", CT, fractional, source, voxels=written)


def _on_enhanced_ct() -> Iterator[Specimen]:
    source = samples.enhanced()
    mask = samples.lungs()
    frames = list(range(1, len(mask) + 1))
    segmentation = samples.segmentation_of(_headers([source]), mask, frame_numbers=frames)
    voxels = _voxels(mask)
    yield Specimen("segmentation", ENHANCED_CT, segmentation, [source], voxels=voxels)


def _nodules() -> Iterator[Specimen]:
    source = samples.ct()
    headers = _headers(source)
    mask = samples.lungs()
    request = samples.request_for(headers, template="lung_nodules", labels=NODULES)
    segmentation = samples.segmentation_of(headers, mask, labels=NODULES)
    volumetric = build_volumetric_report(
        request,
        segmentation,
        mask,
        MEASURED,
        series_number=SERIES_NUMBERS["volumetric report"],
    )
    yield Specimen("volumetric report", f"{CT}, lung nodules", volumetric, source)
    planar = build_planar_report(request, mask, series_number=SERIES_NUMBERS["planar report"])
    assert planar is not None
    yield Specimen("planar report", f"{CT}, lung nodules", planar, source, measurements=2)


def _on_radiograph() -> Iterator[Specimen]:
    source = radiograph(modality="DX", StudyDescription="Thorax PA")
    headers = _headers([source])
    mask = _two_regions(source)
    segmentation = samples.segmentation_of(headers, mask)
    voxels = _voxels(mask)
    yield Specimen("segmentation", RADIOGRAPH, segmentation, [source], voxels=voxels)
    findings = {"pneumothorax": 0.83, "pleural_effusion": 0.01}
    report = _image_report(
        "chest_radiograph", findings, [source], RADIOGRAPH, calibrated=True,
        evidence="not validated: pictures of children of one hospital", not_for=("diagnosis",),
    )
    yield report
    classified = [(report.kind, report.dataset)]
    of = f"{RADIOGRAPH}, classified"
    yield from _forms(classified, FORMS_OF_A_CLASSIFICATION, [source], of, voxels={})
    kept = [("segmentation", segmentation), (report.kind, report.dataset)]
    yield from _forms(kept, FORMS_ON_RADIOGRAPH, [source], RADIOGRAPH, voxels=voxels)
    yield _saliency_picture(source, samples.request_for(headers))
    dust = {"pneumoconiosis": 0.72, "profusion": 1.4}
    yield _image_report("pneumoconiosis", dust, [source], RADIOGRAPH)
    hand = radiograph(
        modality="CR", StudyDescription="Hand", BodyPartExamined="HAND", Laterality="L"
    )
    age = {"bone_age_months": 132.5, "standard_deviation_months": 9.0, "z_score": -0.4}
    yield _image_report("bone_age", age, [hand], RADIOGRAPH)


def _on_mr() -> Iterator[Specimen]:
    source = mr_series(StudyDescription="MR head", Manufacturer="SynthCo")
    scores = {"glioma": 0.2, "meningioma": 0.7, "pituitary": 0.05, "none": 0.05}
    tumour = np.linspace(0.1, 1.0, len(source), dtype=np.float32)
    by_slice = {name: score * tumour for name, score in scores.items() if name != "none"}
    report = _image_report(
        "brain_tumour", scores, source, MR, by_slice={**by_slice, "none": 1 - 0.95 * tumour},
        absence="none", calibrated=False,
    )
    yield report
    classified = [(report.kind, report.dataset)]
    of = f"{MR}, classified"
    yield from _forms(classified, FORMS_OF_A_CLASSIFICATION, source, of, voxels={})


def _image_report(
    template: str, outputs: Mapping[str, float], source: Sequence[Dataset], of: str,
    **told: object,
) -> Specimen:
    headers = _headers(source)
    request = samples.request_for(
        headers,
        identity=samples.identity_of(headers, model_id=template),
        template=template,
        labels=(),
        outputs=outputs,
        input_notes=(),
        **told,
    )
    report = build_image_report(request, series_number=SERIES_NUMBERS["volumetric report"])
    return Specimen("image report", f"{of}, {template.replace('_', ' ')}", report, source)


def _saliency_picture(source: Dataset, request: ResultRequest) -> Specimen:
    shape = (1, int(source.Rows), int(source.Columns))
    salient = np.zeros(shape, np.float32)
    salient[0, 10:30, 8:20] = 0.9
    pictures = build_saliency_captures(
        request,
        {"pneumothorax": salient},
        np.full(shape, 90, np.uint8),
        series_number=SERIES_NUMBERS["secondary capture"],
    )
    return Specimen("secondary capture", f"{RADIOGRAPH}, saliency", pictures[0], [source])


def _forms(
    kept: Kept,
    wishes: Forms,
    source: Sequence[Dataset],
    of: str,
    *,
    voxels: Mapping[int, int],
    measurements: int = 0,
) -> Iterator[Specimen]:
    """The forms that destinations get of ``kept``; of several objects of a form the first."""
    images = kept_samples.Images((len(source), int(source[0].Rows), int(source[0].Columns)))
    bench = Workbench(kept, kept_samples.source_of(_headers(source), images))
    for kind, form in wishes:
        dataset, _ = bench.build((kind, form))[0]
        drawn = measurements if kind == "planar report" and form != "text" else 0
        found = voxels if form == "labelmap" else {}
        yield Specimen(kind, of, dataset, source, found, drawn, form)


def _probabilities() -> dict[int, FloatArray]:
    mask = samples.lungs()
    slopes = np.linspace(0.2, 1.0, mask.shape[2], dtype=np.float32)
    return {value: np.where(mask == value, slopes, 0).astype(np.float32) for value in (1, 2)}


def _two_regions(image: Dataset) -> LabelMap:
    mask = np.zeros((1, int(image.Rows), int(image.Columns)), np.uint8)
    mask[0, 10:30, 8:20] = 1
    mask[0, 12:34, 36:50] = 2
    return mask


def _headers(datasets: Sequence[Dataset]) -> list[Dataset]:
    return samples.headers([copy.deepcopy(dataset) for dataset in datasets])


def _voxels(mask: LabelMap) -> dict[int, int]:
    values, counts = np.unique(mask[mask > 0], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
