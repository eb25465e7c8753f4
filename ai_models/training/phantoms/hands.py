"""Drawn radiographs of a left hand by age: how far its bones have grown is what is to be read.

The order in which the centres of ossification come and close follows Greulich and Pyle
(Radiographic Atlas of Skeletal Development of the Hand and Wrist, 1959) and Gilsanz and Ratib
(Hand Bone Age, 2005), in round numbers; the shapes are invented. Girls are ahead of boys: the
same hand is an older boy's or a younger girl's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.training.phantoms.bones import Mineral, Plate, Point, XrayUnit, exposed

FloatArray = npt.NDArray[np.float32]
YOUNGEST, OLDEST = 24.0, 216.0
"""Months of bone age that are drawn."""
AHEAD = {"M": 1.0, "F": 0.86}
"""A girl's bone age is so much of a boy's with the same hand."""
LARGEST_MM = (256.0, 192.0)
"""Height and width of what is shown."""
# Years of a boy at which a bone of the wrist begins to be seen, and where it ends up: down from
# the base of the third metacarpal and to the thumb, in mm of a grown hand; half axes.
_CARPALS = {
    "capitate": (0.2, (9.0, 0.0), (10.0, 6.5)), "hamate": (0.3, (9.0, -12.0), (9.0, 7.0)),
    "triquetrum": (2.5, (19.0, -15.0), (6.5, 6.0)), "lunate": (4.0, (21.0, -3.0), (6.5, 7.0)),
    "trapezium": (5.5, (6.5, 21.0), (6.5, 6.5)), "trapezoid": (6.0, (5.5, 11.5), (5.5, 5.0)),
    "scaphoid": (6.0, (17.0, 12.0), (9.5, 5.5)), "pisiform": (10.5, (18.0, -19.0), (4.0, 4.0)),
}
# Down and across (to the thumb) of the base of each ray, its direction in degrees, and lengths of
# metacarpal and phalanges of a grown hand; the thumb has two.
_RAYS = (
    ((4.0, 25.0), 42.0, (44.0, 32.0, 0.0, 22.0)),
    ((0.0, 13.0), 9.0, (66.0, 40.0, 24.0, 17.0)),
    ((0.0, 1.0), 1.0, (64.0, 44.0, 29.0, 18.0)),
    ((1.0, -9.0), -7.0, (57.0, 41.0, 27.0, 18.0)),
    ((3.0, -18.0), -16.0, (53.0, 32.0, 19.0, 16.0)),
)
_RADII = (4.4, 4.4, 3.8, 3.3)


@dataclass(frozen=True)
class HandVariation:
    """Whose hand it is and how it lies.

    Attributes
    ----------
    bone_age_months
        By the standard of the sex: the truth.
    sex
        ``M`` or ``F``.
    size
        Of this hand among those of its age; 1 is the middle.
    spread, turn_degrees
        How far the fingers are apart, and how the hand lies.
    shift_mm
        Down and across.
    margins_mm
        What is shown above and below the hand, left and right of it; ``None``: all of the plate.
        Below, the hand ends where the forearm begins.
    """

    bone_age_months: float
    sex: str = "M"
    size: float = 1.0
    spread: float = 1.0
    turn_degrees: float = 0.0
    shift_mm: Point = (0.0, 0.0)
    margins_mm: tuple[float, float, float, float] | None = None

    @property
    def maturity_y(self) -> float:
        """The bone age in years of a boy with such a hand: all that is drawn follows from it."""
        return self.bone_age_months / AHEAD[self.sex] / 12.0


def random_hand(rng: np.random.Generator) -> HandVariation:
    """Any hand."""
    return HandVariation(
        float(rng.uniform(YOUNGEST, OLDEST)), "MF"[int(rng.integers(2))],
        float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12)), float(rng.uniform(0.8, 1.25)),
        float(rng.uniform(-8.0, 8.0)), (float(rng.uniform(-5, 5)), float(rng.uniform(-5, 5))),
    )


def random_margins_mm(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Any collimation: from close about the hand to most of the plate."""
    widest = float(rng.uniform(3.0, 45.0))
    above, below, left, right = (float(rng.uniform(1.0, widest)) for _ in range(4))
    return above, below, left, right


