from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.results.equipment import Equipment, algorithm_equipment
from tests.results import samples


def test_a_model_contributes_as_processing_equipment_with_what_names_it() -> None:
    item = algorithm_equipment(samples.ALGORITHM)
    purpose = item.PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109102", "DCM")
    assert item.Manufacturer == "DICOM Node project"
    assert item.ManufacturerModelName == "Lungs in CT (demonstration)"
    assert item.SoftwareVersions == "1.0.0"
    assert "ab" * 32 in item.ContributionDescription


def test_a_retrained_model_is_another_device() -> None:
    model = algorithm_equipment(samples.ALGORITHM)
    same = algorithm_equipment(replace(samples.ALGORITHM, name="Renamed"))
    retrained = algorithm_equipment(replace(samples.ALGORITHM, weights_sha256="cd" * 32))
    assert same.DeviceUID == model.DeviceUID
    assert retrained.DeviceUID != model.DeviceUID


def test_each_installation_is_a_device_of_its_own() -> None:
    other = replace(samples.EQUIPMENT, device_serial_number="OTHER")
    assert other.device_uid != samples.EQUIPMENT.device_uid
    assert replace(other, software_versions="9").device_uid == other.device_uid


@pytest.mark.parametrize("name", ["manufacturer", "model_name", "device_serial_number"])
def test_equipment_that_says_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(samples.EQUIPMENT, **{name: " "})


def test_a_content_creator_has_no_separator_in_its_name() -> None:
    equipment = Equipment("M", "Node^1=A", "1", "S")
    assert equipment.creator_name == "Node1A^AI"
