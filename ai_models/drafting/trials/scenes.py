"""Random evidence as the shipped reports have it: nodules, lungs, radiographs, a bone age."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ai_models.drafting.evidence import EvidenceItem, EvidenceList

RADIOGRAPH_FINDINGS = (
    ("Pneumothorax", "Pleura"), ("Pleural effusion", "Pleura"), ("Cardiomegaly", "Heart"),
    ("Consolidation", "Lung"), ("Atelectasis", "Lung"), ("Pulmonary oedema", "Lung"),
    ("Emphysema", "Lung"), ("Fibrosis", "Lung"), ("Fracture", "Chest"), ("Infiltrate", "Lung"),
    ("Hiatal hernia", "Chest"), ("Pneumonia", "Lung"), ("Pleural thickening", "Pleura"),
)
_TERMS = ("Solid", "Part-solid", "Ground glass opacity")
_PLACES = (("Kidney", "Cyst"), ("Liver", "Lesion"), ("Lung", "Nodule"), ("Breast", "Mass"))


class Scene:
    """A list of evidence that grows; ids follow the order."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.items: list[EvidenceItem] = []

    def add(self, kind: Any, finding: str, **told: Any) -> EvidenceItem:
        """One more item."""
        item = EvidenceItem(f"E{len(self.items) + 1}", kind, finding, **told)
        self.items.append(item)
        return item

    def number(self, low: float, high: float, decimals: int) -> float:
        """A number as a report writes it."""
        return round(self.chance.uniform(low, high), decimals)

    def measure(
        self, finding: str, quantity: str, value: float, unit: str, decimals: int, **told: Any
    ) -> None:
        """A measurement."""
        self.add("measurement", finding, quantity=quantity, value=value, unit=unit,
                 decimals=decimals, **told)


def nodules(chance: random.Random) -> EvidenceList:
    """Several findings of one kind in one organ, some beside an earlier examination."""
    scene = Scene(chance)
    organ, kind = chance.choice(_PLACES)
    many = chance.randint(1, 4)
    scene.add("count", kind, value=float(many), site=organ)
    follow = chance.random() < 0.6
    days = chance.randint(60, 800)
    has_sides = chance.random() < 0.6
    for number in range(1, many + 1):
        name = f"{kind} {number}"
        where: dict[str, Any] = {"site": organ}
        if has_sides:
            where["side"] = chance.choice(("left", "right"))
        long_axis = scene.number(4, 40, 1)
        scene.measure(name, "Long axis", long_axis, "mm", 1, **where)
        scene.measure(name, "Short axis", round(long_axis * chance.uniform(0.45, 0.8), 1), "mm", 1,
                      **where)
        volume = scene.number(0.1, 30, 2)
        scene.measure(name, "Volume", volume, "ml", 2, **where)
        scene.measure(name, "Mean attenuation coefficient", scene.number(-650, 120, 1),
                      "[hnsf'U]", 1, **where)
        if chance.random() < 0.5:
            scene.measure(name, "Probability", scene.number(0.5, 0.99, 3), "1", 3, **where)
        if organ == "Lung":
            scene.add("term", name, term=chance.choice(_TERMS), **where)
        if follow:
            _followed(scene, name, volume, days, where)
    return EvidenceList(tuple(scene.items))


def _followed(
    scene: Scene, name: str, volume: float, days: int, where: dict[str, Any]
) -> None:
    chance = scene.chance
    status = chance.choice(("grown", "shrunk", "steady", "new", "beyond_earlier"))
    told: dict[str, Any] = {"status": status, "days": days, **where}
    if status in ("grown", "shrunk", "steady"):
        ratio = {"grown": chance.uniform(1.3, 3), "shrunk": chance.uniform(0.3, 0.7)}.get(
            status, chance.uniform(0.93, 1.06)
        )
        before = round(volume / ratio, 3)
        told |= {
            "before_ml": before, "after_ml": volume,
            "percent": float(round(abs(volume / before - 1) * 100)),
        }
    scene.add("comparison", name, **told)
    if status == "grown":
        scene.measure(name, "Volume doubling time", float(chance.randint(40, 900)), "d", 0, **where)