def hand_radiograph(
    seed: int, variation: HandVariation, unit: XrayUnit, spacing_mm: float = 1.0
) -> FloatArray:
    """The picture ``(rows, columns)``, 0 to 1, white high, of `LARGEST_MM` or less.

    Raises
    ------
    ValueError
        An age that is not drawn.
    """
    if not YOUNGEST <= variation.bone_age_months <= OLDEST:
        asked = variation.bone_age_months
        raise ValueError(f"{asked} months: {YOUNGEST:g} to {OLDEST:g} are drawn")
    rng = np.random.default_rng(seed)
    rows, columns = (round(edge / spacing_mm) for edge in LARGEST_MM)
    plate = Plate((rows, columns), spacing_mm)
    _draw(plate, variation, rng)
    shown = exposed(plate, unit, rng)
    return shown if variation.margins_mm is None else shown[_field(plate, variation)]


def _field(plate: Plate, variation: HandVariation) -> tuple[slice, slice]:
    """Which rows and columns the collimator leaves."""
    above, below, left, right = variation.margins_mm or (0.0, 0.0, 0.0, 0.0)
    ends_mm = _Hand(variation).at(52.0, 0.0)[0]
    hand = plate.soft[: round(ends_mm / plate.spacing_mm)] > 0.0
    sides = []
    for axis, (before, behind) in enumerate(((above, below), (left, right))):
        there = np.flatnonzero(hand.any(axis=1 - axis))
        first = round(there[0] - before / plate.spacing_mm)
        last = round(there[-1] + 1 + behind / plate.spacing_mm)
        sides.append(slice(max(first, 0), min(last, plate.shape[axis])))
    return sides[0], sides[1]


def grown(maturity_y: float, begins: float, done: float) -> float:
    """How much of something is there: 0 before it begins, 1 when it is done."""
    return float(np.clip((maturity_y - begins) / (done - begins), 0.0, 1.0))


class _Hand:
    """Places of a hand as it lies: from mm of a grown hand to mm on the plate."""

    def __init__(self, variation: HandVariation) -> None:
        age = variation.maturity_y
        # From half at birth to whole at sixteen.
        self.size = variation.size * (0.5 + 0.5 * grown(age, 0.0, 16.0) ** 0.8)
        self.turn = np.deg2rad(variation.turn_degrees)
        self.base = (198.0 + variation.shift_mm[0], 80.0 + variation.shift_mm[1])

    def at(self, down: float, across: float) -> Point:
        y, x = down * self.size, across * self.size
        return (
            self.base[0] + y * np.cos(self.turn) - x * np.sin(self.turn),
            self.base[1] + y * np.sin(self.turn) + x * np.cos(self.turn),
        )


def _draw(plate: Plate, variation: HandVariation, rng: np.random.Generator) -> None:
    hand, age = _Hand(variation), variation.maturity_y
    mineral = Mineral(density=0.75 + 0.25 * grown(age, 0.0, 14.0))
    _flesh(plate, hand, variation)
    for number, (base, degrees, lengths) in enumerate(_RAYS):
        angle = np.deg2rad(degrees * variation.spread)
        jitter = float(rng.normal(1.0, 0.015))
        _ray(plate, hand, base, angle, [jitter * one for one in lengths], age, mineral,
             is_thumb=number == 0)
    for begins, (down, across), (high, wide) in _CARPALS.values():
        share = grown(age, begins, begins + 7.0) if begins < 9 else grown(age, begins, 14.0)
        if share > 0.02:
            part = hand.size * (0.3 + 0.7 * share**0.8) * float(rng.normal(1.0, 0.03))
            plate.lump(hand.at(down + 3.0, across), (high * part, wide * part),
                       float(rng.normal(0.0, 0.15)), mineral)
    _forearm(plate, hand, age, mineral)


