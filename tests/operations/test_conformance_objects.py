"""Presence and source of attributes, found out from two objects that were built differently."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from dicom_node.operations.conformance_facts import Facts
from dicom_node.operations.conformance_objects import (
    Attribute,
    Basis,
    CreatedObject,
    Sample,
    common_attributes,
    describe_object,
    own_attributes,
)


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def described(one: Dataset, other: Dataset, **bases: Basis) -> dict[str, Attribute]:
    nothing = Basis((), frozenset(), frozenset())
    for dataset in (one, other):
        dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.7", "OT"
    created = describe_object(
        Sample("kind", one, other),
        bases.get("fullest", nothing),
        bases.get("barest", nothing),
    )
    return {f"{'>' * one.depth}{one.name}": one for one in created.attributes}


def test_presence_tells_always_empty_sometimes_without_a_value_and_sometimes_absent() -> None:
    found = described(
        item(PatientID="A", StudyID="", AccessionNumber="A", PatientComments="A"),
        item(PatientID="B", StudyID="", AccessionNumber=""),
    )
    words = {name: one.presence for name, one in found.items()}
    assert words["Patient ID"] == "ALWAYS"
    assert words["Study ID"] == "EMPTY"
    assert words["Accession Number"] == "VNAP"
    assert words["Patient Comments"] == "ANAP"


def test_value_of_the_images_is_told_from_one_of_the_model_the_settings_or_the_node() -> None:
    fullest = item(PatientID="A", DeviceSerialNumber="NODE1", SeriesDescription="Report net-1",
                   SOPInstanceUID="2.25.10", Manufacturer="Maker")
    barest = item(PatientID="B", DeviceSerialNumber="NODE2", SeriesDescription="Report net-2",
                  SOPInstanceUID="2.25.11", Manufacturer="Maker")
    found = described(
        fullest, barest,
        fullest=Basis((item(PatientID="A"),), frozenset(["NODE1"]), frozenset(["net-1"])),
        barest=Basis((item(PatientID="B"),), frozenset(["NODE2"]), frozenset(["net-2"])),
    )  # fmt: skip
    words = {name: (one.source, one.value) for name, one in found.items()}
    assert words["Patient ID"] == ("IMAGES", "")
    assert words["Device Serial Number"] == ("CONFIG", "")
    assert words["Series Description"] == ("MODEL", "")
    assert words["SOP Instance UID"] == ("AUTO", "")
    assert words["Manufacturer"] == ("FIXED", "Maker")


def test_uid_of_the_images_counts_as_theirs_under_another_tag() -> None:
    image = item(SOPInstanceUID="1.2.3")
    reference = item(ReferencedSOPInstanceUID="1.2.3")
    found = described(
        item(SourceImageSequence=[reference]), item(SourceImageSequence=[reference]),
        fullest=Basis((image,), frozenset(), frozenset()),
        barest=Basis((image,), frozenset(), frozenset()),
    )  # fmt: skip
    assert found[">Referenced SOP Instance UID"].source == "IMAGES"


def test_items_of_equipment_are_told_apart_and_what_images_bring_stands_first() -> None:
    scanner, model = item(Manufacturer="Scanner"), item(Manufacturer="Model maker")
    found = describe_object(
        Sample(
            "kind",
            item(SOPClassUID="1.2", Modality="OT", ContributingEquipmentSequence=[scanner, model]),
            item(SOPClassUID="1.2", Modality="OT", ContributingEquipmentSequence=[model]),
        ),
        Basis((), frozenset(), frozenset()),
        Basis((), frozenset(), frozenset()),
    )
    inner = [(one.presence, one.value) for one in found.attributes if one.depth == 1]
    assert inner == [("ANAP", ""), ("ALWAYS", "Model maker")]


def attribute(name: str, depth: int = 0) -> Attribute:
    return Attribute(depth, name, "(0008,0016)", "LO", "ALWAYS", "AUTO", "")


def test_common_is_what_all_have_with_everything_inside_and_the_rest_is_their_own() -> None:
    sequence = (attribute("Sequence"), attribute("Inner", 1))
    one = CreatedObject("one", "1.2", "OT", (attribute("Shared"), *sequence, attribute("Own")))
    other = CreatedObject("other", "1.3", "OT", (attribute("Shared"), attribute("Sequence")))
    common = common_attributes([one, other])
    assert [each.name for each in common] == ["Shared"]
    assert [each.name for each in own_attributes(one, common)] == ["Sequence", "Inner", "Own"]


def test_no_object_of_the_node_holds_a_private_attribute(facts: Facts) -> None:
    assert facts.objects
    assert [
        one.tag for created in facts.objects for one in created.attributes if one.is_private
    ] == []
    assert Attribute(0, "x", "(0009,1001)", "LO", "ALWAYS", "AUTO", "").is_private


def test_every_object_keeps_patient_and_study_of_its_images(facts: Facts) -> None:
    for created in facts.objects:
        sources = {one.name: one.source for one in created.attributes if one.depth == 0}
        for name in ("Patient's Name", "Patient ID", "Study Instance UID", "Accession Number"):
            assert sources[name] == "IMAGES", f"{created.kind}: {name}"
        assert sources["SOP Instance UID"] == "AUTO", created.kind


def test_texts_and_values_of_the_samples_do_not_get_into_the_statement(facts: Facts) -> None:
    values = {one.value for created in facts.objects for one in created.attributes}
    made_up = ("sample", "2.25.1.", "2.25.2.", "2.25.3.", "full", "bare")
    assert not [value for value in values if any(one in value.lower() for one in made_up)]
