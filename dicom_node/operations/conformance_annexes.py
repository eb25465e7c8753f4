"""What the node creates, as annexes of the conformance statement (PS3.2): objects and codes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dicom_node.operations.conformance_objects import (
    ALWAYS,
    CONFIGURED,
    COPIED,
    EMPTY,
    FIXED,
    MADE,
    NOT_ALWAYS_A_VALUE,
    NOT_ALWAYS_PRESENT,
    OF_THE_MODEL,
    Attribute,
    CreatedObject,
    common_attributes,
    own_attributes,
)
from dicom_node.operations.document import Section, Table, table

if TYPE_CHECKING:
    from dicom_node.operations.conformance_facts import Facts

_PRESENCE = {
    ALWAYS: "always with a value",
    EMPTY: "always present, without a value",
    NOT_ALWAYS_A_VALUE: "always present, perhaps without a value",
    NOT_ALWAYS_PRESENT: "not always present",
}
_SOURCES = {
    COPIED: "the images that were analysed",
    FIXED: "the same in every object; the value stands beside it",
    CONFIGURED: "the configuration of the node",
    OF_THE_MODEL: "the card of the model, and its labels",
    MADE: "made by the node: measurements, pixels, times, UIDs derived from input and model",
}


def annexes(facts: Facts) -> tuple[Section, ...]:
    """The sections behind security."""
    return (
        _created_objects(facts),
        _private_attributes(facts),
        _terms(facts),
        Section(
            "Greyscale image consistency",
            ("The node shows no images. Pictures that it makes are 8 bits per sample.",),
        ),
        Section(
            "Standard extended, specialized and private SOP classes",
            (
                "None is created. Private SOP classes are received where the configuration "
                "names them.",
            ),
        ),
        _dicomweb(),
    )


def _created_objects(facts: Facts) -> Section:
    common = common_attributes(facts.objects)
    names = {one.sop_class_uid: one.name for one in facts.accepted.storage}
    by_class: dict[str, list[CreatedObject]] = defaultdict(list)
    for created in facts.objects:
        by_class[created.sop_class_uid].append(created)
    kinds = table(
        "Kinds of created objects", ("Kind", "SOP class", "UID", "Modality", "Templates (PS3.16)"),
        [
            (one.kind, names[one.sop_class_uid], one.sop_class_uid, one.modality,
             ", ".join(one.templates) or "-")
            for one in facts.objects
        ],
    )  # fmt: skip
    return Section(
        "Contents of created objects",
        (
            "Found by building each object of a CT series that has every attribute of patient, "
            "study and equipment and of another one that has the fewest.",
            kinds,
            table("Presence", ("Word", "Meaning"), list(_PRESENCE.items())),
            table("Source of the value", ("Word", "Meaning"), list(_SOURCES.items())),
        ),
        (
            Section(
                "Attributes of every created object",
                (_attributes("Attributes of every created object", common),),
            ),
            *(_of_one_class(names[uid], objects, common) for uid, objects in by_class.items()),
        ),
    )  # fmt: skip


def _of_one_class(
    name: str, objects: Sequence[CreatedObject], common: Sequence[Attribute]
) -> Section:
    """What is the same in every kind of this class, then what each kind has besides."""
    own = {one.kind: own_attributes(one, common) for one in objects}
    if len(objects) == 1:
        return Section(name, (_attributes(f"{name}: {objects[0].kind}", own[objects[0].kind]),))
    shared = common_attributes(
        [replace(one, attributes=own[one.kind]) for one in objects]
    )
    blocks = [_attributes(f"{name}: every kind", shared)]
    for one in objects:
        rest = own_attributes(one, (*common, *shared))
        if rest:
            blocks.append(_attributes(f"{name}: {one.kind}", rest))
    return Section(name, tuple(blocks))


def _attributes(title: str, attributes: Sequence[Attribute]) -> Table:
    return table(
        title,
        ("Attribute", "Tag", "VR", "Presence", "Source", "Value"),
        [
            (f"{'>' * one.depth}{one.name}", one.tag, one.vr, one.presence, one.source, one.value)
            for one in attributes
        ],
    )


def _private_attributes(facts: Facts) -> Section:
    private = [
        (one.name, one.tag, created.kind)
        for created in facts.objects
        for one in created.attributes
        if one.is_private
    ]
    if not private:
        return Section("Data dictionary of private attributes", ("No private attribute is made.",))
    return Section(
        "Data dictionary of private attributes",
        (table("Private attributes", ("Attribute", "Tag", "Kind"), private),),
    )


def _terms(facts: Facts) -> Section:
    """Codes by template; those of the models' labels stand in their cards."""
    templates = list(dict.fromkeys(one.template for one in facts.concepts))
    # PS3.3 section 8.2: designators of local schemes begin with 99.
    local = sorted({one.scheme for one in facts.concepts if one.scheme.startswith("99")})
    return Section(
        "Coded terminology and templates",
        (
            "Segments and findings carry the codes of the model's card. Beyond these, reports "
            "carry the codes below: those of the report template of the model, and those of all. "
            f"Local coding schemes: {', '.join(local) or 'none'}.",
        ),
        tuple(
            Section(
                f"Codes of {template}",
                (
                    table(
                        f"Codes of {template}", ("Code", "Scheme", "Meaning", "Stands for"),
                        [
                            (one.value, one.scheme, one.meaning, one.place)
                            for one in facts.concepts
                            if one.template == template
                        ],
                    ),
                ),
            )
            for template in templates
        ),
    )  # fmt: skip


def _dicomweb() -> Section:
    return Section(
        "DICOMweb",
        (
            "User agent of the Store transaction (STOW-RS, PS3.18 section 10.5), for peers that "
            "are configured as a DICOMweb service. One object in a request, as multipart/related "
            "of application/dicom, in its own transfer syntax; once more uncompressed where the "
            "service does not take it. Answers are asked for as application/dicom+json. A failure "
            "reason or warning in the answer is treated as the same status of C-STORE.",
            "`dicom-node check` searches for a study that cannot be there (QIDO-RS) to see whether "
            "the service answers. The node is no origin server.",
        ),
    )