def _ray(
    plate: Plate, hand: _Hand, base: Point, angle: float, lengths: list[float], age: float,
    mineral: Mineral, *, is_thumb: bool,
) -> None:
    """Metacarpal and phalanges, each with its growth plate: at the base, of metacarpals but the
    thumb's at the head."""
    down, across = base
    for number, (length, radius) in enumerate(zip(lengths, _RADII, strict=True)):
        if not length:
            continue
        step = (-np.cos(angle) * length, np.sin(angle) * length)
        at_head = number == 0 and not is_thumb
        cap = 0.13 * length if length < 30 else 0.1 * length
        closes = (15.0, 15.2, 14.6, 14.2)[number]
        # The gap narrows, and closes last.
        gap = 3.0 * (1.0 - grown(age, 4.0, closes)) + (0.0 if age >= closes else 0.7)
        begin = 0.0 if at_head else (cap + gap) / length
        end = 1.0 - (cap + gap) / length if at_head else 1.0
        first = (down + step[0] * begin, across + step[1] * begin)
        last = (down + step[0] * end, across + step[1] * end)
        plate.tube(hand.at(*first), hand.at(*last), radius * 1.25 * hand.size, mineral)
        centre = 1.0 - cap / 2.0 / length if at_head else cap / 2.0 / length
        appears = (1.6, 1.0, 1.5, 1.6)[number]
        share = grown(age, appears, 9.0)
        if age >= closes:
            plate.lump(hand.at(down + step[0] * centre, across + step[1] * centre),
                       (cap * 0.75 * hand.size, radius * 1.25 * hand.size), -angle, mineral)
        elif share > 0.0:
            wide = radius * 1.25 * (0.45 + 0.55 * share)
            plate.lump(hand.at(down + step[0] * centre, across + step[1] * centre),
                       (cap * 0.55 * hand.size, wide * hand.size), -angle, mineral)
        space = 2.2 + 1.5 * (1.0 - grown(age, 2.0, 12.0))
        down += step[0] - np.cos(angle) * space
        across += step[1] + np.sin(angle) * space


def _forearm(plate: Plate, hand: _Hand, age: float, mineral: Mineral) -> None:
    """Radius and ulna with their ends that grow, which are the last to close."""
    for across, radius, appears, closes, top in (
        (6.0, 12.0, 1.0, 17.3, 32.0), (-17.0, 7.5, 6.2, 16.8, 35.0),
    ):
        cap = 8.0
        gap = 2.8 * (1.0 - grown(age, 5.0, closes)) + (0.0 if age >= closes else 0.8)
        plate.tube(hand.at(top + cap + gap, across), hand.at(150.0, across * 0.85),
                   radius * hand.size, mineral, waist=0.45)
        share = 1.0 if age >= closes else grown(age, appears, 11.0)
        if share > 0.0:
            plate.lump(hand.at(top + cap / 2.0, across), (
                cap * 0.55 * hand.size, radius * (0.4 + 0.62 * share) * hand.size,
            ), 0.0, mineral)


def _flesh(plate: Plate, hand: _Hand, variation: HandVariation) -> None:
    for base, degrees, lengths in _RAYS:
        angle = np.deg2rad(degrees * variation.spread)
        length = sum(lengths) + 14.0
        stop = (base[0] - np.cos(angle) * length, base[1] + np.sin(angle) * length)
        plate.flesh(hand.at(*base), hand.at(*stop), 9.5 * hand.size)
    plate.flesh(hand.at(-40.0, -2.0), hand.at(5.0, 0.0), 34.0 * hand.size, 15.0 * hand.size)
    plate.flesh(hand.at(5.0, -3.0), hand.at(150.0, -4.0), 29.0 * hand.size, 20.0 * hand.size)
