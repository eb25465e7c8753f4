"""SNOMED CT codes of the structures that FreeSurfer names, as segmented property types."""

from __future__ import annotations

from ai_models.types import Code

_CODES = {
    "White Matter": Code("68523003", "SCT", "Cerebral White Matter"),
    "Grey Matter": Code("40146001", "SCT", "Cerebral Gray Matter"),
    "Cerebral-White-Matter": Code("68523003", "SCT", "Cerebral White Matter"),
    "Cerebral-Cortex": Code("40146001", "SCT", "Cerebral cortex"),
    "Lateral-Ventricle": Code("66720007", "SCT", "Lateral Ventricle"),
    "Inferior-Lateral-Ventricle": Code("53118009", "SCT", "Inferior Horn of Lateral Ventricle"),
    "Cerebellum-White-Matter": Code("33060004", "SCT", "Cerebellar White Matter"),
    "Cerebellum-Cortex": Code("25991003", "SCT", "Cerebellar Cortex"),
    "Thalamus": Code("42695009", "SCT", "Thalamus"),
    "Caudate": Code("11000004", "SCT", "Caudate Nucleus"),
    "Putamen": Code("89278009", "SCT", "Putamen"),
    "Pallidum": Code("14738005", "SCT", "Globus Pallidus"),
    "3rd-Ventricle": Code("49841001", "SCT", "Third ventricle"),
    "4th-Ventricle": Code("35918002", "SCT", "Fourth Ventricle"),
    "Brain-Stem": Code("119238007", "SCT", "Brain Stem"),
    "Hippocampus": Code("5366008", "SCT", "Hippocampus"),
    "Amygdala": Code("4958002", "SCT", "Amygdala"),
    "Accumbens-area": Code("427667007", "SCT", "Nucleus Accumbens"),
}


def structure(name: str) -> Code:
    """The code of a structure; a private one where SNOMED CT has none that is known here."""
    known = _CODES.get(name)
    if known is not None:
        return known
    return Code(name.upper().replace("-", "_")[:16], "99DCMNODE", name.replace("-", " ")[:64])