def lungs(chance: random.Random) -> EvidenceList:
    """A paired organ: volume, mean and deviation of each side and of both."""
    scene = Scene(chance)
    organ = chance.choice(("lung", "kidney"))
    low, high = ((800, 3200), (-900, -650)) if organ == "lung" else ((90, 260), (20, 45))
    for side in ("left", "right"):
        name = f"{side.capitalize()} {organ}"
        where: dict[str, Any] = {"side": side, "site": organ.capitalize()}
        scene.measure(name, "Volume", scene.number(*low, 1), "ml", 1, **where)
        scene.measure(name, "Mean attenuation coefficient", scene.number(*high, 1), "[hnsf'U]", 1,
                      **where)
        scene.measure(name, "Standard deviation attenuation coefficient",
                      scene.number(8, 260, 1), "[hnsf'U]", 1, **where)
    if chance.random() < 0.4:
        scene.add("not_found", "Spleen", site="Spleen")
    return EvidenceList(tuple(scene.items))


def radiograph(chance: random.Random) -> EvidenceList:
    """Scores of a radiograph: present, absent, undetermined."""
    scene = Scene(chance)
    for name, site in chance.sample(RADIOGRAPH_FINDINGS, chance.randint(3, 7)):
        value = scene.number(0.01, 0.99, 3)
        status = "present" if value >= 0.7 else "undetermined" if value >= 0.3 else "absent"
        scene.add("score", name, site=site, value=value, quantity="Probability", unit="1",
                  decimals=3, status=status, bounds=(0.7, 0.3))
    if chance.random() < 0.3:
        scene.add("not_analysed", "Lung lesion", site="Lung")
    return EvidenceList(tuple(scene.items))


def embolism(chance: random.Random) -> EvidenceList:
    """One score with measurements beside it, and another one."""
    scene = Scene(chance)
    value = scene.number(0.01, 0.99, 3)
    status = "present" if value >= 0.7 else "undetermined" if value >= 0.3 else "absent"
    told: dict[str, Any] = {"site": "Pulmonary artery"}
    scene.add("score", "Pulmonary embolism", value=value, quantity="Probability", unit="1",
              decimals=3, status=status, bounds=(0.7, 0.3), **told)
    if status == "present":
        scene.measure("Pulmonary embolism", "Volume", scene.number(0.3, 12, 2), "ml", 2, **told)
        scene.measure("Pulmonary embolism", "Obstruction index", scene.number(4, 70, 1), "%", 1,
                      **told)
    return EvidenceList(tuple(scene.items))


def bone_age(chance: random.Random) -> EvidenceList:
    """Numbers of a whole image."""
    scene = Scene(chance)
    told: dict[str, Any] = {"site": "Hand"}
    scene.measure("Bone age", "Bone age by Greulich and Pyle", scene.number(20, 215, 1), "mo", 1,
                  **told)
    scene.measure("Bone age", "Z-score", scene.number(-3, 3, 1), "1", 1, **told)
    return EvidenceList(tuple(scene.items))


def gone(chance: random.Random) -> EvidenceList:
    """What was there before and is not found now, beside what is."""
    scene = Scene(chance)
    days = chance.randint(60, 800)
    scene.add("count", "Nodule", value=1.0, site="Lung")
    long_axis = scene.number(4, 40, 1)
    scene.measure("Nodule 1", "Long axis", long_axis, "mm", 1, site="Lung")
    volume = scene.number(0.1, 30, 2)
    before = round(volume / chance.uniform(1.3, 3), 3)
    scene.add("comparison", "Nodule 1", status="grown", days=days, before_ml=before,
              after_ml=volume, percent=float(round((volume / before - 1) * 100)), site="Lung")
    scene.add("comparison", "Nodule 2", status=chance.choice(("gone", "beyond_present")),
              days=days, before_ml=scene.number(0.1, 9, 2))
    return EvidenceList(tuple(scene.items))


SCENES: tuple[Callable[[random.Random], EvidenceList], ...] = (
    nodules, nodules, nodules, lungs, radiograph, radiograph, embolism, bone_age, gone,
)


def scene_of(chance: random.Random) -> EvidenceList:
    """One scene."""
    return chance.choice(SCENES)(chance)


def changed(evidence: EvidenceList, item: EvidenceItem, **told: Any) -> EvidenceList:
    """The same evidence with one item told otherwise."""
    return EvidenceList(tuple(
        replace(one, **told) if one.id == item.id else one for one in evidence
    ))
