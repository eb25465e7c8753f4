"""Which attributes the objects of the node hold and where their values come from (PS3.2).

Found out, not written down: each kind of object is built twice, by the code that builds results,
of two inputs that have nothing in common, one of them with every attribute that images may
have and the other with the fewest. What is the same in both is fixed; what is a value of the input
was copied; what one of them lacks is not always there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

# Words of PS3.2 for whether there is a value, and for where it comes from.
ALWAYS, EMPTY, NOT_ALWAYS_A_VALUE, NOT_ALWAYS_PRESENT = "ALWAYS", "EMPTY", "VNAP", "ANAP"
COPIED, FIXED, CONFIGURED, OF_THE_MODEL, MADE = "IMAGES", "FIXED", "CONFIG", "MODEL", "AUTO"
# Trees of items, of which the first says nothing about the others.
_NOT_FOLLOWED = frozenset(("ContentSequence", "PerFrameFunctionalGroupsSequence"))
# Sequences whose every item is another thing.
_ITEM_BY_ITEM = frozenset(("ContributingEquipmentSequence",))
_BULK = frozenset(("OB", "OW", "OF", "OD", "OL", "OV", "UN"))
_NUMBERS = frozenset(("DS", "FD", "FL", "IS"))
_LONGEST_VALUE = 60
_SHORTEST_TEXT = 3


_Pair = tuple[int, "DataElement | None", "DataElement | None"]


@dataclass(frozen=True)
class Basis:
    """What one object was made of: its source images and the texts that are not in them.

    ``configured`` comes from the settings of the node, ``of_the_model`` from the model's card and
    its answer.
    """

    images: tuple[Dataset, ...]
    configured: frozenset[str]
    of_the_model: frozenset[str]

    @cached_property
    def _values(self) -> frozenset[tuple[int, str]]:
        return frozenset(
            (int(element.tag), _text(element))
            for image in self.images
            for element in image.iterall()
            if element.VR not in ("SQ", *_BULK)
        )

    @cached_property
    def _uids(self) -> frozenset[str]:
        return frozenset(
            _text(element)
            for image in self.images
            for element in image.iterall()
            if element.VR == "UI"
        )

    def has(self, element: DataElement) -> bool:
        """Whether an image has this value under this tag, or a UID under any."""
        text = _text(element)
        return (int(element.tag), text) in self._values or (
            element.VR == "UI" and text in self._uids
        )


@dataclass(frozen=True)
class Sample:
    """The same kind of object from two inputs; ``fullest`` and ``barest`` are their data sets."""

    kind: str
    fullest: Dataset
    barest: Dataset


@dataclass(frozen=True)
class Attribute:
    """One attribute of an object; ``depth`` counts the sequences that it stands in."""

    depth: int
    name: str
    tag: str
    vr: str
    presence: str
    source: str
    value: str

    @property
    def is_private(self) -> bool:
        """Whether its group is odd (PS3.5 section 7.8)."""
        return int(self.tag[1:5], 16) % 2 == 1


@dataclass(frozen=True)
class CreatedObject:
    """A kind of object that the node makes, and its attributes in the order of their tags.

    ``templates`` are the identifiers of the templates that its content tree names (PS3.16).
    """

    kind: str
    sop_class_uid: str
    modality: str
    attributes: tuple[Attribute, ...]
    templates: tuple[str, ...] = ()


def describe_object(sample: Sample, fullest: Basis, barest: Basis) -> CreatedObject:
    """What the two objects of ``sample`` have and do not have in common."""
    pairs = _pairs(sample.fullest, sample.barest, 0)
    attributes = [
        _attribute(depth, one, other, fullest, barest) for depth, one, other in pairs
    ]
    return CreatedObject(
        sample.kind,
        str(sample.fullest.SOPClassUID),
        str(sample.fullest.Modality),
        tuple(attributes),
        tuple(sorted(set(_templates(sample.fullest)) | set(_templates(sample.barest)))),
    )


def _templates(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.keyword == "TemplateIdentifier":
            yield f"TID {element.value}"


def common_attributes(objects: Collection[CreatedObject]) -> tuple[Attribute, ...]:
    """What every one of these objects has in the same way, outside sequences and with them."""
    if len(objects) < 2:
        return ()
    first, *others = (list(_blocks(one.attributes)) for one in objects)
    return tuple(
        attribute
        for block in first
        if all(block in blocks for blocks in others)
        for attribute in block
    )


def own_attributes(
    created: CreatedObject, common: Collection[Attribute]
) -> tuple[Attribute, ...]:
    """What stands in this kind of object beside what is common to all."""
    known = set(_blocks(tuple(common)))
    return tuple(
        attribute
        for block in _blocks(created.attributes)
        if block not in known
        for attribute in block
    )


def _blocks(attributes: tuple[Attribute, ...]) -> Iterator[tuple[Attribute, ...]]:
    """Each attribute of the data set together with what its sequence holds."""
    block: list[Attribute] = []
    for attribute in attributes:
        if attribute.depth == 0 and block:
            yield tuple(block)
            block = []
        block.append(attribute)
    if block:
        yield tuple(block)


def _pairs(one: Dataset | None, other: Dataset | None, depth: int) -> Iterator[_Pair]:
    """Every element that one of two data sets has, with its like in the other, in tag order."""
    tags = sorted({*(one.keys() if one else ()), *(other.keys() if other else ())})
    for tag in tags:
        first = one[tag] if one is not None and tag in one else None
        second = other[tag] if other is not None and tag in other else None
        yield depth, first, second
        either = first if first is not None else second
        if either is not None and either.VR == "SQ" and either.keyword not in _NOT_FOLLOWED:
            for item, like in _items(first, second, either.keyword):
                yield from _pairs(item, like, depth + 1)


def _items(
    one: DataElement | None, other: DataElement | None, keyword: str
) -> Iterator[tuple[Dataset | None, Dataset | None]]:
    """The items of two sequences that are like each other; of most, the first stands for all."""
    first = list(one.value) if one is not None else []
    second = list(other.value) if other is not None else []
    if keyword not in _ITEM_BY_ITEM:
        yield (first or [None])[0], (second or [None])[0]
        return
    length = max(len(first), len(second))
    # What images bring with them stands before what the node adds.
    padded = [[None] * (length - len(items)) + items for items in (first, second)]
    yield from zip(*padded, strict=True)


def _attribute(
    depth: int,
    one: DataElement | None,
    other: DataElement | None,
    fullest: Basis,
    barest: Basis,
) -> Attribute:
    element = one if one is not None else other
    if element is None:
        raise ValueError("a pair of elements without an element")
    source, value = _source(one, other, fullest, barest)
    return Attribute(
        depth, element.name, f"({element.tag.group:04X},{element.tag.element:04X})",
        str(element.VR), _presence(one, other), source, value,
    )  # fmt: skip


def _presence(one: DataElement | None, other: DataElement | None) -> str:
    if one is None or other is None:
        return NOT_ALWAYS_PRESENT
    if one.is_empty and other.is_empty:
        return EMPTY
    return NOT_ALWAYS_A_VALUE if one.is_empty or other.is_empty else ALWAYS


def _source(
    one: DataElement | None, other: DataElement | None, fullest: Basis, barest: Basis
) -> tuple[str, str]:
    """Where the value comes from, and the value where it is always the same."""
    both = [
        (element, basis)
        for element, basis in ((one, fullest), (other, barest))
        if element is not None and not element.is_empty
    ]
    if not both or both[0][0].VR in ("SQ", *_BULK):
        return ("" if both and both[0][0].VR == "SQ" else MADE if both else ""), ""
    texts = [_text(element) for element, _ in both]
    if all(basis.has(element) for element, basis in both):
        # A UID that is one of the images' is theirs, also where both series have it.
        is_theirs = len(set(texts)) == len(texts) or both[0][0].VR == "UI"
        return (COPIED, "") if is_theirs else (FIXED, _shown(texts[0]))
    if len(texts) == 2 and texts[0] == texts[1]:
        return FIXED, _shown(texts[0])
    for word, known in (
        (OF_THE_MODEL, [basis.of_the_model for _, basis in both]),
        (CONFIGURED, [basis.configured for _, basis in both]),
    ):
        if all(_mentions(text, words) for text, words in zip(texts, known, strict=True)):
            return word, ""
    return MADE, ""


def _text(element: DataElement) -> str:
    value: Any = element.value
    values = value if element.VM > 1 else [value]
    if element.VR in _NUMBERS and value not in (None, ""):
        # However many digits each was written with.
        return "\\".join(f"{float(one):g}" for one in values)
    return "\\".join(str(one) for one in values)


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _mentions(text: str, words: Collection[str]) -> bool:
    return any(
        word == text or (len(word) > _SHORTEST_TEXT and word in text) for word in words
    )
