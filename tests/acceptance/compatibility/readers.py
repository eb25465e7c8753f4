"""Readers that give pixels or content back: what they read is compared with what was written."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
)

from tests.acceptance.compatibility.answer import (
    Answer,
    Answers,
    difference,
    error,
    voxels_answer,
)
from tests.acceptance.compatibility.specimen import (
    LABEL_MAP_SEGMENTATION,
    PARAMETRIC_MAP,
    SEGMENTATIONS,
    Filed,
)
from tests.conformance import validators
from tests.conformance.validators import Complaint

_TREES = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)


def has_pixels(filed: Filed) -> bool:
    """Whether it is an image of any kind."""
    return any(
        keyword in filed.specimen.dataset
        for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    )


def by_pydicom(filed: Filed, _: Path) -> Answer:
    """Every element and, of images, every pixel; values are checked against their VR."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        dataset = pydicom.dcmread(filed.path)
        elements = sum(1 for _ in dataset.iterall())
        pixels = dataset.pixel_array.size if has_pixels(filed) else 0
    texts = {f"Warning - {warning.message}" for warning in warned}
    complaints = tuple(Complaint("pydicom", filed.path, text) for text in sorted(texts))
    read = f"{elements} elements" + (f", {pixels} pixels" if pixels else "")
    return Answer(read, complaints)


def by_highdicom(filed: Filed, _: Path) -> Answer:
    """Segmentations voxel by voxel; reports, key objects and images as highdicom reads them."""
    import highdicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if filed.sop_class in SEGMENTATIONS:
            return voxels_answer("highdicom", filed, _voxels(highdicom.seg.segread(filed.path)))
        if filed.sop_class in _TREES:
            report = highdicom.sr.srread(filed.path)
            groups = _groups(report.content) if filed.sop_class == Comprehensive3DSRStorage else 0
            return Answer(f"{groups} groups" if groups else "read")
        if filed.sop_class == KeyObjectSelectionDocumentStorage:
            dataset = pydicom.dcmread(filed.path)
            document = highdicom.ko.KeyObjectSelectionDocument.from_dataset(dataset)
            return Answer(f"{len(document.content.get_references())} references")
        image = highdicom.imread(filed.path)
        return Answer(f"{image.number_of_frames} frames")


def is_for_highdicom(filed: Filed) -> bool:
    """Whether highdicom has a reader for it."""
    read = (*_TREES, KeyObjectSelectionDocumentStorage)
    return has_pixels(filed) or filed.sop_class in read


def by_gdcm(filed: Filed, _: Path) -> Answer:
    """gdcminfo, which reads the whole file and knows its media storage."""
    output = validators.run_tool([validators.find_tool("gdcminfo"), str(filed.path)])
    return Answer(
        complaints=tuple(
            validators.complaints_in("gdcm", filed.path, output, r"Unknown|Error|Warning|Could not")
        )
    )


