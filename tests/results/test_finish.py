from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydicom.dataset import Dataset

from dicom_node.results.equipment import Equipment, long_string
from dicom_node.results.finish import local_time


def source(offset: str | None) -> Dataset:
    dataset = Dataset()
    if offset is not None:
        dataset.TimezoneOffsetFromUTC = offset
    return dataset


@pytest.mark.parametrize(("offset", "hour"), [("+0200", 14), ("-0330", 8), ("+0000", 12)])
def test_an_aware_time_becomes_the_wall_clock_of_the_source(offset: str, hour: int) -> None:
    moment = local_time(datetime(2026, 11, 22, 12, 0, tzinfo=UTC), source(offset))
    assert moment.tzinfo is None
    assert moment.hour == hour


def test_a_naive_time_is_taken_as_it_is() -> None:
    moment = datetime(2026, 11, 22, 12, 0)  # noqa: DTZ001
    assert local_time(moment, source("+0200")) == moment


@pytest.mark.parametrize("offset", [None, "+9999", "+1460", "nonsense"])
def test_without_an_offset_that_exists_the_zone_of_the_host_holds(offset: str | None) -> None:
    aware = datetime(2026, 11, 22, 12, 0, tzinfo=timezone(timedelta(hours=3)))
    assert local_time(aware, source(offset)) == aware.astimezone().replace(tzinfo=None)


@pytest.mark.parametrize("value", ["", " ", "x" * 65, "a\\b"])
def test_equipment_that_says_nothing_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="software_versions"):
        Equipment("DICOM Node project", "DICOM Node", value, "NODE")


def test_the_device_uid_tells_installations_apart() -> None:
    first = Equipment("M", "DICOM Node", "0.1", "A")
    assert first.device_uid == Equipment("M", "DICOM Node", "0.2", "A").device_uid
    assert first.device_uid != Equipment("M", "DICOM Node", "0.1", "B").device_uid


def test_a_description_fits_its_attribute() -> None:
    assert long_string("a\\b\nc" + "d" * 80) == "a b c" + "d" * 59
