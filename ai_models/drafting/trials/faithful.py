"""Faithful sentences on evidence, in many words: what a good writer might write."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ai_models.drafting.evidence import EvidenceItem, EvidenceList
from ai_models.drafting.guard import DraftSentence

UNIT_WORDS = {
    "mm": ("mm", "mm", "millimetres", "millimeters"),
    "ml": ("ml", "mL", "cm3", "cc", "millilitres"),
    "[hnsf'U]": ("HU", "HU", "Hounsfield units"), "%": ("%", " %", " percent"),
    "d": ("days",), "mo": ("months",), "1": ("",),
}
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Said:
    """A sentence with what it cites; ``about`` are the items that its words come from."""

    text: str
    about: tuple[EvidenceItem, ...]

    @property
    def sentence(self) -> DraftSentence:
        """As a writer hands it in."""
        return DraftSentence(self.text, tuple(dict.fromkeys(one.id for one in self.about)))


def plain(number: float, decimals: int) -> str:
    """A number without a negative zero."""
    text = f"{number:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def written(item: EvidenceItem, chance: random.Random, *, units: bool = True) -> str:
    """A number with its unit as a writer might round and convert it, within the rule."""
    value = item.value or 0.0
    kind = chance.random()
    if item.unit == "mm" and kind < 0.25 and value >= 10:
        return f"{plain(value / 10, 2 if kind < 0.1 else 1)} cm"
    if item.unit == "mo" and kind < 0.3 and value >= 24:
        return f"{plain(value / 12, 1)} years"
    if item.unit == "1" and item.quantity == "Probability" and kind < 0.4:
        places = 0 if 0.2 < value < 0.99 else 1
        return f"{plain(value * 100, places)}{chance.choice(UNIT_WORDS['%'])}"
    fewest = next(
        places for places in range(item.decimals + 1)
        if places == item.decimals or (
            abs(round(value, places) - value) <= 0.05 * abs(value)
            and not (item.unit == "1" and round(value, places) == 1)
        )
    )
    number = plain(value, chance.randint(fewest, item.decimals))
    if not units or item.unit == "1":
        return number
    unit = chance.choice(UNIT_WORDS[item.unit])
    if unit == "mm" and chance.random() < 0.2:
        return f"{number}mm"
    return f"{number}{unit}" if unit.startswith(("%", " ")) else f"{number} {unit}"


def name_of(item: EvidenceItem, chance: random.Random, *, capital: bool = False) -> str:
    """What a finding is called in a sentence, with its side where it has one."""
    name = item.finding
    bare = name.split(" ", 1)[1] if name.lower().startswith(("left ", "right ")) else name
    kind, _, number = bare.rpartition(" ")
    if number.isdecimal() and item.side and chance.random() < 0.3:
        text = f"{item.side} {kind.lower()} {number}"
    elif item.side and not number.isdecimal():
        text = f"the {item.side} {bare.lower()}"
    else:
        text = bare if number.isdecimal() and chance.random() < 0.5 else bare.lower()
    return text[0].upper() + text[1:] if capital else text


def place_of(item: EvidenceItem, chance: random.Random) -> str:
    """`` in the left lung``, or nothing."""
    if not item.site or chance.random() < 0.5:
        return ""
    side = f"{item.side} " if item.side else ""
    return f" in the {side}{item.site.lower()}"


def of_entity(evidence: EvidenceList, item: EvidenceItem) -> dict[str, EvidenceItem]:
    """The items on the same thing, measurements by quantity, others by kind."""
    return {
        one.quantity if one.kind == "measurement" else one.kind: one
        for one in evidence if one.entity == item.entity and one.kind != "count"
    }


def measurement(
    evidence: EvidenceList, item: EvidenceItem, chance: random.Random
) -> Iterator[Said]:
    """One measurement."""
    own = of_entity(evidence, item)
    if "score" in own:
        return
    number, unit_less = written(item, chance), item.unit == "1"
    name, title = name_of(item, chance), name_of(item, chance, capital=True)
    place = place_of(item, chance) if item.finding[-1].isdecimal() else ""
    phrases = {
        "Long axis": ("long axis", "longest diameter", "maximum diameter", "long-axis diameter"),
        "Short axis": ("short axis", "short-axis diameter"), "Volume": ("volume",),
        "Mean attenuation coefficient": ("mean attenuation", "mean density", "attenuation"),
        "Standard deviation attenuation coefficient": ("standard deviation of attenuation",),
        "Volume doubling time": ("volume doubling time", "doubling time"),
        "Probability": ("probability", "score"), "Z-score": ("z-score",),
        "Bone age by Greulich and Pyle": ("bone age",), "Obstruction index": ("obstruction index",),
    }[item.quantity]
    what = chance.choice(phrases)
    if item.quantity == "Bone age by Greulich and Pyle":
        yield Said(f"Bone age is {number}.", (item,))
        yield Said(f"The estimated bone age is {number}.", (item,))
        yield Said(f"Bone age by Greulich and Pyle: {number}.", (item,))
        yield Said(f"Bone age of {number} was determined.", (item,))
        return
    yield Said(f"{title}{place} has a {what} of {number}.", (item,))
    yield Said(f"The {what} of {name} is {number}.", (item,))
    yield Said(f"{title}{place}: {what} {number}.", (item,))
    yield Said(f"{title}: {what} of approximately {number}.", (item,))
    yield Said(f"There is {name}{place} with a {what} of {number}.", (item,))
    if not unit_less and item.quantity == "Long axis":
        yield Said(f"{title}{place} measures {number}.", (item,))
        yield Said(f"{title} measures {number} in long axis{place}.", (item,))
        kind = item.finding.rpartition(" ")[0].lower()
        if "cm" not in number and "mm" in number:
            short = number.split(" ")[0].rstrip("m")
            yield Said(f"A {short}-mm {kind} is seen{place}.", (item,))
        yield Said(f"A {kind} measuring {number} was found{place}.", (item,))
    if item.quantity == "Volume":
        yield Said(f"{title} has a measured volume of about {number}{place}.", (item,))


def two_axes(
    evidence: EvidenceList, item: EvidenceItem, chance: random.Random
) -> Iterator[Said]:
    """Both axes, and what else is known, in one sentence."""
    own = of_entity(evidence, item)
    long, short, volume = own.get("Long axis"), own.get("Short axis"), own.get("Volume")
    if item is not long or short is None or volume is None:
        return
    title, place = name_of(item, chance, capital=True), place_of(item, chance)
    one, two, ml = (
        plain(long.value or 0, 1), plain(short.value or 0, 1), written(volume, chance),
    )
    both = (long, short)
    yield Said(f"{title}{place} measures {one} x {two} mm.", both)
    yield Said(f"{title} measures {one} mm by {two} mm{place}.", both)
    yield Said(f"{title} has a long axis of {one} mm and a short axis of {two} mm.", both)
    yield Said(f"{title}: {one} × {two} mm, volume {ml}.", (*both, volume))
    yield Said(f"{title}{place} measures {one} mm and has a volume of {ml}.", (long, volume))
    yield Said(f"{title} ({one} mm, {ml}) was detected{place}.", (long, volume))
    if "term" in own:
        term = _term(own["term"], chance)
        yield Said(f"{title} is {term} and measures {one} mm.", (long, own["term"]))
        kind = item.finding.rpartition(" ")[0].lower()
        article = "An" if one[0] == "8" else "A"
        yield Said(f"{article} {one} mm {term} {kind} is present{place}.", (long, own["term"]))


def _term(item: EvidenceItem, chance: random.Random) -> str:
    if item.term.startswith("Ground"):
        return chance.choice(("ground-glass", "ground glass"))
    return chance.choice((item.term.lower(), item.term.lower().replace("-", " ")))


def term(evidence: EvidenceList, item: EvidenceItem, chance: random.Random) -> Iterator[Said]:
    """A coded term."""
    word, title = _term(item, chance), name_of(item, chance, capital=True)
    yield Said(f"{title} is {word}.", (item,))
    yield Said(f"{title}{place_of(item, chance)} appears {word}.", (item,))
    yield Said(f"{title} is classified as {word}.", (item,))
    yield Said(f"{title}: {word}.", (item,))


def count(evidence: EvidenceList, item: EvidenceItem, chance: random.Random) -> Iterator[Said]:
    """How many there are."""
    many = int(item.value or 0)
    kind = item.finding.lower()
    several = {"mass": "masses"}.get(kind, f"{kind}s") if many != 1 else kind
    number = str(many) if many > 1 and chance.random() < 0.4 else _WORDS[many]
    are = "were" if many != 1 else "was"
    yield Said(f"{number.capitalize()} {several} {are} found.", (item,))
    yield Said(f"{number.capitalize()} {several} {are} detected.", (item,))
    yield Said(f"There {'are' if many != 1 else 'is'} {number} {several}.", (item,))
    yield Said(f"The algorithm detected {number} {several}.", (item,))
    if many == 1:
        yield Said(f"A single {kind} is seen.", (item,))
    longest = [one for one in evidence if one.quantity == "Long axis"]
    if many == 2 and len(longest) == 2:
        one, two = (plain(axis.value or 0, 1) for axis in longest)
        yield Said(f"Two {several} measuring {one} mm and {two} mm are seen.", (item, *longest))


def score(evidence: EvidenceList, item: EvidenceItem, chance: random.Random) -> Iterator[Said]:
    """Presence, absence or doubt, with the probability or without."""
    name, number = item.finding.lower(), written(item, chance)
    title = item.finding
    about = (item,)
    words = {
        "present": (
            "{T} is present.", "{T} is seen.", "There is evidence of {n}.", "{T} was detected.",
            "{T} is present with a probability of {p}.", "{T}: present (probability {p}).",
            "{T} is likely (probability {p}).", "Findings are consistent with {n}.",
            "The algorithm detected {n} with a probability of {p}.", "Positive for {n}.",
            "{T} is probable, with a score of {p}.", "There is {n}.",
            "{T} is identified, with the score above the threshold of 0.7.",
        ),
        "absent": (
            "No {n}.", "There is no {n}.", "{T} is absent.", "No evidence of {n}.",
            "{T} is not present.", "{T} is absent (score {p}).",
            "No {n} is seen.", "{T} was not detected.", "{T}: absent (probability {p}).",
            "No sign of {n}.", "{T} is unlikely (probability {p}).", "Negative for {n}.",
            "There is no evidence of {n}, with a score of {p}.", "The images show no {n}.",
            "No {n} was identified.",
        ),
        "undetermined": (
            "{T} is undetermined.", "{T} cannot be excluded.", "{T} is indeterminate.",
            "{T} is possible.", "Possible {n}.", "{T} is undetermined (probability {p}).",
            "Whether there is {n} is undetermined.", "Findings are equivocal for {n}.",
            "{T} may be present.", "{T} remains uncertain with a probability of {p}.",
            "The result for {n} is inconclusive.", "{T} could not be excluded (score {p}).",
        ),
    }[item.status]
    for phrase in words:
        yield Said(phrase.format(T=title, n=name, p=number), about)
    yield Said(f"The probability of {name} is {number}.", about)
    yield from _several_scores(evidence, item, chance)
    for extra in of_entity(evidence, item).values():
        if extra.quantity == "Volume":
            yield Said(f"{title} is present with a volume of {written(extra, chance)}.",
                       (item, extra))
        if extra.quantity == "Obstruction index":
            yield Said(f"{title} is seen, with an obstruction index of {written(extra, chance)}.",
                       (item, extra))


def _several_scores(
    evidence: EvidenceList, item: EvidenceItem, chance: random.Random
) -> Iterator[Said]:
    same = [one for one in evidence if one.kind == "score" and one.status == item.status]
    other = [one for one in evidence if one.kind == "score" and one.status != item.status]
    if item is same[0] and len(same) >= 3 and item.status == "absent":
        a, b, c = (one.finding.lower() for one in same[:3])
        yield Said(f"No {a}, {b} or {c}.", tuple(same[:3]))
        yield Said(f"There is no evidence of {a}, {b}, or {c}.", tuple(same[:3]))
    if item is same[0] and len(same) >= 2:
        a, b = (one.finding.lower() for one in same[:2])
        words = {"present": "present", "absent": "absent", "undetermined": "undetermined"}
        yield Said(f"{a.capitalize()} and {b} are {words[item.status]}.", tuple(same[:2]))
        if item.status == "absent":
            yield Said(f"Neither {a} nor {b} is seen.", tuple(same[:2]))
            yield Said(f"No {a} or {b} was detected.", tuple(same[:2]))
            yield Said(f"No {a} and no {b}.", tuple(same[:2]))
    if other and item is same[0]:
        one = chance.choice(other)
        word = {"present": "is present", "absent": "is absent",
                "undetermined": "is undetermined"}
        yield Said(
            f"{item.finding} {word[item.status]}, but {one.finding.lower()} {word[one.status]}.",
            (item, one),
        )
        if item.status == "present" and one.status == "absent":
            yield Said(f"{item.finding} is present without {one.finding.lower()}.", (item, one))
            yield Said(f"{item.finding}; no {one.finding.lower()}.", (item, one))


def comparison(
    evidence: EvidenceList, item: EvidenceItem, chance: random.Random
) -> Iterator[Said]:
    """What became of a finding."""
    title = name_of(item, chance, capital=True)
    for text in _changed(title, item, chance):
        yield Said(text, (item,))
    doubling = of_entity(evidence, item).get("Volume doubling time")
    if doubling is not None:
        number = plain(doubling.value or 0, 0)
        yield Said(f"{title} has grown, with a volume doubling time of {number} days.",
                   (item, doubling))


def _changed(title: str, item: EvidenceItem, chance: random.Random) -> Sequence[str]:
    days = item.days or 0
    after = plain(item.after_ml or 0, 2)
    percent = plain(item.percent or 0, 0)
    unit = chance.choice(("ml", "mL", "cm3"))
    weeks = plain(days / 7, 0)
    places = 2 if (item.before_ml or 1) >= 0.3 else 3
    before = plain(item.before_ml or 0, max(places, chance.choice((2, 3))))
    return {
        "grown": (
            f"{title} has grown by {percent} % in {days} days, from {before} to {after} {unit}.",
            f"{title} has increased in volume from {before} {unit} to {after} {unit}.",
            f"{title} is larger than before.", f"{title} has grown.",
            f"{title} shows growth of {percent}% over {days} days.",
            f"{title} increased by {percent}% compared with the prior examination.",
            f"{title} has enlarged since the previous study {days} days earlier.",
            f"Interval growth of {title} by {percent}%.",
            f"{title} grew over {weeks} weeks.",
        ),
        "shrunk": (
            f"{title} has shrunk by {percent} % in {days} days, from {before} to {after} {unit}.",
            f"{title} decreased in volume from {before} {unit} to {after} {unit}.",
            f"{title} is smaller compared with the prior examination.",
            f"{title} has decreased in volume by {percent}% since the previous examination.",
            f"{title} has shrunk over {days} days.",
        ),
        "steady": (
            f"{title} is unchanged over {days} days.", f"{title} is stable.",
            f"{title} has not changed.", f"{title} shows no change since the prior examination.",
            f"{title} remains unchanged in volume ({before} {unit} before, {after} {unit} now).",
            f"No change of {title} compared with {days} days before.",
            f"{title} has not grown.", f"{title}: no significant change.",
            f"The volume of {title} is stable compared to the previous study.",
        ),
        "new": (
            f"{title} is new.", f"{title} is new compared with the examination {days} days before.",
            f"{title} has newly appeared.", f"New {title} since the prior study.",
            f"{title} was not seen before.",
        ),
        "gone": (
            f"{title} is no longer seen.", f"{title} was not found any more.",
            f"{title} of {days} days before ({before} {unit}) is no longer detected.",
            f"{title} is no longer visible.",
        ),
        "beyond_earlier": (
            f"{title} was not covered by the earlier images.",
            f"{title} was outside the field of the earlier examination.",
        ),
        "beyond_present": (
            f"{title} is not covered by the present images.",
            f"{title} is outside the present images.",
        ),
    }[item.status]


def not_found(
    evidence: EvidenceList, item: EvidenceItem, chance: random.Random
) -> Iterator[Said]:
    """What was looked for in vain."""
    name = item.finding.lower()
    yield Said(f"{item.finding} was not found.", (item,))
    yield Said(f"The {name} was not identified.", (item,))
    yield Said(f"No {name} was detected.", (item,))


def not_analysed(
    evidence: EvidenceList, item: EvidenceItem, chance: random.Random
) -> Iterator[Said]:
    """What is not answered."""
    yield Said(f"{item.finding} was not assessed.", (item,))
    yield Said(f"{item.finding} could not be evaluated.", (item,))
    yield Said(f"{item.finding} was not analysed.", (item,))


_BY_KIND = {
    "measurement": (measurement, two_axes), "term": (term,), "count": (count,), "score": (score,),
    "comparison": (comparison,), "not_found": (not_found,), "not_analysed": (not_analysed,),
}


def sentences_of(evidence: EvidenceList, item: EvidenceItem, seed: int) -> list[Said]:
    """All faithful sentences that begin from one item; the same seed makes the same choices."""
    return [
        said for function in _BY_KIND.get(item.kind, ())
        for said in function(evidence, item, random.Random(seed))
    ]
