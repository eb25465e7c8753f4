"""A template and measurements as the content tree of a Measurement Report (PS3.16 TID 1500).

A report holds groups of one kind only (`sr_templates.measurement_groups`), because viewers drop
one that mixes them. Sentences stand as Comments in the report's Qualitative Evaluations (TID 1500
rows 12 and 14), and so do the coded answers of the whole report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ai_models.types import Algorithm, Code
from sr_templates import codes
from sr_templates.entries import Language
from sr_templates.image_library import image_library
from sr_templates.measurement_groups import Finding, measurement_group

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Observer:
    """The device that made the report (PS3.16 TID 1004)."""

    uid: str
    name: str
    manufacturer: str
    model_name: str
    serial_number: str


@dataclass(frozen=True)
class ReportContent:
    """What one report says. ``answers`` are (concept, value) of the report as a whole."""

    title: Code
    language: Language
    procedure: Code
    algorithm: Algorithm
    observer: Observer
    findings: tuple[Finding, ...] = ()
    answers: tuple[tuple[Code, Code], ...] = ()
    comments: tuple[str, ...] = field(default=())


def build_content(
    content: ReportContent, first_image: Dataset, *, images_agree: bool = True,
    further: Sequence[Dataset] = (),
) -> Dataset:
    """Root container of the report.

    Parameters
    ----------
    content
        What it says; without findings it is an explicit answer.
    first_image
        Header of one analysed image: the Image Library describes what it shares with the others,
        and ``image_library.add_images`` adds them to the finished document.
    images_agree
        Whether the images share anything but their modality.
    further
        The first images of other series that were analysed together with it.

    Raises
    ------
    ValueError
        The findings are of several kinds.
    """
    import highdicom as hd

    if len({type(finding.where) for finding in content.findings}) > 1:
        raise ValueError("a report must not mix groups of several kinds")
    root = hd.sr.ContainerContentItem(name=codes.concept(content.title), template_id="1500")
    language = codes.concept(codes.LANGUAGE_CODES[content.language])
    items: list[Any] = list(hd.sr.LanguageOfContentItemAndDescendants(language))
    items += list(_observation_context(content.observer))
    items.append(_code_item(codes.PROCEDURE_REPORTED, content.procedure, "HAS CONCEPT MOD"))
    items.append(image_library(first_image, images_agree=images_agree, further=further))
    if content.findings:
        items.append(_imaging_measurements(content))
    items.append(_qualitative_evaluations(content))
    root.ContentSequence = hd.sr.ContentSequence(items)
    tree: Dataset = root
    return tree


def _observation_context(observer: Observer) -> Any:
    import highdicom as hd

    attributes = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=observer.uid,
        name=observer.name,
        manufacturer_name=observer.manufacturer,
        model_name=observer.model_name,
        serial_number=observer.serial_number,
    )
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(codes.concept(codes.DEVICE), attributes)
    )


def _imaging_measurements(content: ReportContent) -> Any:
    import highdicom as hd

    container = hd.sr.ContainerContentItem(
        name=codes.concept(codes.IMAGING_MEASUREMENTS), relationship_type="CONTAINS"
    )
    groups = [measurement_group(finding, content.algorithm) for finding in content.findings]
    container.ContentSequence = hd.sr.ContentSequence(groups)
    return container


def _qualitative_evaluations(content: ReportContent) -> Any:
    import highdicom as hd

    container = hd.sr.ContainerContentItem(
        name=codes.concept(codes.QUALITATIVE_EVALUATIONS), relationship_type="CONTAINS"
    )
    items: list[Any] = [_code_item(name, value, "CONTAINS") for name, value in content.answers]
    items += [
        hd.sr.TextContentItem(
            name=codes.concept(codes.COMMENT), value=comment, relationship_type="CONTAINS"
        )
        for comment in content.comments
    ]
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def _code_item(name: Code, value: Code, relationship: str) -> Any:
    import highdicom as hd

    return hd.sr.CodeContentItem(
        name=codes.concept(name), value=codes.concept(value), relationship_type=relationship
    )