def by_simple_itk(filed: Filed, _: Path) -> Answer:
    """SimpleITK: pixels above zero, of images that hold one value per pixel."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = SimpleITK.ReadImage(str(filed.path))
    except RuntimeError as failure:
        reason = str(failure).strip().splitlines()[-1]
        return Answer(complaints=(error("SimpleITK", filed, reason),))
    read = int((SimpleITK.GetArrayViewFromImage(image) > 0).sum())
    written = sum(filed.specimen.voxels.values()) if filed.specimen.voxels else _positive(filed)
    return Answer(f"{read} pixels", difference("SimpleITK", filed, "pixels > 0", read, written))


def by_dcmqi(filed: Filed, directory: Path) -> Answer:
    """segimage2itkimage, tid1500reader or paramap2itkimage, whichever reads the object."""
    if filed.sop_class in SEGMENTATIONS:
        try:
            masks = validators.masks_by_dcmqi(filed.path, directory)
        except AssertionError as failure:
            return Answer(complaints=(error("dcmqi", filed, _last_word(str(failure))),))
        return voxels_answer("dcmqi", filed, {key: int(m[0].sum()) for key, m in masks.items()})
    if filed.sop_class == PARAMETRIC_MAP:
        return _map_by_dcmqi(filed, directory)
    read, said = validators.tid1500reader(filed.path, directory)
    complaints = [one for one in said if not one.text.startswith("dcmqi repository URL")]
    if not read:
        return Answer(complaints=(*complaints, error("tid1500reader", filed, "nothing was read")))
    return Answer(f"{len(read.get('Measurements', ()))} groups", tuple(complaints))


def is_for_dcmqi(filed: Filed) -> bool:
    """Whether dcmqi has a converter for it."""
    template = filed.specimen.dataset.get("ContentTemplateSequence")
    is_measurement_report = bool(template) and template[0].TemplateIdentifier == "1500"
    images = (*SEGMENTATIONS, PARAMETRIC_MAP)
    return filed.sop_class in images or (is_measurement_report and filed.sop_class in _TREES)


def by_dcmjs(files: Sequence[Filed], node_modules: Path) -> Answers:
    """dcmjs, the parser inside OHIF: every file parsed and naturalised, bits unpacked."""
    script = Path(__file__).with_name("dcmjs_reader.mjs").read_text()
    program = node_modules.parent / "dcmjs_reader.mjs"
    program.write_text(script)
    node = validators.find_tool("node")
    output = validators.run_tool([node, str(program), *(str(filed.path) for filed in files)])
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    read = {line["path"]: line for line in lines}
    return {filed.specimen.name: _dcmjs_answer(filed, read.get(str(filed.path))) for filed in files}


def _dcmjs_answer(filed: Filed, read: dict[str, Any] | None) -> Answer:
    if read is None or "error" in read:
        reason = "no answer" if read is None else read["error"]
        return Answer(complaints=(error("dcmjs", filed, reason),))
    if "ones" not in read:
        return Answer(f"{read['elements']} elements")
    written = sum(filed.specimen.voxels.values())
    return Answer(
        f"{read['ones']} voxels", difference("dcmjs", filed, "voxels", read["ones"], written)
    )


def _voxels(segmentation: Any) -> dict[int, int]:
    frames = np.atleast_3d(segmentation.pixel_array)
    frames = frames.reshape(-1, int(segmentation.Rows), int(segmentation.Columns))
    counts: Counter[int] = Counter()
    for index, frame in enumerate(frames):
        if segmentation.SOPClassUID == LABEL_MAP_SEGMENTATION:
            values, numbers = np.unique(frame[frame > 0], return_counts=True)
            counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        else:
            counts[_segment_of(segmentation, index)] += int((frame > 0).sum())
    return dict(counts)


def _segment_of(segmentation: Dataset, frame: int) -> int:
    group = segmentation.PerFrameFunctionalGroupsSequence[frame]
    if "SegmentIdentificationSequence" not in group:
        group = segmentation.SharedFunctionalGroupsSequence[0]
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _groups(content: Any) -> int:
    return sum(
        len(found())
        for found in (
            content.get_image_measurement_groups,
            content.get_planar_roi_measurement_groups,
            content.get_volumetric_roi_measurement_groups,
        )
    )


def _positive(filed: Filed) -> int:
    return int((pydicom.dcmread(filed.path).pixel_array > 0).sum())


def _map_by_dcmqi(filed: Filed, directory: Path) -> Answer:
    import SimpleITK

    tool = validators.find_tool("paramap2itkimage")
    arguments = ["--inputDICOM", str(filed.path), "--outputDirectory", str(directory)]
    output = validators.run_tool([tool, *arguments, "--prefix", "map"])
    written = sorted(directory.glob("*.nrrd"))
    if not written:
        return Answer(complaints=(error("dcmqi", filed, _last_word(output)),))
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(written[0])))
    expected = pydicom.dcmread(filed.path).pixel_array
    same = difference(
        "dcmqi",
        filed,
        "sum of values",
        round(float(read.sum()), 2),
        round(float(expected.sum()), 2),
    )
    return Answer(f"{read.size} values", same)


def _last_word(output: str) -> str:
    said = [line.strip() for line in output.splitlines() if line.strip()]
    wanted = [line for line in said if line.startswith(("E:", "ERROR", "Fatal"))]
    return "; ".join(wanted or said[-1:])[:220]
