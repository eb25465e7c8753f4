"""Two inputs that have nothing in common, each with a model and its answer, to build samples of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from dicom_node.operations.conformance_objects import Basis

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from ai_models.types import Algorithm, Label, LabelMap, Volume
    from dicom_node.results.request import Reference, ResultRequest


@dataclass(frozen=True)
class World:
    """One input, and what objects of every kind are made of."""

    images: Sequence[Dataset]
    algorithm: Algorithm
    labels: tuple[Label, ...]
    ae_title: str
    software_version: str
    created_at: datetime
    is_complete: bool
    predecessors: tuple[Reference, ...] = ()

    @cached_property
    def request(self) -> ResultRequest:
        """What every builder takes."""
        from dicom_node.results.equipment import node_equipment
        from dicom_node.results.identity import ResultIdentity
        from dicom_node.results.request import ResultRequest

        return ResultRequest(
            source_images=self.images,
            frame_numbers=[1] * len(self.images),
            labels=self.labels,
            algorithm=self.algorithm,
            identity=ResultIdentity(
                {str(image.SOPInstanceUID): "content" for image in self.images},
                self.algorithm.model_id, self.algorithm.version, self.algorithm.weights_sha256,
            ),
            equipment=node_equipment(self.ae_title, self.software_version),
            created_at=self.created_at,
            predecessors=self.predecessors,
            is_complete=self.is_complete,
        )  # fmt: skip

    @cached_property
    def label_map(self) -> LabelMap:
        """One block of each label, (slices, rows, columns), in other places in each input."""
        import numpy as np

        slices, rows, columns = len(self.images), int(self.images[0].Rows), self.images[0].Columns
        mask = np.zeros((slices, rows, int(columns)), np.uint8)
        for position, label in enumerate(self.labels):
            left = slices + 12 * position
            mask[1:-1, slices : 3 * slices + position, left : left + slices + 3] = label.value
        return mask

    @cached_property
    def segmentation(self) -> Dataset:
        """The segmentation that reports cite."""
        from dicom_node.results.segmentation import build_segmentation

        request = self.request
        built = build_segmentation(
            request.source_images, request.frame_numbers, self.label_map, request.labels,
            request.algorithm, request.identity, series_number=series_number("segmentation"),
            equipment=request.equipment, created_at=request.created_at,
        )  # fmt: skip
        return needed(built)

    @cached_property
    def volumetric_report(self) -> Dataset:
        """The report that other forms of reports are made of."""
        from ai_models.array.measurements import measure
        from dicom_node.results.report import build_volumetric_report

        return build_volumetric_report(
            self.request, self.segmentation, self.label_map, measure(self.label_map, self.volume),
            series_number=series_number("volumetric report"),
        )  # fmt: skip

    @property
    def volume(self) -> Volume:
        """The images as an array of one value."""
        import numpy as np

        from ai_models.types import Volume

        first, second = self.images[0], self.images[1]
        orientation = np.asarray(first.ImageOrientationPatient, float)
        origin_mm = np.asarray(first.ImagePositionPatient, float)
        affine_lps = np.eye(4)
        affine_lps[:3, 0] = np.asarray(second.ImagePositionPatient, float) - origin_mm
        affine_lps[:3, 1] = orientation[3:] * float(first.PixelSpacing[0])
        affine_lps[:3, 2] = orientation[:3] * float(first.PixelSpacing[1])
        affine_lps[:3, 3] = origin_mm
        return Volume(np.full(self.label_map.shape, -824, np.int16), affine_lps)

    @cached_property
    def basis(self) -> Basis:
        """Where the values of its objects may come from."""
        algorithm = self.algorithm
        family = algorithm.family
        of_the_model = {
            algorithm.model_id, algorithm.name, algorithm.version, algorithm.manufacturer,
            algorithm.weights_sha256, family.value, family.meaning,
        }  # fmt: skip
        for label in self.labels:
            of_the_model |= {label.name}
            for code in (label.category, label.type, label.laterality, label.anatomic_region):
                of_the_model |= {code.value, code.scheme, code.meaning} if code else set()
        return Basis(tuple(self.images), frozenset([self.ae_title]), frozenset(of_the_model))


def series_number(kind: str) -> int:
    """Of the series that objects of this kind form."""
    from dicom_node.results.request import SERIES_NUMBERS

    return SERIES_NUMBERS[kind]


def needed(built: Dataset | None) -> Dataset:
    """What a builder gave; it must give something for a sample with findings."""
    if built is None:
        raise ValueError("a sample with findings gave no object")
    return built


def full_world() -> World:
    """Images with every attribute, and a model that is only a demonstration."""
    from ai_models.types import Algorithm, Code, Label
    from dicom_node.cli.conformance_images import full_series
    from dicom_node.results.request import Reference
    from dicom_node.results.sop_classes import COMPREHENSIVE_3D_SR

    organ = Code("91723000", "SCT", "Anatomical Structure")
    lung = Code("39607008", "SCT", "Lung")
    region = Code("51185008", "SCT", "Chest")
    images = full_series()
    return World(
        images,
        Algorithm(
            "sample-full", "Sample model full", "3.1.4", "Maker of models A", "a1" * 32,
            Code("123110", "DCM", "Artificial Intelligence"), True, {"precision": "fp32"},
        ),
        (
            Label(1, "Right lung", organ, lung, (66, 135, 245),
                  Code("24028007", "SCT", "Right"), region),
            Label(2, "Left lung", organ, lung, (245, 166, 35),
                  Code("7771000", "SCT", "Left"), region),
        ),
        "SAMPLENODE_A", "sample 1", datetime(2026, 7, 8, 9, 10, 11, tzinfo=UTC), True,
        (Reference(COMPREHENSIVE_3D_SR, "2.25.3.1", "2.25.3.2", str(images[0].StudyInstanceUID)),),
    )  # fmt: skip


def bare_world() -> World:
    """Images with the fewest attributes, and a model for use."""
    from ai_models.types import Algorithm, Code, Label
    from dicom_node.cli.conformance_images import bare_series

    lesion = Code("4147007", "99BARE", "Mass")
    nodule = Code("27925004", "99BARE", "Nodule")
    return World(
        bare_series(),
        Algorithm(
            "bare-sample", "Other network", "0.9", "Builder of networks B", "b2" * 32,
            Code("123109", "DCM", "Machine Learning"), False,
        ),
        (
            Label(1, "Nodule one", lesion, nodule, (10, 200, 30)),
            Label(2, "Nodule two", lesion, nodule, (200, 10, 30)),
        ),
        "OTHERTITLE_B", "other 2", datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC), False,
    )  # fmt: skip
