"""Codes of what labels name: SNOMED CT where a common structure is meant, otherwise a local one.

Codes and meanings are those of PS3.16 (CID 7140, 7151, 7159 and others). A name is looked up
without its side and number: ``kidney_left`` and ``Left kidneys`` are the left kidney.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ai_models.types import Code

ANATOMICAL = Code("91723000", "SCT", "Anatomical Structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
SIDES = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
    "both": Code("51440002", "SCT", "Bilateral"),
}
LOCAL_SCHEME = "99LOCAL"
_SIDE_WORDS = {
    "left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right",
    "both": "both", "bilateral": "both",
}
_ANATOMY = {
    "lung": ("39607008", "Lung"), "lung lobe": ("31094006", "Lobe of lung"),
    "lung upper lobe": ("45653009", "Upper lobe of lung"),
    "lung lower lobe": ("90572001", "Lower lobe of lung"), "heart": ("80891009", "Heart"),
    "trachea": ("44567001", "Trachea"), "bronchus": ("955009", "Bronchus"),
    "mediastinum": ("72410000", "Mediastinum"), "pleura": ("3120008", "Pleura"),
    "chest wall": ("78904004", "Chest wall"), "pericardium": ("76848001", "Pericardium"),
    "heart atrium left": ("82471001", "Left atrium"),
    "heart ventricle left": ("87878005", "Left ventricle"),
    "heart atrium right": ("73829009", "Right atrium"),
    "heart ventricle right": ("53085002", "Right ventricle"),
    "aorta": ("15825003", "Aorta"), "pulmonary artery": ("81040000", "Pulmonary artery"),
    "pulmonary vein": ("122972007", "Pulmonary vein"),
    "inferior vena cava": ("64131007", "Inferior vena cava"),
    "superior vena cava": ("48345005", "Superior vena cava"),
    "portal vein": ("32764006", "Portal vein"), "splenic vein": ("35819009", "Splenic vein"),
    "hepatic vein": ("8993003", "Hepatic vein"), "renal artery": ("2841007", "Renal artery"),
    "coronary artery": ("41801008", "Coronary artery"),
    "carotid artery": ("69105007", "Carotid Artery"),
    "iliac artery": ("10293006", "Iliac artery"), "iliac vena": ("244411005", "Iliac vein"),
    "iliac vein": ("244411005", "Iliac vein"),
    "brachiocephalic vein": ("8887007", "Brachiocephalic vein"),
    "subclavian artery": ("36765005", "Subclavian artery"), "artery": ("51114001", "Artery"),
    "vein": ("29092000", "Vein"), "vessel": ("59820001", "Blood Vessel"),
    "liver": ("10200004", "Liver"), "spleen": ("78961009", "Spleen"),
    "kidney": ("64033007", "Kidney"), "pancreas": ("15776009", "Pancreas"),
    "gallbladder": ("28231008", "Gallbladder"), "stomach": ("69695003", "Stomach"),
    "duodenum": ("38848004", "Duodenum"), "small bowel": ("30315005", "Small intestine"),
    "small intestine": ("30315005", "Small intestine"), "colon": ("71854001", "Colon"),
    "rectum": ("34402009", "Rectum"), "esophagus": ("32849002", "Esophagus"),
    "adrenal gland": ("23451007", "Adrenal gland"), "bladder": ("89837001", "Bladder"),
    "urinary bladder": ("89837001", "Bladder"), "ureter": ("87953007", "Ureter"),
    "prostate": ("41216001", "Prostate"), "seminal vesicle": ("64739004", "Seminal Vesicle"),
    "uterus": ("35039007", "Uterus"), "ovary": ("15497006", "Ovary"),
    "testis": ("40689003", "Testis"), "breast": ("76752008", "Breast"),
    "thyroid": ("69748006", "Thyroid"), "thyroid gland": ("69748006", "Thyroid"),
    "parotid gland": ("45289007", "Parotid gland"),
    "submandibular gland": ("54019009", "Submandibular gland"),
    "larynx": ("4596009", "Larynx"), "tongue": ("21974007", "Tongue"),
    "lymph node": ("59441001", "Lymph Node"),
    "brain": ("12738006", "Brain"), "brain stem": ("119238007", "Brain Stem"),
    "brainstem": ("119238007", "Brain Stem"), "cerebellum": ("113305005", "Cerebellum"),
    "gray matter": ("389081007", "Gray Matter"), "white matter": ("389080008", "White Matter"),
    "cerebral white matter": ("68523003", "Cerebral White Matter"),
    "cerebral cortex": ("40146001", "Cerebral cortex"),
    "cerebellum white matter": ("33060004", "Cerebellar White Matter"),
    "cerebellum cortex": ("25991003", "Cerebellar Cortex"),
    "csf": ("65216001", "Cerebrospinal Fluid"),
    "cerebrospinal fluid": ("65216001", "Cerebrospinal Fluid"),
    "ventricle": ("35764002", "Brain ventricle"),
    "lateral ventricle": ("66720007", "Lateral Ventricle"),
    "inferior lateral ventricle": ("53118009", "Inferior Horn of Lateral Ventricle"),
    "3rd ventricle": ("49841001", "Third ventricle"),
    "third ventricle": ("49841001", "Third ventricle"),
    "4th ventricle": ("35918002", "Fourth Ventricle"),
    "fourth ventricle": ("35918002", "Fourth Ventricle"),
    "thalamus": ("42695009", "Thalamus"), "caudate": ("11000004", "Caudate Nucleus"),
    "putamen": ("89278009", "Putamen"), "pallidum": ("14738005", "Globus Pallidus"),
    "hippocampus": ("5366008", "Hippocampus"), "amygdala": ("4958002", "Amygdala"),
    "accumbens area": ("427667007", "Nucleus Accumbens"),
    "corpus callosum": ("88442005", "Corpus callosum"),
    "frontal lobe": ("83251001", "Frontal lobe"), "temporal lobe": ("78277001", "Temporal lobe"),
    "parietal lobe": ("16630005", "Parietal lobe"),
    "occipital lobe": ("31065004", "Occipital lobe"), "insula": ("36169008", "Insula"),
    "pituitary": ("56329008", "Pituitary"), "spinal cord": ("2748008", "Spinal cord"),
    "eye": ("81745001", "Eye"), "optic nerve": ("18234004", "optic nerve"),
    "bone": ("3138006", "Bone"), "vertebra": ("51282000", "Vertebra"),
    "spine": ("421060004", "Spine"), "rib": ("113197003", "Rib"), "skull": ("89546000", "Skull"),
    "sternum": ("56873002", "Sternum"), "scapula": ("79601000", "Scapula"),
    "clavicle": ("51299004", "Clavicle"), "humerus": ("85050009", "Humerus"),
    "sacrum": ("54735007", "Sacrum"), "hip": ("29836001", "Hip"), "femur": ("71341001", "Femur"),
    "patella": ("64234005", "Patella"), "tibia": ("12611008", "Tibia"),
    "fibula": ("87342007", "Fibula"), "ulna": ("23416004", "Ulna"),
    "radius": ("62413002", "Radius"), "mandible": ("91609006", "Mandible"),
    "maxilla": ("70925003", "Maxilla"), "tooth": ("38199008", "Tooth"),
    "body": ("38266002", "Entire body"),
}
_LEVELS = {
    "c1": "14806007", "c2": "39976000", "c3": "113205007", "c4": "5329002", "c5": "36978003",
    "c6": "36054005", "c7": "87391001", "t1": "64864005", "t2": "53733008", "t3": "1626008",
    "t4": "73071006", "t5": "56401006", "t6": "45296009", "t7": "62487009", "t8": "11068009",
    "t9": "82687006", "t10": "7610001", "t11": "12989004", "t12": "23215003", "l1": "66794005",
    "l2": "14293000", "l3": "36470004", "l4": "11994002", "l5": "49668003",
}
_ANATOMY |= {
    f"vertebra {level}": (value, f"{level.upper()} vertebra") for level, value in _LEVELS.items()
}
_TISSUES = {
    "muscle": ("91727004", "Muscle"), "fat": ("55603005", "Fat"), "skin": ("39937001", "Skin"),
    "cartilage": ("309312004", "Cartilage"),
}
_FINDINGS = {
    "nodule": ("27925004", "Nodule"), "lung nodule": ("27925004", "Nodule"),
    "lesion": ("52988006", "Lesion"), "mass": ("4147007", "Mass"),
    "neoplasm": ("108369006", "Neoplasm"), "cyst": ("367643001", "Cyst"),
    "edema": ("79654002", "Edema"), "hemorrhage": ("50960005", "Hemorrhage"),
    "hematoma": ("35566002", "Hematoma"), "necrosis": ("6574001", "Necrosis"),
    "abscess": ("44132006", "Abscess"), "embolus": ("55584005", "Embolus"),
    "thrombus": ("396339007", "Thrombus"), "metastasis": ("128462008", "Metastasis"),
    "pleural effusion": ("60046008", "Pleural effusion"),
    "pneumothorax": ("36118008", "Pneumothorax"),
}
_SYNONYMS = {
    "tumor": "neoplasm", "tumour": "neoplasm", "cancer": "neoplasm", "haemorrhage": "hemorrhage",
    "haematoma": "hematoma", "bleeding": "hemorrhage", "oedema": "edema",
    "oesophagus": "esophagus", "grey": "gray", "cord": "cord", "vertebrae": "vertebra",
    "metastases": "metastasis", "emboli": "embolus", "bronchi": "bronchus", "teeth": "tooth",
    "testes": "testis", "ovaries": "ovary", "nucleus": "", "the": "", "of": "", "and": "and",
}
_ADJECTIVES = {
    "pulmonary": "lung", "hepatic": "liver", "renal": "kidney", "pancreatic": "pancreas",
    "prostatic": "prostate", "cerebral": "brain", "splenic": "spleen",
}
_BODY_PARTS = {
    "CHEST": ("lung", "pulmon", "heart", "cardi", "atri", "pleur", "trachea", "bronch", "airway",
              "mediast", "rib", "sternum", "myocard", "pneumo", "lv", "rv"),
    "HEAD": ("brain", "cereb", "hippocamp", "thalam", "putamen", "caudate", "gray", "grey",
             "csf", "skull", "intracran"),
    "ABDOMEN": ("liver", "hepat", "spleen", "splen", "kidney", "renal", "pancrea", "gallbladder",
                "stomach", "duoden", "adrenal", "colon", "bowel"),
    "PELVIS": ("prostat", "bladder", "uter", "rectum", "ovar"),
    "BREAST": ("breast", "mammo"),
    "SPINE": ("vertebra", "spine", "spinal"),
}
_KNOWN = {
    frozenset(name.split()): (category, Code(value, "SCT", meaning))
    for category, table in ((ANATOMICAL, _ANATOMY), (TISSUE, _TISSUES), (ABNORMAL, _FINDINGS))
    for name, (value, meaning) in table.items()
}


def known_codes() -> list[Code]:
    """Every code of SNOMED CT that is written here."""
    return [ANATOMICAL, ABNORMAL, TISSUE, *SIDES.values(), *(code for _, code in _KNOWN.values())]


def label_entries(names: Sequence[str]) -> list[tuple[dict[str, Any], str]]:
    """``output.labels`` for these names, and what must be looked at in the codes of each."""
    entries: list[tuple[dict[str, Any], str]] = []
    for value, name in enumerate(names, start=1):
        shown = display_name(name)
        if any(one["name"] == shown for one, _ in entries):
            shown = f"{shown[:58]} {value}"
        entry, why = _label_entry(value, name, shown)
        local = entry["type"]["value"]
        if entry["type"]["scheme"] == LOCAL_SCHEME and any(
            one["type"]["value"] == local for one, _ in entries
        ):
            entry["type"]["value"] = f"{local[:12]}_{value}"
        entries.append((entry, why))
    return entries


def _label_entry(value: int, name: str, shown: str) -> tuple[dict[str, Any], str]:
    meant = _meant(name)
    entry: dict[str, Any] = {"value": value, "name": shown, "category": coded(meant.category)}
    if meant.type is None:
        entry["type"] = coded(Code(local_value(shown), LOCAL_SCHEME, shown))
        why = f"a code for it: {LOCAL_SCHEME} is nobody's"
    else:
        entry["type"] = coded(meant.type)
        why = f"found by its name in a short list: is it the {meant.type.meaning.lower()}?"
    if meant.side is not None:
        entry["laterality"] = coded(meant.side)
    if meant.region is not None:
        entry["anatomic_region"] = coded(meant.region)
    entry["color_rgb"] = list(colour(value - 1))
    return entry, why


def body_part(names: Sequence[str]) -> str:
    """Body Part Examined (0018,0015) in which the first of these names lies; empty: not known."""
    words = [re.findall(r"[a-z]+", name.lower()) for name in names]
    return next((
        part for one in words for word in one for part, stems in _BODY_PARTS.items()
        if word.startswith(stems)
    ), "")


def display_name(name: str) -> str:
    """``kidney_left`` as people read it: ``Kidney left``."""
    words = " ".join(name.replace("_", " ").replace("-", " ").split())[:64]
    return (words[:1].upper() + words[1:]) or "Unnamed"


def local_value(name: str) -> str:
    """A code value of at most 16 characters."""
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")[:16] or "UNNAMED"


def colour(position: int) -> tuple[int, int, int]:
    """A colour of its own for each label: hues round the circle in three shades."""
    hue = (position * 0.618034) % 1.0
    value = 0.95 - 0.18 * (position % 3)
    saturation = 0.75 - 0.0015 * position
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def without_background(names: Sequence[str]) -> list[str]:
    """Names of channels without a first one that says background."""
    first = names[0].lower() if names else ""
    return list(names[1:] if re.match(r"back|bg\b|none|other|unknown|empty", first) else names)


@dataclass(frozen=True)
class _Meant:
    """What a name means; ``type`` is ``None`` where nothing here has that name."""

    category: Code
    type: Code | None = None
    side: Code | None = None
    region: Code | None = None


def _meant(name: str) -> _Meant:
    parts = re.findall(r"[a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    words = [one for part in parts if (one := _SYNONYMS.get(part, part))]
    sides = {_SIDE_WORDS[word] for word in words if word in _SIDE_WORDS}
    whole = _looked_up(words)
    if whole is not None:
        return _Meant(*whole)
    plain = [word for word in words if word not in _SIDE_WORDS]
    side = SIDES[sides.pop()] if len(sides) == 1 else None
    found = _looked_up(plain)
    if found is not None:
        return _Meant(*found, side)
    return _finding_somewhere(plain, side)


def _finding_somewhere(words: list[str], side: Code | None) -> _Meant:
    """A finding in a structure: ``liver tumour``; a type only where both are known."""
    for place, word in enumerate(words):
        finding = _KNOWN.get(frozenset({_singular(word)}))
        if finding is None or finding[0] is not ABNORMAL:
            continue
        rest = [_ADJECTIVES.get(one, one) for one in words[:place] + words[place + 1 :]]
        region = _looked_up(rest)
        if region is None:
            return _Meant(ABNORMAL)
        return _Meant(ABNORMAL, finding[1], side, region[1])
    return _Meant(ANATOMICAL)


def _looked_up(words: Sequence[str]) -> tuple[Code, Code] | None:
    return _KNOWN.get(frozenset(words)) or _KNOWN.get(frozenset(map(_singular, words)))


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def coded(code: Code) -> dict[str, str]:
    """A code as cards write it."""
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}
