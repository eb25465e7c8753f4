"""What names a person in a report, found by regular expressions and replaced by placeholders.

The kinds follow the list of the HIPAA Privacy Rule, 45 CFR 164.514(b)(2), as far as an expression
can find them. It is a net, not a proof: `NOT_FOUND` says what slips through, and whoever trains on
reports looks at a sample of what is left.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

NOT_FOUND = (
    "names without a title or a word that announces one (\"Smith was told\"), and names in small "
    "letters",
    "places, wards, employers, and streets that are not written as number, name, Street",
    "dates in words alone (\"last Tuesday\", \"in spring\"), and numbers of fewer than seven "
    "digits that no word announces",
    "what names a person by being rare: an occupation, an accident, a disease",
)

# Words that begin a sentence behind a name without a full stop. Taking a "No" or a "Left" out with
# the name would teach the model the opposite.
_NO_NAME = (
    r"(?!(?i:no|not|nor|none|without|left|right|both|bilateral|the|there|this|that|an?|at|on|in|is|"
    r"was|were|are|has|had|and|or|for|new|stable|unchanged|normal|negative|positive|findings?|"
    r"impression|possible|probable|likely|lungs?|heart|dr|mrs?|ms|prof|doctor|professor)\b)"
)
_WORD = rf"{_NO_NAME}[^\W\d_a-zß-öø-ÿ][\w'’-]{{0,40}}"
_NAMES = rf"(?:[A-Z]\.[ \t]*){{0,3}}{_WORD}(?:[ \t]+(?:[A-Z]\.[ \t]+)?{_WORD}){{0,2}}"
_NUMBER = r"[A-Za-z]{0,4}[-/]?\d[\w/-]{2,30}"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|(?-i:Mar|MAR)|march|apr(?:il)?|(?-i:May|MAY)|june?|july?|"
    r"aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_THREE_DIGITS = r"(?=(?:[\w/-]{0,10}?\d){3})"
_FIVE_DIGITS = r"(?=(?:[\w/-]{0,4}?\d){5})"
_YEAR = r"(?:19\d\d|20[0-4]\d)"
_NO_UNIT = (
    r"(?![ \t]?(?:ml|mm|cm|cc|hu|mg|to|cubic|square|days?|weeks?|months?|hounsfield|"
    r"milli\w+|centi\w+|cm3|mm3|mm2|cm2)\b|[ \t]?[%×])"
)


@dataclass(frozen=True)
class _Rule:
    """What ``expression`` finds in its group ``it`` is replaced by the placeholder of ``kind``."""

    kind: str
    expression: re.Pattern[str]


def _rule(kind: str, expression: str, flags: int = re.IGNORECASE) -> _Rule:
    return _Rule(kind, re.compile(expression, flags))


# In this order: what is longer and surer first, so that a part of it is not taken alone.
_RULES = (
    _rule("e-mail", r"(?P<it>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6})"),
    _rule("url", r"(?P<it>\b(?:https?://|www\.)[^\s<>\"]{2,300})"),
    _rule("uid", r"(?<![\w.])(?P<it>[0-2](?:\.\d{1,39}){4,30})(?![\w.])"),
    _rule("accession", r"\bacc(?:ession)?\b\.?(?:[ \t]*(?:number|num|no|id|nr))?[ \t.:#=]{0,4}"
          rf"(?P<it>{_NUMBER})"),
    _rule("record", r"\b(?:(?:mrn|ssn|nhs|medical record|id)\b(?:[ \t]*(?:number|num|no|id|nr)\b)?|"
          r"(?:hospital|patient|case|chart|study|exam)"
          r"(?:[ \t]*(?:number|num|no|id|nr)\b|[ \t]*[:#]))"
          rf"[ \t.:#=]{{0,4}}(?P<it>{_THREE_DIGITS}{_NUMBER})"),
    # "The previous study 520 days before" is a distance: without a word for a number it is long.
    _rule("record", rf"\b(?:hospital|patient|case|chart|study|exam)[ \t]+(?P<it>{_FIVE_DIGITS}"
          rf"{_NUMBER})"),
    _rule("record", r"(?<![\w-])(?P<it>\d{3}-\d{2}-\d{4})(?![\w-])"),
    _rule("phone", r"\b(?:phone|telephone|tel|fax|pager|mobile|cell|extension|ext|beeper)\b"
          r"(?:[ \t]*(?:number|num|no|nr))?[ \t.:#=]{0,4}(?P<it>\+?\(?\d[\d()./ -]{2,20}\d)"),
    _rule("phone", r"(?P<it>\+\d[\d()./ -]{6,20}\d)"),
    _rule("phone", r"(?<![\w.])(?P<it>(?:1[ .-])?\(?\d{3}\)?[ .-]{1,2}\d{3}[ .-]\d{4})(?!\w)"),
    _rule("date", rf"(?<![\d.])(?P<it>\d{{1,2}}([./-])\d{{1,2}}\2(?:19|20)?\d\d)(?!\d){_NO_UNIT}"),
    _rule("date", rf"(?<![\d.])(?P<it>{_YEAR}([./-])\d{{1,2}}\2\d{{1,2}})(?!\d)"),
    _rule("date", rf"(?<![\d./])(?P<it>\d{{1,2}}/{_YEAR})(?!\d)"),
    _rule("date", rf"\b(?P<it>\d{{1,2}}(?:st|nd|rd|th)?[ .-]{{1,2}}(?:of )?{_MONTH}"
          rf"(?:,?[ -]{_YEAR})?)(?!\w)"),
    _rule("date", rf"\b(?P<it>{_MONTH}[ -]\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?[ -]{_YEAR})?)(?!\w)"),
    _rule("date", rf"\b(?P<it>{_MONTH},?[ -]{_YEAR})(?!\w)"),
    _rule("date", r"\b(?:in|since|from|of|dated|year)[ \t]+"
          rf"(?P<it>{_YEAR})(?!\w|\.\d){_NO_UNIT}"),
    _rule("time", r"(?<![\d:.])(?P<it>[0-2]?\d:[0-5]\d(?::[0-5]\d)?(?:[ \t]?[ap]\.?m\b)?)"
          r"(?![\d:])"),
    _rule("age", r"(?<![\d.])(?P<it>(?:9\d|1[0-2]\d))(?=[ -]?(?:year|yr|y/?o\b))"),
    _rule("address", r"\b(?P<it>\d{1,5} (?:[A-Z][\w'’.-]{0,30} ){1,3}(?:Street|St|Avenue|Ave|Road|"
          r"Rd|Lane|Ln|Drive|Boulevard|Blvd|Way|Court|Square)\b)", 0),
    _rule("name", r"(?P<it>\b[^\W\d_]{2,40}\^[^\W\d_]{1,40}(?:\^[^\W\d_]{0,40}){0,3})"),
    _rule("name", r"(?i:\b(?:dr|mr|mrs|ms|prof|herr|frau|mme|doctor|professor)\b\.?)[ \t]+"
          rf"(?:(?i:dr|prof)\b\.?[ \t]+)?(?P<it>{_NAMES})", 0),
    _rule("name", rf"\b(?i:dr|mr|mrs|prof)\.[ \t]*(?P<it>{_NO_NAME}[^\W\d_][\w'’-]{{1,40}})", 0),
    _rule("name", rf"\b(?:Miss|Nurse|Sister|Sir|Lady|Technologist)\b[ \t]+(?P<it>{_NAMES})", 0),
    _rule("name", r"(?i:\b(?:(?:dictated|signed|read|reported|reviewed|verified|approved|"
          r"performed|interpreted|transcribed|referred|requested|ordered|attested)[ \t]+"
          r"(?:electronically[ \t]+)?by|(?:discussed|reviewed|spoke)[ \t]+with|"
          r"(?:communicated|reported|conveyed|relayed|telephoned|called)[ \t]+to))[ \t:]+"
          rf"(?P<it>{_NAMES})", 0),
    _rule("name", r"(?i:\b(?:name|physician|clinician|provider|radiologist|doctor|patient|"
          rf"resident|signed|cc)[ \t]*:)[ \t]*(?P<it>{_NAMES})", 0),
    _rule("name", rf"\b(?P<it>{_WORD}(?:[ \t]+(?:[A-Z]\.[ \t]*)?{_WORD}){{1,2}}),[ \t]*"
          r"(?:MD|M\.D\.|DO|D\.O\.|PhD|Ph\.D\.|FRCR|MBBS|RN|PA-C|RT)(?!\w)", 0),
    _rule("number", r"(?<![\w.])(?P<it>[A-Za-z]{0,4}-?\d{7,})(?!\w)"),
)


@dataclass
class Deidentified:
    """How many of each kind were replaced, over all texts that went through."""

    counts: Counter[str] = field(default_factory=Counter)

    def clean(self, text: str, known: Iterable[str] = ()) -> str:
        """The text without what the rules find, and without the words of ``known``.

        Parameters
        ----------
        text
            Of a report. Signs that no eye sees are taken out first: a blank of no width in a name
            would hide it from the rules.
        known
            What is known to name the patient: the patient's ID, names of a separate list. Taken
            out wherever it stands as a word, in capitals or small letters.
        """
        made = "".join(
            sign for sign in unicodedata.normalize("NFKC", text)
            if sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cf", "Co", "Cs")
        )
        for word in sorted({one.strip() for one in known}, key=len, reverse=True):
            if len(word) >= 2:
                found = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
                made = self._replaced(made, found, "known", 0)
        for rule in _RULES:
            made = self._replaced(made, rule.expression, rule.kind, "it")
        return made

    def _replaced(
        self, text: str, expression: re.Pattern[str], kind: str, group: str | int
    ) -> str:
        def placeholder(match: re.Match[str]) -> str:
            start, end = match.start(group) - match.start(), match.end(group) - match.start()
            whole = match.group()
            self.counts[kind] += 1
            return f"{whole[:start]}[{kind.upper()}]{whole[end:]}"

        return expression.sub(placeholder, text)
