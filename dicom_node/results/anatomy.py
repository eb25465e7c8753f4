"""The part of the body that an image shows, as a code (PS3.3 C.7.6.16.2.8, PS3.16 CID 4031)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from ai_models.types import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENTIRE_BODY = Code("38266002", "SCT", "Entire body")
# PS3.16 CID 244, by Image Laterality (0020,0062) and Laterality (0020,0060).
_SIDES = {"L": Code("7771000", "SCT", "Left"), "R": Code("24028007", "SCT", "Right")}
# Terms of PS3.16 Annex L whose spelling is not that of the code in CID 4031.
_OTHER_TERMS = {
    "THORAX": "CHEST",
    "CSPINE": "CERVICALSPINE",
    "TSPINE": "THORACICSPINE",
    "LSPINE": "LUMBARSPINE",
    "WHOLEBODY": "ENTIREBODY",
}


def frame_anatomy(source: Dataset) -> Dataset:
    """Item of a Frame Anatomy Sequence for frames on the grid of ``source``.

    The source's own item or Anatomic Region where it has one, else the code of its Body Part
    Examined; the entire body where neither says anything narrower.
    """
    own = _own_item(source)
    if own is not None:
        return own
    item = Dataset()
    item.FrameLaterality = str(source.get("ImageLaterality") or source.get("Laterality") or "U")
    region = source.get("AnatomicRegionSequence") or [
        _coded(str(source.get("BodyPartExamined", "")))
    ]
    item.AnatomicRegionSequence = [region[0]]
    return item


def side_of(source: Dataset) -> Code | None:
    """Which of a pair an image states that it shows; ``None`` where it states neither."""
    return _SIDES.get(str(source.get("ImageLaterality") or source.get("Laterality") or "U"))


def _own_item(source: Dataset) -> Dataset | None:
    shared: Sequence[Dataset] = source.get("SharedFunctionalGroupsSequence", [])
    items = shared[0].get("FrameAnatomySequence") if shared else None
    own: Dataset | None = items[0] if items else None
    return own


def _coded(body_part: str) -> Dataset:
    from pydicom.sr.codedict import codes

    terms = {keyword.upper(): keyword for keyword in codes.cid4031.dir()}
    keyword = terms.get(_OTHER_TERMS.get(body_part, body_part))
    region = Dataset()
    concept = getattr(codes.cid4031, keyword) if keyword else None
    region.CodeValue = concept.value if concept else _ENTIRE_BODY.value
    region.CodingSchemeDesignator = concept.scheme_designator if concept else _ENTIRE_BODY.scheme
    region.CodeMeaning = concept.meaning if concept else _ENTIRE_BODY.meaning
    return region
