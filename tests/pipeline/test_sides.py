"""What a network marks on the patient's left lies on the patient's left in the objects.

The network marks the half of its input that the card says is the left one, whatever it sees: so
any turn that is lost between the scanner and the segmentation puts the mark on the wrong side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset

from ai_models.catalog import Catalog
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from tests.ai_models.tiny_models import write_model
from tests.dicom_samples import ct_series, slice_normal, with_attributes, write_series
from tests.pipeline.test_analysis import AT, EQUIPMENT, predict

EDGES = (4, 8, 16)
ORIENTATIONS = {
    "HFS": (1, 0, 0, 0, 1, 0), "HFP": (-1, 0, 0, 0, -1, 0), "FFS": (-1, 0, 0, 0, 1, 0),
    "FFP": (1, 0, 0, 0, -1, 0), "HFDR": (0, 1, 0, -1, 0, 0), "HFDL": (0, -1, 0, 1, 0, 0),
    "coronal": (1, 0, 0, 0, 0, -1), "coronal from behind": (-1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1), "sagittal turned": (0, -1, 0, 0, 0, 1),
}


def half_onnx(axis: int) -> bytes:
    """Marks the upper half along one axis of ``(slices, rows, columns)``."""
    from onnx import TensorProto, helper, numpy_helper

    ramp = np.full((1, 1, *EDGES), -10.0, dtype=np.float32)
    np.moveaxis(ramp[0, 0], axis, 0)[EDGES[axis] // 2 :] = 10.0
    nodes = [
        helper.make_node("Mul", ["image", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "ramp"], ["marked"]),
        helper.make_node("Concat", ["nothing", "marked"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "half",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, *EDGES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2, *EDGES])],
        [numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
         numpy_helper.from_array(ramp, "ramp")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def run(
    folder: Path, series: list[Dataset], axes: Sequence[str] = ("S", "P", "L"), axis: int = 2,
    spacing_mm: list[float] | None = None,
) -> Analysis:
    write_model(
        folder / "models" / "half", half_onnx(axis), id="half", input__axes=list(axes),
        input__size={"edges": list(EDGES), "fit": "stretch"}, input__spacing_mm=spacing_mm,
        runtime__roi=None, input__min_slices=1,
    )
    card = Catalog([folder / "models"]).get("half")
    paths = write_series(series, folder / "series")
    return analyse(paths, card, predict, Writing(EQUIPMENT, AT))


def marked_mm(segmentation: Dataset) -> npt.NDArray[np.float64]:
    """LPS of every marked voxel, ``(n, 3)``, read from the object alone."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    found = []
    for frame, groups in zip(
        segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns),
        segmentation.PerFrameFunctionalGroupsSequence, strict=True,
    ):
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        along_row, along_column = np.array(orientation, float).reshape(2, 3)
        rows, columns = np.nonzero(frame)
        found.append(
            position + np.outer(columns * float(spacing[1]), along_row)
            + np.outer(rows * float(spacing[0]), along_column)
        )
    return np.concatenate(found)


def all_mm(series: list[Dataset]) -> npt.NDArray[np.float64]:
    corners = []
    for one in series:
        along_row, along_column = np.array(one.ImageOrientationPatient, float).reshape(2, 3)
        row, column = (float(step) for step in one.PixelSpacing)
        corners += [
            np.array(one.ImagePositionPatient, float) + across * column * along_row
            + down * row * along_column
            for across in (0, one.Columns - 1) for down in (0, one.Rows - 1)
        ]
    return np.array(corners)


def check_half(found: Analysis, series: list[Dataset], towards: Sequence[float]) -> None:
    (segmentation,) = [one for kind, one in found.objects if kind == "segmentation"]
    place, grid = marked_mm(segmentation) @ np.array(towards), all_mm(series) @ np.array(towards)
    middle = (grid.min() + grid.max()) / 2.0
    assert place.min() >= middle - 2.0
    assert place.max() >= grid.max() - 2.0
    assert 0.4 < len(place) / (series[0].Rows * series[0].Columns * len(series)) < 0.6


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_left_half_is_the_patients_left_however_the_patient_lies(
    tmp_path: Path, name: str
) -> None:
    orientation = ORIENTATIONS[name]
    # Every other one with its slices in the other direction.
    step = slice_normal(orientation) * (-3.0 if list(ORIENTATIONS).index(name) % 2 else 3.0)
    series = ct_series((14, 24, 20), (3.0, 1.5, 2.0), orientation, slice_step_mm=list(step))
    position = name if name.isupper() else "HFS"
    series = with_attributes(series, PatientPosition=position)
    check_half(run(tmp_path, series), series, (1, 0, 0))


@pytest.mark.parametrize(
    ("axes", "axis", "towards"),
    [
        (["S", "P", "R"], 2, (-1, 0, 0)), (["I", "A", "L"], 2, (1, 0, 0)),
        (["S", "A", "R"], 1, (0, -1, 0)), (["I", "P", "L"], 0, (0, 0, -1)),
        (["L", "P", "S"], 0, (1, 0, 0)), (["R", "S", "A"], 0, (-1, 0, 0)),
    ],
)
def test_the_axes_of_a_card_say_where_its_network_looks(
    tmp_path: Path, axes: list[str], axis: int, towards: tuple[int, int, int]
) -> None:
    series = ct_series((14, 24, 20), (3.0, 1.5, 2.0), ORIENTATIONS["FFP"])
    check_half(run(tmp_path, series, axes, axis), series, towards)


def test_of_an_oblique_series_it_is_the_left_of_the_patient_and_not_of_the_images(
    tmp_path: Path
) -> None:
    oblique = (0.9396926, 0.3420201, 0, -0.3420201, 0.9396926, 0)
    series = ct_series((14, 24, 20), (3.0, 1.5, 2.0), oblique)
    check_half(run(tmp_path, series, spacing_mm=[3.0, 1.5, 1.5]), series, (1, 0, 0))


def test_one_slice_alone_keeps_its_sides(tmp_path: Path) -> None:
    series = ct_series((1, 24, 20), (3.0, 1.5, 2.0), ORIENTATIONS["FFS"], SliceThickness="3")
    check_half(run(tmp_path, series), series, (1, 0, 0))
