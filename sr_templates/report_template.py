"""What a report template may say: TID 1500 with groups of three kinds, as plain data.

``quantities`` and ``scales`` are defined once and used by name: a group maps the name of a number
to the quantity as which it is written, or to the scale that turns it into a coded term. Numbers
come from the model (``outputs``) or from what was measured on its mask.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PrivateAttr

from sr_templates.entries import CodeField, Entry, Language, Name, Text, Wording
from sr_templates.sentences import Sentences

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Quantity(Entry):
    """How a number is written (PS3.16 TID 300).

    A number outside ``minimum`` and ``maximum`` refuses the report. An ``optional`` one may be
    absent. ``text`` says it to the reader; its placeholder is ``{value}``.
    """

    concept: CodeField
    unit: CodeField
    derivation: CodeField | None = None
    decimals: Annotated[int, Field(ge=0, le=6, strict=True)]
    optional: bool = False
    minimum: Finite | None = None
    maximum: Finite | None = None
    text: Wording


class Term(Entry):
    """A coded term. ``negative`` says that with it nothing was found."""

    value: CodeField
    text: Wording
    negative: bool = False


class Step(Term):
    """The term of every number that is ``at_least`` this, unless an earlier step takes it."""

    at_least: Finite | None = None


class Scale(Entry):
    """A number as a coded term (PS3.16 TID 1501, qualitative evaluation).

    ``steps`` descend; the last one has no bound and takes the rest.
    """

    concept: CodeField
    steps: Annotated[tuple[Step, ...], Field(min_length=2)]


class LargestOf(Entry):
    """The coded term of that output which is largest; the first of equal ones.

    To be the largest of several says little: with ``negative_from`` the term that is ``negative``
    needs a number of at least this, and in its place stands ``otherwise``.
    """

    concept: CodeField
    terms: Annotated[dict[Name, Term], Field(min_length=2)]
    negative_from: Finite | None = None
    otherwise: Term | None = None

    @property
    def limit(self) -> Scale | None:
        """What the negative term needs, as a scale; ``None`` where it needs nothing."""
        negative = next((one for one in self.terms.values() if one.negative), None)
        if negative is None or self.otherwise is None:
            return None
        highest = Step(**dict(negative), at_least=self.negative_from)
        return Scale(concept=self.concept, steps=(highest, Step(**dict(self.otherwise))))


class Group(Entry):
    """What one measurement group reports: name of a number to quantity, and to scale."""

    measurements: dict[Name, Name] = Field(default_factory=dict)
    evaluations: dict[Name, Name] = Field(default_factory=dict)


class Total(Entry):
    """The group of all segments together."""

    name: Wording
    type: CodeField
    laterality: CodeField | None = None


class VolumetricGroups(Group):
    """One group per segment that was found (PS3.16 TID 1411), and one for all together."""

    total: Total | None = None


class ImageGroup(Group):
    """One group on the whole image, series or study (PS3.16 TID 1501).

    With ``laterality_of_image`` the site has the side that a radiograph states of itself.
    """

    group: Name
    name: Wording
    category: CodeField
    finding: CodeField
    site: CodeField
    laterality: CodeField | None = None
    laterality_of_image: bool = False
    largest_of: LargestOf | None = None


class Answer(Entry):
    """A coded answer of the whole report (PS3.16 TID 1500 row 13)."""

    concept: CodeField
    value: CodeField


class CodingScheme(Entry):
    """A private coding scheme (PS3.3 C.12.1, Coding Scheme Identification Sequence)."""

    name: Text
    responsible_organization: Text


class ReportTemplate(Entry):
    """One kind of report.

    ``names`` translates what a model card calls its labels; a name that is not in it stands as
    it is. ``sentences`` replaces single sentences of ``sentences.yaml``. A template without groups
    is for text; every other one says with ``nothing_found`` what the negative answer is.
    """

    name: str
    title: CodeField
    procedure_reported: Annotated[dict[str, CodeField], Field(min_length=1)]
    coding_schemes: dict[str, CodingScheme] = Field(default_factory=dict)
    names: dict[str, Wording] = Field(default_factory=dict)
    quantities: dict[Name, Quantity] = Field(default_factory=dict)
    scales: dict[Name, Scale] = Field(default_factory=dict)
    volumetric: VolumetricGroups | None = None
    planar: Group | None = None
    image: tuple[ImageGroup, ...] = ()
    nothing_found: Answer | None = None
    sentences: Sentences = Sentences()

    _fingerprint: str = PrivateAttr(default="")

    @property
    def has_groups(self) -> bool:
        """Whether it reports any numbers."""
        return self.volumetric is not None or self.planar is not None or bool(self.image)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file: with another one, the same prediction makes another report."""
        return self._fingerprint

    def name_of(self, name: str, language: Language) -> str:
        """What the reader is told for a label that the model card calls ``name``.

        Of a name with a number behind it, as detections have it ("Nodule 3"), the name alone may
        be known; the number stays.
        """
        known = self.names.get(name)
        if known is not None:
            return known.in_language(language)
        kind, space, number = name.rpartition(" ")
        if space and number.isdecimal() and kind in self.names:
            return f"{self.names[kind].in_language(language)} {number}"
        return name
