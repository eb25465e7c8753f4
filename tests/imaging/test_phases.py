"""Phases come in the order in which they were acquired, whatever the order of files and slices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.phases import LoadedPhases, load_phases
from dicom_node.imaging.volume import VolumeLimits
from tests.dicom_samples import enhanced_series, mr_series, write_series

SLICES, PHASES = 5, 3
State = Callable[[Dataset, int, int], None]


def series(state: State) -> list[Dataset]:
    """Three moments of one stack; the brightest is the second. ``state`` says when each slice is.

    Data sets stand in an order of their own.
    """
    datasets: list[Dataset] = []
    for phase in range(PHASES):
        values = np.full((SLICES, 12, 10), 100 + [0, 500, 300][phase], np.int16)
        for index, one in enumerate(mr_series(values.shape, values=values)):
            if datasets:
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                    setattr(one, keyword, datasets[0][keyword].value)
            state(one, phase, index)
            datasets.append(one)
    order = np.random.default_rng(2).permutation(len(datasets))
    return [datasets[index] for index in order]


def loaded(folder: Path, state: State, fewest: int = 2, most: int = 8) -> LoadedPhases:
    return load_phases(write_series(series(state), folder), VolumeLimits(), fewest, most)


def means(found: LoadedPhases) -> list[float]:
    return [float(np.mean(one.volume.array)) for one in found.volumes]


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"10{minutes:02d}{rest:02d}.{round((seconds % 1) * 1000):03d}"


def by_position(one: Dataset, phase: int, index: int) -> None:
    # Identifiers that do not begin at 1 and are not in the order of the text.
    one.TemporalPositionIdentifier = [9, 10, 11][phase]
    one.AcquisitionTime = clock(70 * phase + index)


def by_clock(one: Dataset, phase: int, index: int) -> None:
    """Slices one after the other within each phase, each with its own time."""
    one.AcquisitionTime = clock(70 * phase + 3 * index)


def by_date(one: Dataset, phase: int, index: int) -> None:
    one.AcquisitionDateTime = ["20261122235900", "20261123000015", "20261123000130"][phase]


def by_trigger(one: Dataset, phase: int, index: int) -> None:
    one.TriggerTime = str(400.5 * phase)


@pytest.mark.parametrize(("state", "by", "times"), [
    (by_position, "TemporalPositionIdentifier", (0.0, 70.0, 140.0)),
    (by_clock, "AcquisitionTime", (0.0, 70.0, 140.0)),
    (by_date, "AcquisitionDateTime", (0.0, 75.0, 150.0)),
    (by_trigger, "TriggerTime", (0.0, 0.4005, 0.801)),
])
def test_phases_are_in_the_order_of_time(
    tmp_path: Path, state: State, by: str, times: tuple[float, ...]
) -> None:
    found = loaded(tmp_path, state)
    assert means(found) == [100.0, 600.0, 400.0]
    assert found.times_s == pytest.approx(times)
    assert found.note.text == f"3 phases in the order of {by}"
    assert len({uid for one in found.volumes for uid in one.content_digests}) == SLICES * PHASES


def refusal(folder: Path, state: State, **counts: int) -> str:
    with pytest.raises(UnsuitableInput) as told:
        loaded(folder, state, **counts)
    return told.value.reason


def untold(one: Dataset, phase: int, index: int) -> None:
    one.InstanceNumber = 1


def contradicting(one: Dataset, phase: int, index: int) -> None:
    one.TemporalPositionIdentifier = phase + 1
    one.AcquisitionTime = clock(300 - 70 * phase)


def past_midnight(one: Dataset, phase: int, index: int) -> None:
    one.AcquisitionTime = ["235900", "000015", "000130"][phase]


def of_another_grid(one: Dataset, phase: int, index: int) -> None:
    by_position(one, phase, index)
    if phase == 2:
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, float(y) + 0.15, z]


def by_series(state: State, first: tuple[int, ...] = (1,)) -> list[list[Dataset]]:
    """The same with the phases ``first`` as one series, and each other one as its own."""
    datasets = series(state)
    uids = {phase: generate_uid() for phase in range(PHASES)}
    groups: dict[str, list[Dataset]] = {}
    for one in datasets:
        phase = [100, 600, 400].index(int(np.median(one.pixel_array)))
        one.SeriesInstanceUID = uids[first[0] if phase in first else phase]
        groups.setdefault(str(one.SeriesInstanceUID), []).append(one)
    own = groups.pop(uids[first[0]])
    return [own, *groups.values()]


@pytest.mark.parametrize("state", [by_position, by_clock, by_date, by_trigger],
                         ids=lambda state: state.__name__)
@pytest.mark.parametrize("first", [(1,), (0, 2), (1, 2)])
def test_phases_in_series_of_their_own_are_in_the_same_order(
    tmp_path: Path, state: State, first: tuple[int, ...]
) -> None:
    paths = [
        write_series(each, tmp_path / str(number))
        for number, each in enumerate(by_series(state, first))
    ]
    found = load_phases(paths[0], VolumeLimits(), 2, 8, paths[1:])
    assert means(found) == [100.0, 600.0, 400.0]
    assert found.note.text.endswith(f", from {len(paths)} series")


def each_begins_at_one(one: Dataset, phase: int, index: int) -> None:
    one.TemporalPositionIdentifier = 1
    one.AcquisitionTime = clock(70 * phase + 3 * index)


def half_before(one: Dataset, phase: int, index: int) -> None:
    """Two series that were acquired at once: at some places one came first, at some the other."""
    one.AcquisitionTime = clock([0, 70, 140][phase] if index < 2 else [70, 0, 140][phase])


def test_series_that_each_count_from_one_are_told_apart_by_time(tmp_path: Path) -> None:
    paths = [
        write_series(each, tmp_path / str(number))
        for number, each in enumerate(by_series(each_begins_at_one))
    ]
    assert means(load_phases(paths[0], VolumeLimits(), 2, 8, paths[1:])) == [100.0, 600.0, 400.0]


@pytest.mark.parametrize("state", [untold, half_before, of_another_grid],
                         ids=lambda state: state.__name__)
def test_series_without_a_sure_order_are_refused(tmp_path: Path, state: State) -> None:
    paths = [
        write_series(each, tmp_path / str(number))
        for number, each in enumerate(by_series(state))
    ]
    with pytest.raises(UnsuitableInput) as told:
        load_phases(paths[0], VolumeLimits(), 2, 8, paths[1:])
    assert told.value.reason in ("input.phases_unordered", "input.mixed_positions")


@pytest.mark.parametrize(
    "state", [untold, contradicting, past_midnight, of_another_grid],
    ids=lambda state: state.__name__,
)
def test_phases_without_a_sure_order_are_refused(tmp_path: Path, state: State) -> None:
    assert refusal(tmp_path, state) in ("input.phases_unordered", "input.mixed_positions")


def test_a_position_that_is_missing_in_a_phase_is_no_whole_series(tmp_path: Path) -> None:
    datasets = series(by_position)
    paths = write_series(datasets[:-1], tmp_path)
    with pytest.raises(UnsuitableInput) as told:
        load_phases(paths, VolumeLimits(), 2, 8)
    assert told.value.reason == "input.phases_unordered"


def test_phases_of_one_enhanced_object_are_told_apart_by_its_frames(tmp_path: Path) -> None:
    shape = (SLICES, 12, 10)
    values = np.concatenate([np.full(shape, 100 + [0, 500, 300][one]) for one in range(PHASES)])
    enhanced = enhanced_series(
        values.shape, modality="MR", values_hu=values.astype(np.int16)
    )
    first = enhanced_series(shape, modality="MR")
    frames = enhanced.PerFrameFunctionalGroupsSequence
    for number, groups in enumerate(frames):
        phase, index = divmod(number, SLICES)
        groups.PlanePositionSequence = (
            first.PerFrameFunctionalGroupsSequence[index].PlanePositionSequence
        )
        content = Dataset()
        # The last phase in the file is the second in time.
        content.TemporalPositionIndex = [1, 3, 2][phase]
        groups.FrameContentSequence = [content]
    found = load_phases(write_series([enhanced], tmp_path), VolumeLimits(), 2, 8)
    assert means(found) == [100.0, 400.0, 600.0]
    assert found.times_s == ()
    assert [one.frame_numbers[0] for one in found.volumes] == [1, 2 * SLICES + 1, SLICES + 1]


def test_too_few_and_too_many_phases_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "few", by_position, fewest=4) == "input.too_few_phases"
    assert refusal(tmp_path / "many", by_position, most=2) == "input.too_many_phases"
    single = mr_series((5, 12, 10), SOPInstanceUID=None)
    for one in single:
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    with pytest.raises(UnsuitableInput) as told:
        load_phases(write_series(single, tmp_path / "one"), VolumeLimits(), 2, 8)
    assert told.value.reason == "input.too_few_phases"
