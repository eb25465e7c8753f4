"""Which part of the body, from where, and which side an image says that it shows.

Terms and codes are compared as regions of PS3.16 (Annex L and CID 4009, 4030, 4031), by the keyword
of their code: ``THORAX``, ``CHEST`` and (51185008, SCT) are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from dicom_node.imaging.elements import sequence, text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code

# Terms of PS3.16 Annex L, and usual ones, whose spelling is not that of the code's keyword.
_OTHER_TERMS = {
    "THORAX": "CHEST", "TORAX": "CHEST", "LUNGS": "LUNG", "RIBS": "RIB",
    "CSPINE": "CERVICALSPINE", "TSPINE": "THORACICSPINE", "LSPINE": "LUMBARSPINE",
    "SSPINE": "SACRUM", "CTSPINE": "CERVICOTHORACICSPINE", "TLSPINE": "THORACOLUMBARSPINE",
    "LSSPINE": "LUMBOSACRALSPINE", "WHOLESPINE": "SPINE", "WHOLEBODY": "ENTIREBODY",
    "ARM": "UPPERARM", "LEG": "LOWERLEG", "UPEXM": "UPPERLIMB", "LOWEXM": "LOWERLIMB",
    "WRIST": "WRISTJOINT", "ELBOW": "ELBOWJOINT", "ANKLE": "ANKLEJOINT", "JAW": "JAWREGION",
    "HANDS": "HAND", "FINGERS": "FINGER", "TOES": "TOE", "SKULLANDBRAIN": "HEAD",
    "SINUS": "PARANASALSINUS", "TMJ": "TEMPOROMANDIBULARJOINT", "TMJOINT": "TEMPOROMANDIBULARJOINT",
    "ABDOMENPELVIS": "ABDOMENANDPELVIS", "CHESTABDOMEN": "CHESTANDABDOMEN",
    "CHESTABDPELVIS": "CHESTABDOMENANDPELVIS", "HEADNECK": "HEADANDNECK",
    "NECKCHEST": "NECKANDCHEST", "NECKCHESTABDOMEN": "NECKCHESTANDABDOMEN",
    "NECKCHESTABDPELV": "NECKCHESTABDOMENANDPELVIS",
}
# Regions of Annex L that have no code in the lists that are read.
_FURTHER = ("LUNG",)
_ARM = frozenset({
    "SHOULDER", "UPPERARM", "HUMERUS", "ELBOWJOINT", "FOREARM", "WRISTJOINT", "HAND", "FINGER",
    "THUMB", "BONEOFUPPERLIMB",
})
_LEG = frozenset({
    "HIP", "HIPJOINT", "THIGH", "FEMUR", "KNEE", "PATELLA", "LOWERLEG", "FIBULA", "ANKLEJOINT",
    "FOOT", "CALCANEUS", "TOE", "TARSALJOINT", "BONEOFLOWERLIMB",
})
_CHEST = frozenset({"CHEST", "LUNG"})
_HEAD = frozenset({"HEAD", "BRAIN", "SKULL"})
_NECK, _ABDOMEN, _PELVIS = frozenset({"NECK"}), frozenset({"ABDOMEN"}), frozenset({"PELVIS"})
# What a wider region holds, as far as models are made for it.
_HOLDS = {
    "EXTREMITY": _ARM | _LEG | {"UPPERLIMB", "LOWERLIMB"},
    "UPPERLIMB": _ARM, "LOWERLIMB": _LEG,
    "HEADANDNECK": _HEAD | _NECK, "NECKANDCHEST": _NECK | _CHEST,
    "CHESTANDABDOMEN": _CHEST | _ABDOMEN, "ABDOMENANDPELVIS": _ABDOMEN | _PELVIS,
    "CHESTABDOMENANDPELVIS": _CHEST | _ABDOMEN | _PELVIS,
    "NECKCHESTANDABDOMEN": _NECK | _CHEST | _ABDOMEN,
    "NECKCHESTABDOMENANDPELVIS": _NECK | _CHEST | _ABDOMEN | _PELVIS,
}
_WHOLE = "ENTIREBODY"
# Codes that these regions and views had in earlier editions: (Code Value, scheme) as most send it.
_EARLIER_REGIONS = {
    ("51185008", "SCT"): "CHEST", ("113345001", "SCT"): "ABDOMEN", ("12921003", "SCT"): "PELVIS",
    ("39607008", "SCT"): "LUNG", ("302551006", "SCT"): "CHEST",
}
_EARLIER_VIEWS = {("R-10214", "SRT"): "PosteroAnterior"}
_LISTS = ("cid4009", "cid4030", "cid4031")
# View Position (C.8.1.2, C.8.11.5) of codes in CID 4010 and CID 4014, by their keyword. "Frontal"
# leaves open which of two.
_VIEWS = {
    "PosteroAnterior": ("PA",), "AnteroPosterior": ("AP",), "Frontal": ("PA", "AP"),
    "LeftLateral": ("LL",), "RightLateral": ("RL",), "CranioCaudal": ("CC",),
    "MedioLateralObliqueProjection": ("MLO",), "MedioLateralProjection": ("ML",),
    "LateroMedial": ("LM",), "LateralMedial": ("LM",), "LateroMedialOblique": ("LMO",),
}
_UNKNOWN_VIEW = "another view"


def region_of_term(term: str) -> str | None:
    """The region of a Body Part Examined (0018,0015): ``CHEST`` of ``Thorax``; ``None`` of a word
    that PS3.16 does not know."""
    plain = "".join(one for one in term.upper() if one.isalnum())
    plain = _OTHER_TERMS.get(plain, plain)
    return plain if plain in _regions() else None


def regions_of(image: Dataset) -> tuple[set[str], bool]:
    """The regions that a header names, and whether it names one that is not known.

    Of Body Part Examined and Anatomic Region Sequence (0008,2218), of the image and of the shared
    groups of a multi-frame one (PS3.3 C.7.6.16.2.8).
    """
    found: set[str] = set()
    is_unknown = False
    # One value is allowed, and several are found.
    stated = text(image, "BodyPartExamined").split("\\")
    terms = [region_of_term(one) for one in stated if one.strip()]
    for region in [*terms, *(_region_of_code(item) for item in _region_items(image))]:
        if region is None:
            is_unknown = True
        else:
            found.add(region)
    return found, is_unknown


def holds(region: str, wanted: set[str]) -> bool:
    """Whether a region is wider than one of ``wanted``: it may show it, and other things too."""
    return region == _WHOLE or bool(_HOLDS.get(region, frozenset()) & wanted)


def views_of(image: Dataset) -> list[tuple[str, ...]]:
    """Of View Position (0018,5101) and View Code Sequence (0054,0220) what each leaves open.

    Empty where neither is there; of an unknown code a word that is no view.
    """
    stated = text(image, "ViewPosition").upper()
    found: list[tuple[str, ...]] = [(stated,)] if stated else []
    for item in sequence(image, "ViewCodeSequence")[:1]:
        keyword = next((one for code, one in _view_codes() if code == _code_of(item)), "")
        found.append(_VIEWS.get(keyword, (_UNKNOWN_VIEW,)))
    return found


def sides_of(image: Dataset) -> set[str]:
    """``L``, ``R`` or ``B`` of Image Laterality (0020,0062), Laterality (0020,0060) and Frame
    Laterality (0020,9072); empty where none is stated, or where the part is not paired (``U``)."""
    stated = [text(image, "ImageLaterality"), text(image, "Laterality")]
    stated += [text(item, "FrameLaterality") for item in _frame_anatomy(image)]
    return {one.upper() for one in stated} & {"L", "R", "B"}


def _region_items(image: Dataset) -> Iterator[Dataset]:
    for place in (image, *_frame_anatomy(image)):
        yield from sequence(place, "AnatomicRegionSequence")


def _frame_anatomy(image: Dataset) -> Iterator[Dataset]:
    for groups in sequence(image, "SharedFunctionalGroupsSequence"):
        yield from sequence(groups, "FrameAnatomySequence")


def _region_of_code(item: Dataset) -> str | None:
    return next((one for code, one in _region_codes() if code == _code_of(item)), None)


def _code_of(item: Dataset) -> Code:
    """Compared with another, SNOMED's older form (SRT) is the newer one, as pydicom maps them."""
    from pydicom.sr.coding import Code

    return Code(text(item, "CodeValue"), text(item, "CodingSchemeDesignator"), "")


@cache
def _region_codes() -> tuple[tuple[Code, str], ...]:
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    lists = [getattr(codes, name) for name in _LISTS]
    named = {
        keyword.upper(): getattr(one, keyword) for one in lists for keyword in sorted(one.dir())
    }
    earlier = [(Code(*code, ""), keyword) for code, keyword in _EARLIER_REGIONS.items()]
    return (*((code, keyword) for keyword, code in named.items()), *earlier)


@cache
def _regions() -> frozenset[str]:
    return frozenset({keyword for _, keyword in _region_codes()} | set(_FURTHER) | set(_HOLDS))


@cache
def _view_codes() -> tuple[tuple[Code, str], ...]:
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    lists = (codes.cid4010, codes.cid4014)
    named = [(getattr(one, keyword), keyword) for one in lists for keyword in sorted(one.dir())]
    earlier = [(Code(*code, ""), keyword) for code, keyword in _EARLIER_VIEWS.items()]
    return (*named, *earlier)
