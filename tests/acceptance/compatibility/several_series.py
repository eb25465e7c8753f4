"""Objects on several series: PET-CT, phases in several series, and an earlier examination."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ai_models.types import Label, LabelMap
from dicom_node.results.evidence import references_to
from dicom_node.results.follow_up import EarlierFinding, Followed, FollowUp
from dicom_node.results.report import build_image_report, build_volumetric_report
from dicom_node.results.report_numbers import SegmentMeasurement
from dicom_node.results.request import SERIES_NUMBERS
from tests.acceptance.compatibility.specimen import Specimen
from tests.dicom_samples import mr_series
from tests.pet_ct import pet_of
from tests.results import samples

PLACE = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName")


def on_several_series(
    nodules: Sequence[Label], measured: Mapping[int, SegmentMeasurement]
) -> Iterator[Specimen]:
    """Each with all of its series, which stand in its Image Library."""
    yield from _pet_ct()
    yield _dynamic()
    yield from _followed_up(nodules, measured)


def _pet_ct() -> Iterator[Specimen]:
    ct = samples.ct()
    pet = pet_of(ct[0], values_bqml=np.full((6, 10, 8), 9000.0))
    score = {"malignant_lesion": 0.83}
    yield _report("fdg_pet_ct", score, [ct, pet], "CT with PET")
    why = "without pt (not there within 15 min): from ct alone"
    yield _report(
        "fdg_pet_ct", score, [samples.ct()], "CT without its PET", lacking=(why,),
        undetermined={"malignant_lesion": ("pt",)},
    )


def _dynamic() -> Specimen:
    phases = [mr_series(StudyDescription="MR breast") for _ in range(3)]
    for number, phase in enumerate(phases):
        uid = generate_uid()
        for one in phase:
            for keyword in PLACE:
                setattr(one, keyword, phases[0][0][keyword].value)
            one.SeriesInstanceUID, one.SeriesNumber = uid, 10 + number
            one.AcquisitionTime = f"10{2 * number:02d}00"
    scores = {"enhancing_lesion": 0.91, "washout_lesion": 0.12}
    return _report("dynamic_lesion", scores, phases, "MR, phases in 3 series")


def _report(
    template: str, outputs: Mapping[str, float], series: Sequence[Sequence[Dataset]], of: str,
    **changes: Any,
) -> Specimen:
    first, *further = [_headers(one) for one in series]
    request = samples.request_for(
        first, identity=samples.identity_of(first, model_id=template), template=template,
        labels=(), outputs=outputs, input_notes=(), further_images=further, **changes,
    )
    report = build_image_report(request, series_number=SERIES_NUMBERS["volumetric report"])
    sources = [image for one in series for image in one]
    return Specimen("image report", f"{of}, {template.replace('_', ' ')}", report, sources)


def _followed_up(
    nodules: Sequence[Label], measured: Mapping[int, SegmentMeasurement]
) -> Iterator[Specimen]:
    source = samples.ct()
    headers = _headers(source)
    mask: LabelMap = samples.lungs()
    earlier = EarlierFinding("Nodule 1", "nodule", generate_uid(), 0.2, (0.0, 0.0, 0.0))
    gone = EarlierFinding("Nodule 3", "nodule", generate_uid(), 0.12, (10.0, 0.0, 0.0))
    followed = FollowUp(
        days=117, followed={1: Followed(earlier, 0.30)}, new=(2,), gone=(gone,),
        references=tuple(references_to(_headers(samples.ct()))), basis=("an earlier one",),
    )
    identity = followed.tracked(samples.identity_of(headers), nodules)
    segmentation = samples.segmentation_of(headers, mask, labels=nodules, identity=identity)
    of = "CT, followed up"
    values, counts = np.unique(mask[mask > 0], return_counts=True)
    voxels = dict(zip(map(int, values), map(int, counts), strict=True))
    yield Specimen("segmentation", of, segmentation, source, voxels=voxels)
    request = samples.request_for(
        headers, template="lung_nodules", labels=nodules, identity=identity, follow_up=followed
    )
    report = build_volumetric_report(
        request, segmentation, mask, measured, series_number=SERIES_NUMBERS["volumetric report"],
    )
    yield Specimen("volumetric report", of, report, source)


def _headers(datasets: Sequence[Dataset]) -> list[Dataset]:
    return samples.headers([copy.deepcopy(dataset) for dataset in datasets])
