"""Reports of every kind as a document: Comprehensive 3D SR (PS3.3 A.35.13)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
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

_CODE_SEQUENCES = (
    "ConceptNameCodeSequence",
    "ConceptCodeSequence",
    "MeasurementUnitsCodeSequence",
)


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
    """
    import highdicom as hd

    first = source.first
    moment = local_time(request.created_at, first)
    equipment = request.equipment
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report: Any = hd.sr.Comprehensive3DSR(
            evidence=[first, *(_named(reference) for reference in source.cited)],
            content=_not_copied(build_content(
                content, first, images_agree=source.images_agree,
                further=[images[0] for images in source.further],
            )),
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
    add_images(report, source.images, source.further)
    earlier = request.follow_up.references if request.follow_up is not None else ()
    set_evidence(report, [*source.evidence, *source.cited], request.predecessors, earlier)
    _identify_schemes(report, {**PRIVATE_SCHEMES, **(coding_schemes or {})})
    return finish(report, first, equipment, moment)


def _not_copied(tree: Dataset) -> Dataset:
    """``tree``, of which highdicom copies no more than the root.

    It takes the tree into the document as it is, and keeps a copy of objects for those who read
    its ``content``: nobody does, and the copy took a third of the time.
    """
    import highdicom as hd

    root = hd.sr.ContainerContentItem(name=tree.ConceptNameCodeSequence[0], template_id="1500")
    # Looked up by `copy.deepcopy`; no element has this name.
    tree.__deepcopy__ = lambda memo: root
    return tree


def _named(reference: Reference) -> Dataset:
    from pydicom.dataset import Dataset

    instance = Dataset()
    instance.SOPClassUID = reference.sop_class_uid
    instance.SOPInstanceUID = reference.sop_instance_uid
    instance.SeriesInstanceUID = reference.series_instance_uid
    instance.StudyInstanceUID = reference.study_instance_uid
    return instance


def _identify_schemes(report: Dataset, described: dict[str, tuple[str, str]]) -> None:
    """Say what each private coding scheme of the report is (PS3.3 C.12.1)."""
    from pydicom.dataset import Dataset

    items = []
    for designator in sorted(_schemes(report) & described.keys()):
        name, organization = described[designator]
        item = Dataset()
        item.CodingSchemeDesignator = designator
        item.CodingSchemeName = name
        item.CodingSchemeResponsibleOrganization = organization
        items.append(item)
    if items:
        report.CodingSchemeIdentificationSequence = items


def _schemes(item: Dataset) -> set[str]:
    found = {
        str(code.CodingSchemeDesignator)
        for holder in (item, *item.get("MeasuredValueSequence", []))
        for keyword in _CODE_SEQUENCES
        for code in holder.get(keyword, [])
    }
    for child in item.get("ContentSequence", []):
        found |= _schemes(child)
    return found
