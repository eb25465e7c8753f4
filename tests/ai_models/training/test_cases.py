from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from ai_models.card import Card
from ai_models.training.cases import (
    Case,
    find_cases,
    nifti_cases,
    split_by_patient,
    table_cases,
)
from ai_models.training.nifti_files import read_labels, read_volume
from ai_models.training.recipe import Recipe, read_recipe
from ai_models.training.release import built_network, write_model
from ai_models.training.settings import TrainingError
from tests.ai_models.training.tiny_cases import ball, recipe, scored_table, table, write_nifti


def cases(*patients: str, **more: Any) -> list[Case]:
    return [Case(f"scan{i}", one, {"": (Path("x.nii.gz"),)}, **more)
            for i, one in enumerate(patients)]


def card_of(folder: Path, task: str = "segmentation") -> Card:
    made: Recipe = read_recipe(recipe(folder / "recipe.yaml", task=task))
    return write_model(made, built_network(made, folder), folder / "model", folder)


def test_no_patient_is_in_two_parts_however_many_scans_there_are() -> None:
    many = cases(*(f"p{i % 17}" for i in range(100)))
    parts = split_by_patient(many, validation=0.2, test=0.2)
    patients = {part: {case.patient for case in some} for part, some in parts.items()}
    assert sum(len(some) for some in parts.values()) == 100
    assert sum(len(some) for some in patients.values()) == 17
    assert len(set.union(*patients.values())) == 17
    assert [len(patients[part]) for part in ("training", "validation", "test")] == [11, 3, 3]


def test_the_parts_are_the_same_each_time_and_in_any_order() -> None:
    many = cases(*(f"p{i}" for i in range(20)))
    first = split_by_patient(many)
    again = split_by_patient(list(reversed(many)))
    for part in first:
        assert {case.name for case in first[part]} == {case.name for case in again[part]}  # type: ignore[index]
    other = split_by_patient(many, seed=21)
    assert {case.name for case in first["test"]} != {case.name for case in other["test"]}


def test_a_patient_that_the_table_puts_into_two_parts_is_refused() -> None:
    both = cases("p1", part="training") + cases("p1", part="test")
    with pytest.raises(TrainingError, match="is in training and in test"):
        split_by_patient(both)


def test_parts_that_a_table_gives_stay_and_nobody_is_added_to_a_test_set() -> None:
    given = [*cases("a", "b", part="test"), *cases("c", "d", "e", "f", "g", "h")]
    parts = split_by_patient(given, test=0.5, validation=0.2)
    assert {case.patient for case in parts["test"]} == {"a", "b"}
    assert len({case.patient for case in parts["validation"]}) == 1


def test_one_patient_alone_is_trained_on_and_nothing_is_tested() -> None:
    parts = split_by_patient(cases("a", "a"))
    assert [len(parts[part]) for part in ("training", "validation", "test")] == [2, 0, 0]


def test_a_table_says_scores_parts_and_what_figures_are_told_apart_by(tmp_path: Path) -> None:
    card = card_of(tmp_path, "classification")
    found = table_cases(scored_table(tmp_path, 4), card, None)
    assert [case.values["there"] for case in found] == [1, 0, 1, 0]
    assert [case.patient for case in found] == ["p0", "p0", "p2", "p2"]
    assert found[0].attributes == {"sex": "M", "age": "60-69"}


def test_a_column_that_is_nearly_a_known_one_is_a_mistake_and_another_is_not(
    tmp_path: Path,
) -> None:
    card = card_of(tmp_path, "classification")
    write_nifti(tmp_path / "a.nii.gz", ball(0)[0])
    path = table(tmp_path, [{"image": "a.nii.gz", "there": 1, "remark": "none"}])
    assert len(table_cases(path, card, None)) == 1
    path = table(tmp_path, [{"image": "a.nii.gz", "there": 1, "pateint": "p"}])
    with pytest.raises(TrainingError, match="column 'pateint': is 'patient' meant"):
        table_cases(path, card, None)


