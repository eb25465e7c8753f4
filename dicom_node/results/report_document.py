"""Reports of every kind as a document: Comprehensive 3D SR (PS3.3 A.35.13)."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dicom_node.errors import ConfigurationError
from dicom_node.results.equipment import Equipment, authored, describe
from dicom_node.results.evidence import references_to, set_evidence
from dicom_node.results.finish import finish, local_time
from dicom_node.results.request import Reference, ResultRequest
from sr_templates.codes import PRIVATE_SCHEMES
from sr_templates.entries import LANGUAGES, Language
from sr_templates.image_library import add_images
from sr_templates.measurement_report import Observer, ReportContent, build_content

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CONTENT, _REFERENCED, _INSTANCE = 0x0040A730, 0x00081199, 0x00081155
# Of names, of values and of units.
_CODE_SEQUENCES = (0x0040A043, 0x0040A168, 0x004008EA)
_MEASURED_VALUE, _SCHEME = 0x0040A300, 0x00080102


@dataclass(frozen=True)
class DocumentSource:
    """What a report was made from.

    Attributes
    ----------
    first
        The image that gives patient and study.
    images
        For the Image Library.
    evidence
        The instances that the report was made from.
    cited
        What the tree refers to beside the first image.
    images_agree
        Whether what the first image says holds for the others.
    further
        Images of other series that were analysed together with it, by series.
    """

    first: Dataset
    images: Sequence[Dataset]
    evidence: Sequence[Reference]
    cited: Sequence[Reference] = ()
    images_agree: bool = True
    further: Sequence[Sequence[Dataset]] = ()


def made_from(
    images: Sequence[Dataset], cited: Sequence[Reference] = (),
    further: Sequence[Sequence[Dataset]] = (),
) -> DocumentSource:
    """A report on ``images``, which agree and have their UIDs, and on what was taken ``further``.

    Later phases of the series stand among its own images, each other series for itself.
    """
    series: dict[str, list[Dataset]] = {str(images[0].SeriesInstanceUID): list(images)}
    for members in further:
        series.setdefault(str(members[0].SeriesInstanceUID), []).extend(members)
    own, *others = series.values()
    evidence = references_to([one for members in (own, *others) for one in members])
    return DocumentSource(images[0], own, evidence, cited, further=others)


def language_of(request: ResultRequest) -> Language:
    """The language of the sentences; raises `ConfigurationError` for one that there is not."""
    for language in LANGUAGES:
        if request.language == language:
            return language
    raise ConfigurationError(
        f"reports are written in {', '.join(LANGUAGES)}, not in {request.language!r}",
        key_path="results.language",
    )


def observer_of(equipment: Equipment) -> Observer:
    """The node as the device that observed (PS3.16 TID 1004)."""
    return Observer(
        uid=equipment.device_uid,
        name=equipment.station_name or equipment.model_name,
        manufacturer=equipment.manufacturer,
        model_name=equipment.model_name,
        serial_number=equipment.device_serial_number,
    )


def build_document(
    request: ResultRequest,
    content: ReportContent,
    source: DocumentSource,
    kind: str,
    *,
    series_number: int,
    told_apart_by: str = "",
    coding_schemes: dict[str, tuple[str, str]] | None = None,
) -> Dataset:
    """The finished document.

    ``kind`` and ``told_apart_by`` enter its UIDs; ``coding_schemes`` maps private schemes of a
    template to (name, responsible organization).

    Raises
    ------
    ValueError
        The tree refers to an instance that is neither the first image nor cited.
    """
    import highdicom as hd

    first = source.first
    moment = local_time(request.created_at, first)
    equipment = request.equipment
    tree = build_content(
        content, first, images_agree=source.images_agree,
        further=[images[0] for images in source.further],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report: Any = hd.sr.Comprehensive3DSR(
            evidence=[first, *(_named(reference) for reference in source.cited)],
            content=_root_of(tree),
            series_instance_uid=request.identity.uid(f"{kind}.series{told_apart_by}"),
            series_number=series_number,
            sop_instance_uid=request.identity.uid(f"{kind}.instance{told_apart_by}"),
            instance_number=1,
            is_complete=request.is_complete,
            is_final=request.is_final,
            is_verified=False,
            series_description=describe(
                f"{kind.capitalize()} SR {request.algorithm.model_id}", request.algorithm
            ),
            content_date=moment.date(),
            content_time=moment.time(),
            **authored(request.algorithm, equipment, moment),
        )
    report[_CONTENT] = tree[_CONTENT]
    told = _told(report)
    known = {str(first.SOPInstanceUID), *(one.sop_instance_uid for one in source.cited)}
    if not told.instances <= known:
        raise ValueError("the report refers to an instance that it was not made from")
    _identify_schemes(report, told.schemes, {**PRIVATE_SCHEMES, **(coding_schemes or {})})
    # These name the images of the evidence, and no private scheme.
    add_images(report, source.images, source.further)
    earlier = request.follow_up.references if request.follow_up is not None else ()
    set_evidence(report, [*source.evidence, *source.cited], request.predecessors, earlier)
    return finish(report, first, equipment, moment)


def _root_of(tree: Dataset) -> Dataset:
    """``tree`` without what is in it, which gets into the document afterwards.

    highdicom keeps a copy of the tree for those who read its ``content``, and makes an object of
    every item to look for references: that took a third of the time each.
    """
    import highdicom as hd
    from pydicom.dataelem import DataElement
    from pydicom.sequence import Sequence as DicomSequence

    root: Dataset = hd.sr.ContainerContentItem(
        name=tree.ConceptNameCodeSequence[0], template_id="1500"
    )
    root[_CONTENT] = DataElement(_CONTENT, "SQ", DicomSequence())
    return root


def _named(reference: Reference) -> Dataset:
    from pydicom.dataset import Dataset

    instance = Dataset()
    instance.SOPClassUID = reference.sop_class_uid
    instance.SOPInstanceUID = reference.sop_instance_uid
    instance.SeriesInstanceUID = reference.series_instance_uid
    instance.StudyInstanceUID = reference.study_instance_uid
    return instance


@dataclass(frozen=True)
class _Told:
    """What the items of a tree name: designators of coding schemes, and SOP Instance UIDs."""

    schemes: set[str] = field(default_factory=set)
    instances: set[str] = field(default_factory=set)


def _told(item: Dataset, told: _Told | None = None) -> _Told:
    told = told or _Told()
    for holder in (item, *_items(item, _MEASURED_VALUE)):
        for tag in _CODE_SEQUENCES:
            for code in _items(holder, tag):
                told.schemes.add(str(code[_SCHEME].value))
    for reference in _items(item, _REFERENCED):
        told.instances.add(str(reference[_INSTANCE].value))
    for child in _items(item, _CONTENT):
        _told(child, told)
    return told


def _items(dataset: Dataset, tag: int) -> Sequence[Dataset]:
    element = dataset.get_item(tag)
    items: Sequence[Dataset] = () if element is None else dataset[tag].value or ()
    return items


def _identify_schemes(
    report: Dataset, schemes: Collection[str], described: dict[str, tuple[str, str]]
) -> None:
    """Say what each private coding scheme of the report is (PS3.3 C.12.1)."""
    from pydicom.dataset import Dataset

    items = []
    for designator in sorted(described.keys() & schemes):
        name, organization = described[designator]
        item = Dataset()
        item.CodingSchemeDesignator = designator
        item.CodingSchemeName = name
        item.CodingSchemeResponsibleOrganization = organization
        items.append(item)
    if items:
        report.CodingSchemeIdentificationSequence = items
