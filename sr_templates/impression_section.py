"""The drafted impression as a section of its own in a report (DCM 121072, Impressions).

TID 1500 may be extended. Each sentence is a TEXT (DCM 121073, Impression) that is INFERRED FROM the
measurement groups that it is made from, by their Tracking Unique Identifiers (DCM 112040): a
reference within the tree, which Enhanced SR must not have, would keep the section out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_models.types import Code
from sr_templates import codes
from sr_templates.entries import Language, Wording
from sr_templates.narrative import pieces

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IMPRESSIONS = Code("121072", "DCM", "Impressions")
IMPRESSION = Code("121073", "DCM", "Impression")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
_HEADING = Wording(
    en="AI draft, not reviewed.",
    de="Entwurf einer KI, nicht geprüft.",
    fr="Brouillon d'une IA, non relu.",
    zh="AI 草稿，未经审核。",
)
_WRITER = Wording(
    en="Written by {writer} from the measurements of this report.",
    de="Verfasst von {writer} aus den Messwerten dieses Berichts.",
    fr="Rédigé par {writer} à partir des mesures de ce compte rendu.",
    zh="由 {writer} 根据本报告的测量结果撰写。",
)
_STRUCK = Wording(
    en="Sentences of the draft that were struck, as the measurements do not say them: {count}.",
    de="Sätze des Entwurfs, die gestrichen wurden, weil die Messwerte sie nicht belegen: {count}.",
    fr="Phrases du brouillon supprimées, car les mesures ne les disent pas : {count}.",
    zh="草稿中因测量结果不支持而删除的句子数：{count}。",
)


@dataclass(frozen=True)
class SectionSentence:
    """A sentence, and the Tracking UIDs of the measurement groups that it is made from."""

    text: str
    tracking_uids: tuple[str, ...] = ()


def impression_section(
    sentences: Sequence[SectionSentence], writer: str, struck: int, language: Language
) -> Dataset:
    """The section as one container, to stand in the root of a report.

    ``writer`` says who drafted, with model and digest; ``struck`` is how many sentences of the
    draft were not kept.
    """
    import highdicom as hd

    container = hd.sr.ContainerContentItem(
        name=codes.concept(IMPRESSIONS), relationship_type="CONTAINS"
    )
    comments = [_HEADING.in_language(language), _WRITER.in_language(language).format(writer=writer)]
    items = [_text(codes.COMMENT, comment) for comment in comments]
    for sentence in sentences:
        for piece in pieces(sentence.text):
            item = _text(IMPRESSION, piece)
            if sentence.tracking_uids:
                item.ContentSequence = hd.sr.ContentSequence(
                    [_reference(uid) for uid in sentence.tracking_uids]
                )
            items.append(item)
    if struck:
        items.append(_text(codes.COMMENT, _STRUCK.in_language(language).format(count=struck)))
    container.ContentSequence = hd.sr.ContentSequence(items)
    section: Dataset = container
    return section


def _text(name: Code, value: str) -> Any:
    import highdicom as hd

    return hd.sr.TextContentItem(
        name=codes.concept(name), value=value[:1024], relationship_type="CONTAINS"
    )


def _reference(uid: str) -> Any:
    import highdicom as hd

    return hd.sr.UIDRefContentItem(
        name=codes.concept(TRACKING_UID), value=uid, relationship_type="INFERRED FROM"
    )
