"""A sentence as marks: what each of its words can mean beside a list of evidence.

Every word gets a mark. One that is neither in the English of the guard nor in the evidence is
marked ``unknown``, and the guard strikes the sentence: what is not understood is not supported.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from ai_models.drafting import english
from ai_models.drafting.evidence import EvidenceItem, EvidenceList, Side

Stems = tuple[str, ...]
# In ``Mark.unit`` of a place that is told as ``pulmonary`` and not as ``lung``.
ADJECTIVE = "adjective"
# In that of a name which is a term of another finding as well: "brain tumour: meningioma".
OR_TERM = "or term"
LONGEST_SENTENCE = 400

_CITED = re.compile(r"\s*[\[(]\s*(E\d{1,3}(?:\s*,\s*E\d{1,3})*)\s*[\])]")
_TOKEN = re.compile(
    r"(?P<number>(?:(?<![\w.)\]])[-+])?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)"
    r"|(?:(?<![\w.)\]])[-+])?\d+(?:\.\d+)?)|(?P<word>[a-z]+\d*)|(?P<sign>\S)"
)
_WRITABLE = re.compile(r"[A-Za-z0-9 .,;:%()\[\]/'+x-]*")
# Within a compound: "part-solid", "8-mm"; not that of "5-8 mm".
_HYPHEN = re.compile(r"(?<=[a-z0-9])-(?=[a-z])")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_KEPT = ("us", "is", "ss", "as")
_NO_PLURAL = frozenset({
    "was", "has", "its", "this", "vs", "does", "less", "across", "previous",
    "series",
})  # fmt: skip
_BREAKS = frozenset({
    ".", ";", "but", "however", "while", "whereas", "although", "though", "yet", "except",
})  # fmt: skip
_JOINTS = frozenset({",", "and", "or", "nor", "/"})
_SOFT = frozenset({":", "-", "'", "#", "(", ")", "[", "]"})


@dataclass(frozen=True)
class Token:
    """One word, number or sign; ``stem`` without plural and in one spelling."""

    text: str
    stem: str
    number: float | None = None
    decimals: int = 0
    in_brackets: bool = False

    @property
    def is_plural(self) -> bool:
        """Whether a plural was made a singular."""
        return self.text.endswith("s") and self.text != self.stem


@dataclass(frozen=True)
class Mark:
    """What some tokens mean; ``value`` says more, by kind."""

    kind: str
    value: str = ""
    number: float | None = None
    decimals: int = 0
    unit: str = ""
    stems: Stems = ()
    is_plural: bool = False
    in_brackets: bool = False
    text: str = ""


def cited_inside(sentence: str) -> tuple[str, tuple[str, ...]]:
    """``sentence`` without the ids of evidence that stand in brackets in it, and those ids."""
    ids = tuple(
        one.strip() for found in _CITED.findall(sentence) for one in found.split(",")
    )
    return _CITED.sub("", sentence), ids


def normal_form(sentence: str) -> str:
    """``sentence`` with one sort of dash, blank and digit (Unicode NFKC)."""
    text = unicodedata.normalize("NFKC", sentence).translate(_DASHES)
    text = text.replace("\u00d7", " x ").replace("\u2019", "'")
    return " ".join(text.split())


def is_writable(sentence: str) -> bool:
    """Whether there are only letters, digits and signs that a sentence on evidence needs."""
    return bool(_WRITABLE.fullmatch(sentence)) and len(sentence) <= LONGEST_SENTENCE


def stem(word: str) -> str:
    """A word in one spelling and without the ``s`` of a plural."""
    word = english.SPELLINGS.get(word, word)
    return english.SPELLINGS.get(one := _singular(word), one)


def _singular(word: str) -> str:
    if word in _NO_PLURAL or len(word) <= 3 or not word.endswith("s"):
        return word
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith("ies") and len(word) > 5:
        return f"{word[:-3]}y"
    return word if word.endswith(_KEPT) else word[:-1]


def stems_of(phrase: str) -> Stems:
    """The stems of a phrase, without hyphens."""
    words = phrase.lower().replace("-", " ").replace("/", " ").replace(",", " ").split()
    found: list[str] = []
    for word in words:
        found += stem(word).split()
    return tuple(found)


def tokens_of(sentence: str) -> list[Token]:
    """The tokens of a sentence in its normal form."""
    found: list[Token] = []
    depth = 0
    for match in _TOKEN.finditer(_HYPHEN.sub(" ", sentence.lower())):
        text = match.group()
        depth += text in ("(", "[")
        if match.lastgroup == "number":
            bare = text.replace(",", "")
            decimals = len(bare.partition(".")[2])
            found.append(Token(text, text, float(bare), decimals, depth > 0))
        else:
            pieces = stem(text).split()
            found += [Token(text, one, in_brackets=depth > 0) for one in pieces]
        depth = max(0, depth - (text in (")", "]")))
    return found


@dataclass(frozen=True)
class Entity:
    """One thing that evidence is about: its name without number and side, and its facts."""

    base: Stems
    ordinal: int | None
    side: str
    items: tuple[EvidenceItem, ...]

    @property
    def sites(self) -> frozenset[str]:
        """Words of the places that it is said to be in, and of its own name."""
        named = {word for item in self.items for word in stems_of(item.site)}
        whole = {" ".join(stems_of(item.site)) for item in self.items}
        return frozenset(named | whole | set(self.base))


_SIDES: dict[str, Side] = {"left": "left", "right": "right", "both": "both"}


def parts_of(item: EvidenceItem) -> tuple[Stems, int | None, str]:
    """Name, number and side of what an item is about."""
    words = list(stems_of(item.finding))
    ordinal = int(words.pop()) if len(words) > 1 and words[-1].isdecimal() else None
    side = item.side
    if words and words[0] in _SIDES and len(words) > 1:
        side = side or _SIDES[words[0]]
        words = words[1:]
    return tuple(words), ordinal, side


@dataclass(frozen=True)
class Reader:
    """Reads sentences beside one list of evidence."""

    evidence: EvidenceList

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """What the evidence is about; what is only counted or limited is none."""
        found: dict[tuple[Stems, int | None, str], list[EvidenceItem]] = {}
        for item in self.evidence:
            if item.kind not in ("count", "limitation"):
                found.setdefault(parts_of(item), []).append(item)
        return tuple(Entity(*key, tuple(items)) for key, items in found.items())

    @cached_property
    def lexicon(self) -> dict[str, list[tuple[Stems, Mark]]]:
        """Phrases by their first word, the longest first; of equal ones that of the evidence."""
        found: dict[str, list[tuple[Stems, Mark]]] = {}
        for words, mark in (*self._own(), *_general()):
            found.setdefault(words[0], []).append((words, mark))
        for entries in found.values():
            entries.sort(key=lambda one: -len(one[0]))
        return found

    def _own(self) -> Iterator[tuple[Stems, Mark]]:
        """Phrases that stand in the evidence."""
        bases = {parts_of(item)[0] for item in self.evidence if item.kind != "limitation"}
        terms = {stems_of(item.term) for item in self.evidence if item.term}
        for base in sorted(bases):
            for words in _names_of(base, bases):
                unit = OR_TERM if words in terms else ""
                yield words, Mark("mention", " ".join(base), unit=unit, stems=base)
        for item in self.evidence:
            if item.term:
                words = stems_of(item.term)
                for one in (words, *map(stems_of, english.SYNONYMS.get(" ".join(words), ()))):
                    yield one, Mark("term", " ".join(words))
            if item.quantity:
                words = stems_of(item.quantity)
                yield words, Mark("quantity", " ".join(words))
                known = {one[0] for one, _ in _general()}
                known |= set(parts_of(item)[0])
                yield from (((one,), Mark("filler", one)) for one in words if one not in known)
            if "embolism" in item.finding.lower():
                yield ("clot", "volume"), Mark("quantity", "volume")
            if item.site:
                words = stems_of(item.site)
                yield words, Mark("site", " ".join(words))

    def marks(self, sentence: str) -> list[Mark]:
        """The marks of a sentence in its normal form."""
        tokens = tokens_of(sentence)
        found: list[Mark] = []
        at = 0
        while at < len(tokens):
            mark, length = self._mark_at(tokens, at)
            found.append(mark)
            at += length
        return _with_units(found)

    def _mark_at(self, tokens: Sequence[Token], at: int) -> tuple[Mark, int]:
        token = tokens[at]
        inside = token.in_brackets
        if token.number is not None:
            return _number(tokens, at)
        for words, mark in self.lexicon.get(token.stem, ()):
            taken = tokens[at : at + len(words)]
            if tuple(one.stem for one in taken) == words:
                after = tokens[at + len(words) : at + len(words) + 1]
                if mark.kind == "count" and after and after[0].stem in english.UNIT_WORDS:
                    # "Over one year"
                    spelled = Token(token.text, token.stem, float(mark.value), 0, inside)
                    found, taken_too = _number([spelled, *after], 0)
                    return found, len(words) + taken_too - 1
                plural = mark.kind == "mention" and taken[-1].is_plural
                text = " ".join(one.text for one in taken)
                return (
                    Mark(mark.kind, mark.value, unit=mark.unit, stems=mark.stems, is_plural=plural,
                         in_brackets=inside, text=text),
                    len(words),
                )
        if token.stem == "-" and at + 1 < len(tokens) and tokens[at + 1].number is not None:
            return Mark("joint", "-", in_brackets=inside), 1
        for kind, signs in (("break", _BREAKS), ("joint", _JOINTS), ("filler", _SOFT)):
            if token.stem in signs:
                return Mark(kind, token.stem, in_brackets=inside, text=token.text), 1
        if token.stem == "whether":
            return Mark("whether", text=token.text), 1
        if token.stem in ("x", "to", "from"):
            return Mark("word", token.stem, in_brackets=inside, text=token.text), 1
        return Mark("unknown", token.text, in_brackets=inside, text=token.text), 1


def _names_of(base: Stems, bases: set[Stems]) -> Iterator[Stems]:
    """How a finding may be called: its name, another, its last word where that is clear."""
    yield base
    for other in english.SYNONYMS.get(" ".join(base), ()):
        if (words := stems_of(other)) not in bases:
            yield words
    last = base[-1:]
    others = [one for one in bases if one != base and base[-1] in one]
    if len(base) > 1 and not others and base[-1] not in _vague():
        yield last


@cache
def _vague() -> frozenset[str]:
    """Last words that are no name: places, numbers, what fillers are."""
    words = {"lesion", "wash", "out", "density", "age", "part", "axis", "artery", "joint"}
    for text in (english.PLACES, english.FILLERS):
        words |= {one for phrase in english.phrases(text) for one in stems_of(phrase)}
    return frozenset(words)


@cache
def _general() -> tuple[tuple[Stems, Mark], ...]:
    """The English of the guard; where a phrase has two meanings, the first."""
    found: dict[Stems, Mark] = {}

    def add(text: str, kind: str, value: str = "") -> None:
        for phrase in english.phrases(text):
            words = stems_of(phrase)
            found.setdefault(words, Mark(kind, value or " ".join(words)))

    for name, text in english.QUANTITIES.items():
        add(text, "quantity", name)
    for name, text in english.CHANGES.items():
        add(text, "change", name)
    add(english.CHANGE_NOUNS, "change_noun")
    for name, text in english.SIDES.items():
        add(text, "side", name)
    for name, text in english.COUNTS.items():
        add(text, "count", name)
    add(english.NOT_ANALYSED, "not_analysed")
    add(english.UNDETERMINED, "status", "undetermined")
    add(english.ABSENT, "status", "absent")
    add(english.PRESENT, "status", "present")
    add(english.FOUND, "found")
    add(english.NEGATORS, "not")
    add(english.EVIDENCE_OF, "filler")
    add(english.ABOVE, "relation", "above")
    add(english.BELOW, "relation", "below")
    add(english.EARLIER, "earlier")
    for phrase in english.phrases(english.ADJECTIVES):
        adjective, _, place = phrase.partition("=")
        found.setdefault(stems_of(adjective), Mark("site", place, unit=ADJECTIVE))
    add(english.PLACES, "site")
    add(english.OVERCLAIMS, "overclaim")
    add(english.FILLERS, "filler")
    return tuple(found.items())


def _number(tokens: Sequence[Token], at: int) -> tuple[Mark, int]:
    """A number with the unit behind it."""
    token = tokens[at]
    after = [one.stem for one in tokens[at + 1 : at + 4]]
    unit, length = "", 0
    if after[:1] in (["square"], ["cubic"]) and after[1:2] and after[1] in ("mm", "cm"):
        unit, length = after[1] + ("2" if after[0] == "square" else "3"), 2
    elif after and after[0] in english.UNIT_WORDS:
        unit, length = after[0], 1
        if unit == "hu" and after[1:2] == ["unit"]:
            length = 2
    taken = 1 + length
    return (
        Mark("number", token.text, token.number, token.decimals, unit,
             in_brackets=token.in_brackets, text=token.text),
        taken,
    )


def _with_units(marks: list[Mark]) -> list[Mark]:
    """Numbers that share the unit behind the last of them: ``8 x 5 mm``, ``from 3 to 5 ml``."""
    found = list(marks)
    for at in range(len(found) - 1, 1, -1):
        number, joint, before = found[at], found[at - 1], found[at - 2]
        if number.kind != "number" or before.kind != "number" or not number.unit or before.unit:
            continue
        is_ordinal = at > 2 and found[at - 3].kind == "mention" and joint.value != "x"
        if joint.value in ("x", "to", "-", "and", "or", ",", "by") and not is_ordinal:
            found[at - 2] = Mark(
                "number", before.value, before.number, before.decimals, number.unit,
                in_brackets=before.in_brackets, text=before.text,
            )
    return found