@pytest.mark.parametrize(("row", "message"), [
    ({"image": "none.nii.gz", "there": 1}, "cases.csv:2: there is no"),
    ({"image": "a.nii.gz", "there": "perhaps"}, "cases.csv:2: there is no number"),
    ({"image": "a.nii.gz", "there": "nan"}, "cases.csv:2: there is no number"),
    ({"image": "a.nii.gz", "split": "train"}, "split is one of training, validation, test"),
    ({"image": "a.nii.gz", "class": "elsewhere"}, "class is one of there"),
    ({"patient": "p"}, "neither image nor series"),
    ({"image": "a.nii.gz", "there": 7}, "there is a score: 0 or 1, not 7"),
    ({"image": "../a.nii.gz"}, "cases.csv:2: ../a.nii.gz is not below the folder of the table"),
    ({"image": "x/../../a.nii.gz"}, "is not below the folder of the table"),
    ({"image": "/etc/hostname"}, "/etc/hostname is not below the folder of the table"),
    ({"image": "a.nii.gz", "label": "../a.nii.gz"}, "is not below the folder of the table"),
    ({"image": "x" * 5000}, "there is no such file"),
    ({"image": "a\0.nii.gz"}, "there is no"),
])
def test_a_wrong_row_is_named_by_its_line(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    write_nifti(tmp_path / "a.nii.gz", ball(0)[0])
    path = table(tmp_path, [row])
    with pytest.raises(TrainingError, match=message):
        table_cases(path, card_of(tmp_path, "classification"), None)


@pytest.mark.parametrize(("content", "message"), [
    ("image,there,patient\na.nii.gz,1,J\xfcrgen\n".encode("latin-1"), "is not UTF-8"),
    ("image,there\na.nii.gz,1\n".encode("utf-16"), "is not UTF-8"),
    (b"image,there,remark\na.nii.gz,1," + b"x" * 200_000, "cannot be read as CSV"),
    (b"image,there,there\na.nii.gz,1,0\n", "column 'there' is there 2 times"),
])
def test_a_file_that_is_no_table_is_refused_in_words(
    tmp_path: Path, content: bytes, message: str
) -> None:
    write_nifti(tmp_path / "a.nii.gz", ball(0)[0])
    (tmp_path / "cases.csv").write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        table_cases(tmp_path / "cases.csv", card_of(tmp_path, "classification"), None)


def test_a_link_below_the_folder_of_a_table_is_followed(tmp_path: Path) -> None:
    write_nifti(tmp_path / "elsewhere" / "a.nii.gz", ball(0)[0])
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    path = table(folder, [{"image": "images/a.nii.gz", "there": 1}])
    (case,) = table_cases(path, card_of(tmp_path, "classification"), None)
    assert case.images[""][0].read_bytes() == (tmp_path / "elsewhere" / "a.nii.gz").read_bytes()


def odd_volume(kind: str, path: Path) -> None:
    array = np.zeros((4, 4, 4), np.float32)
    image = nibabel.Nifti1Image(array, np.eye(4))
    if kind in ("nan", "inf"):
        array[0, 0, 0] = float(kind)
    elif kind == "colour":
        colour = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        image = nibabel.Nifti1Image(colour, np.eye(4))
    elif kind == "complex":
        image = nibabel.Nifti1Image(array.astype(np.complex64), np.eye(4))
    elif kind == "singular":
        image.set_sform(np.zeros((4, 4)), 1)
    header = bytearray(image.to_bytes())
    sizes = {"giant": (3, 32767, 32767, 32767), "negative": (3, -4, 4, 4), "empty": (3, 0, 4, 4)}
    if kind in sizes:
        header[40:48] = np.array(sizes[kind], "<i2").tobytes()
    path.write_bytes(bytes(header))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind", ["nan", "inf", "colour", "complex", "singular", "giant", "negative", "empty"]
)
def test_a_volume_that_cannot_be_one_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.nii"
    odd_volume(kind, path)
    with pytest.raises(TrainingError, match=r"odd.nii"):
        read_volume(path, "HU")
    if kind != "nan":
        with pytest.raises(TrainingError, match=r"odd.nii"):
            read_labels(path)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("what", ["voxels", "extensions"])
def test_a_packed_volume_that_would_fill_the_memory_is_refused_by_its_first_bytes(
    tmp_path: Path, version: int, what: str
) -> None:
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    header = bytearray(kind(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_bytes())
    if what == "voxels":
        place, size = (40, "<i2") if version == 1 else (16, "<i8")
        header[place : place + 4 * int(size[2])] = np.array((3, 2000, 2000, 2000), size).tobytes()
    else:
        place, size = (108, "<f4") if version == 1 else (168, "<i8")
        header[place : place + int(size[2])] = np.array(2.0**30, size).tobytes()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(TrainingError, match=r"bomb.nii.gz says that it holds"):
        read_volume(path, "HU")


def test_an_image_without_its_label_is_named(tmp_path: Path) -> None:
    write_nifti(tmp_path / "images" / "one.nii.gz", ball(0)[0])
    (tmp_path / "labels").mkdir()
    with pytest.raises(TrainingError, match=r"one.nii.gz has no label"):
        nifti_cases(tmp_path)


def test_the_layout_of_nnunet_is_read(tmp_path: Path) -> None:
    write_nifti(tmp_path / "imagesTr" / "one_0000.nii.gz", ball(0)[0])
    write_nifti(tmp_path / "labelsTr" / "one.nii.gz", ball(0)[1])
    case, = find_cases(tmp_path, card_of(tmp_path / "card"), None)
    assert (case.name, case.labels[0].name) == ("one", "one.nii.gz")


def test_dicom_without_the_node_is_refused_by_name_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    with pytest.raises(TrainingError, match="dicom-node train"):
        find_cases(tmp_path / "dicom", card_of(tmp_path / "card"), None)


def test_a_voxel_of_a_nifti_lies_where_simpleitk_says(tmp_path: Path) -> None:
    import nibabel
    import SimpleITK as sitk  # noqa: N813

    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([0.7, 0.8, 3.0]), (10, -20, 30)
    values = rng.integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz", "HU")
    other = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    for index in ((0, 0, 0), (4, 5, 6), (1, 3, 2)):
        here = volume.affine_lps @ np.array([*index[::-1], 1.0])
        assert here[:3] == pytest.approx(other.TransformIndexToPhysicalPoint(index), abs=1e-3)
        assert volume.array[index[::-1]] == other[index]


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), 0.5, np.float32), np.eye(4)),
                 tmp_path / "a.nii.gz")
    with pytest.raises(TrainingError, match="whole numbers"):
        read_labels(tmp_path / "a.nii.gz")


def test_the_name_in_a_record_does_not_tell_whose_it_is() -> None:
    one = Case("1.2.3", "Doe^John", {})
    assert "Doe" not in one.digest and "1.2.3" not in one.digest
    assert one.digest != Case("1.2.3", "Doe^Jane", {}).digest
