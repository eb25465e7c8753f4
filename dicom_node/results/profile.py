"""What of a result goes to a destination, and in which form: chosen, not built.

Each destination gets the best form that it takes. A segmentation descends from BINARY over
LABELMAP, RT Structure Set and Presentation State to pictures; a report from Comprehensive 3D
over Comprehensive and Enhanced to Basic Text, then to a page as a picture. What cites another
object cites the form that is sent there. ``dicom_node.results.forms`` builds what is chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from dicom_node.records import DestinationProfile
from dicom_node.results.sop_classes import (
    BASIC_TEXT_SR,
    CLASS_NAMES,
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    ENCAPSULATED_PDF,
    ENHANCED_SR,
    KEY_OBJECTS,
    LABEL_MAP_SEGMENTATION,
    PARAMETRIC_MAP,
    PRESENTATION_STATE,
    RT_STRUCTURE_SET,
    SECONDARY_CAPTURE,
    SEGMENTATION,
)

DOCUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "comprehensive_3d": COMPREHENSIVE_3D_SR,
        "comprehensive": COMPREHENSIVE_SR,
        "enhanced": ENHANCED_SR,
        "text": BASIC_TEXT_SR,
    }
)
REPORT_KINDS = (
    "volumetric report",
    "planar report",
    "image report",
    "negative report",
    "not analysed report",
    "text report",
)
NOTHING_FITS = "forms.nothing_fits"
"""Reason code of a destination for which `plan` has nothing: it takes no class of results."""

# A cited object goes before what cites it.
_ORDER = (
    "segmentation",
    "probability map",
    "parametric map",
    "secondary capture",
    *REPORT_KINDS,
    "structure set",
    "presentation state",
    "key objects",
    "pdf",
)
_CLASS_OF_KIND = {
    "segmentation": SEGMENTATION,
    "probability map": SEGMENTATION,
    "parametric map": PARAMETRIC_MAP,
    "structure set": RT_STRUCTURE_SET,
    "presentation state": PRESENTATION_STATE,
    "secondary capture": SECONDARY_CAPTURE,
    "key objects": KEY_OBJECTS,
    "pdf": ENCAPSULATED_PDF,
}
_SEGMENTATION_LADDER = {
    "binary": ("segmentation", ""),
    "labelmap": ("segmentation", "labelmap"),
    "structure_set": ("structure set", "structure_set"),
    "presentation_state": ("presentation state", "presentation_state"),
}
_KEPT_PICTURES = ("secondary capture", "")
_PICTURES = ("secondary capture", "pictures")
_NOTICE = ("secondary capture", "notice")
KEY_OBJECTS_WISH = ("key objects", "key_objects")
_PDF = ("pdf", "pdf")
_CITES_SEGMENTATION = frozenset({"volumetric report"})
_CITES_EXPLANATION = frozenset({"image report"})
# What shows where a model looked; a report cites the first that there is.
_EXPLANATIONS = ("parametric map", "secondary capture")
# Images that have no place in the patient, on which viewers show no Segmentation.
_PROJECTIONS = frozenset(
    {"CR", "DX", "MG", "IO", "PX", "RF", "XA", "US", "IVUS", "ES", "XC", "OP", "GM", "SM"}
)

_TAKES_NO = "destination takes no "

Wish = tuple[str, str]
"""Kind and form of an object."""


@dataclass(frozen=True)
class Wanted:
    """What a destination is set to get: ``peers.<name>.results`` of the configuration."""

    segmentation: str = "auto"
    report: str = "auto"
    secondary_capture: str = "auto"
    parametric_map: bool = True
    probability_map: bool = True
    key_objects: bool = False
    presentation_state: bool = False
    pdf: bool = False
    rejection_notes: bool = False
    compression: str = "none"


@dataclass(frozen=True)
class Sending:
    """One kind of object that goes to a destination.

    ``kind`` is that of the object as it is sent. ``form`` is empty for the object that the node
    keeps, otherwise what is built from it. ``why`` tells a person why it is this one.
    """

    kind: str
    form: str
    why: str

    @property
    def wish(self) -> Wish:
        """What is to be built, whatever the reason."""
        return self.kind, self.form

    @property
    def sop_class_uid(self) -> str:
        """SOP class of the object."""
        return sop_class_of(self.kind, self.form)


@dataclass(frozen=True)
class ReportForm:
    """How a report that is sent differs from the one that is kept.

    ``document`` is a key of ``DOCUMENTS``; ``segmentation`` what the report cites, ``binary``,
    ``labelmap`` or ``none``; ``explanation`` whether it cites what shows where a model looked. A
    Basic Text SR cites none of them.
    """

    document: str = "comprehensive_3d"
    segmentation: str = "binary"
    explanation: bool = True

    @property
    def name(self) -> str:
        """The form's word, such as ``comprehensive+labelmap``; empty for the report as kept."""
        if self == ReportForm():
            return ""
        if self.document == "text":
            return "text"
        cited = {"binary": [], "labelmap": ["labelmap"], "none": ["no_segmentation"]}
        return "+".join(
            [
                self.document,
                *cited[self.segmentation],
                *([] if self.explanation else ["no_explanation"]),
            ]
        )

    @classmethod
    def named(cls, name: str) -> ReportForm:
        """The form that has this ``name``."""
        if not name:
            return cls()
        document, *rest = name.split("+")
        if document == "text":
            return cls("text", "none", explanation=False)
        segmentation = "labelmap" if "labelmap" in rest else "binary"
        if "no_segmentation" in rest:
            segmentation = "none"
        return cls(document, segmentation, explanation="no_explanation" not in rest)


def sop_class_of(kind: str, form: str) -> str:
    """SOP class of an object of this kind in this form."""
    if kind in REPORT_KINDS:
        return DOCUMENTS[ReportForm.named(form).document]
    return LABEL_MAP_SEGMENTATION if form == "labelmap" else _CLASS_OF_KIND[kind]


def plan(
    kinds: Collection[str],
    profile: DestinationProfile | None,
    wanted: Wanted,
    modality: str,
    failed: Mapping[Wish, str] = MappingProxyType({}),
) -> tuple[Sending, ...]:
    """What goes to a destination of a result, in sending order.

    Parameters
    ----------
    kinds
        Kinds of the objects that the node keeps of the result.
    profile
        ``None`` for a destination that was never asked: it counts as taking everything except
        LABELMAP, which must have been negotiated.
    wanted
        Settings choose among forms and add to them. They do not make the node silent: where
        they leave nothing, the destination gets what it would get without them.
    modality
        Of the source.
    failed
        Forms that could not be built, and why; the next best takes their place.

    Returns
    -------
    tuple of Sending
        Empty when the destination takes no class that could carry this result
        (``NOTHING_FITS``).
    """
    choice = _Choice(frozenset(kinds), profile, modality, failed)
    return (
        _planned(choice, wanted)
        or _notice_instead(choice, wanted)
        or _planned(choice, Wanted())
        or _last_resort(choice)
    )


@dataclass(frozen=True)
class _Choice:
    """Which objects can be sent, and why the others cannot."""

    kinds: frozenset[str]
    profile: DestinationProfile | None
    modality: str
    failed: Mapping[Wish, str]

    @property
    def has_findings(self) -> bool:
        return "segmentation" in self.kinds

    def refusal(self, wish: Wish) -> str:
        """Why this object cannot be sent; empty when it can."""
        if wish in self.failed:
            return self.failed[wish]
        sop_class = sop_class_of(*wish)
        name = CLASS_NAMES[sop_class]
        if sop_class == RT_STRUCTURE_SET and self.modality in _PROJECTIONS:
            return f"{self.modality} images have no place in the patient for an {name}"
        asked = self.profile is not None and self.profile.probed_at is not None
        if sop_class == LABEL_MAP_SEGMENTATION and not asked:
            return f"{name} was not negotiated"
        if self.profile is not None and not self.profile.takes(sop_class):
            return f"{_TAKES_NO}{name}"
        return ""

    def best(self, wishes: Sequence[Wish], *, named: bool = False) -> Sending | None:
        """The first of ``wishes`` that can be sent, with what spoke against those before it."""
        refusals: list[str] = []
        for wish in wishes:
            refusal = self.refusal(wish)
            if not refusal:
                return Sending(*wish, why=_told(refusals) or self._merit(named))
            refusals.append(refusal)
        return None

    def _merit(self, named: bool) -> str:
        if named:
            return "set for this destination"
        asked = self.profile is not None and self.profile.probed_at is not None
        return "best form" if asked else "best form; destination not asked what it takes"


def _told(refusals: Sequence[str]) -> str:
    """What spoke against other forms, as one sentence."""
    not_taken = [one.removeprefix(_TAKES_NO) for one in refusals if one.startswith(_TAKES_NO)]
    others = [one for one in refusals if not one.startswith(_TAKES_NO)]
    return "; ".join([*([_TAKES_NO + ", ".join(not_taken)] if not_taken else []), *others])


def _planned(choice: _Choice, wanted: Wanted) -> tuple[Sending, ...]:
    region = _region(choice, wanted)
    shown = [region] if region else []
    shown += _maps(choice, wanted, {one.wish for one in shown})
    shown += _pictures(choice, wanted)
    cited = {one.wish for one in shown}
    found = [*shown, *_reports(choice, wanted, cited), *_extras(choice, wanted)]
    once = {one.wish: one for one in reversed(found)}
    return tuple(sorted(once.values(), key=lambda one: (_ORDER.index(one.kind), one.form)))


def _region(choice: _Choice, wanted: Wanted) -> Sending | None:
    """Where the findings lie: the segmentation in the best form."""
    if not choice.has_findings or wanted.segmentation == "off":
        return None
    named = wanted.segmentation != "auto"
    wishes = [wish for form, wish in _SEGMENTATION_LADDER.items() if form != wanted.segmentation]
    if named:
        wishes.insert(0, _SEGMENTATION_LADDER[wanted.segmentation])
    return choice.best(wishes, named=named)


def _maps(choice: _Choice, wanted: Wanted, shown: Collection[Wish]) -> Iterator[Sending]:
    # Viewers that ignore or refuse FRACTIONAL must still have something to show.
    beside_mask = not {("segmentation", ""), ("segmentation", "labelmap")}.isdisjoint(shown)
    for kind, is_wanted in (
        ("probability map", wanted.probability_map and beside_mask),
        ("parametric map", wanted.parametric_map),
    ):
        if kind in choice.kinds and is_wanted and (best := choice.best([(kind, "")])):
            yield best


def _reports(choice: _Choice, wanted: Wanted, cited: Collection[Wish]) -> Iterator[Sending]:
    if wanted.report == "off":
        return
    named = wanted.report != "auto"
    documents = sorted(DOCUMENTS, key=lambda one: one != wanted.report)
    for kind in REPORT_KINDS:
        if kind not in choice.kinds:
            continue
        forms = (_report_form(choice, kind, document, cited) for document in documents)
        wishes = [(kind, form.name) for form in forms]
        pages = [_PDF] if wanted.secondary_capture == "off" else [_NOTICE, _PDF]
        if best := choice.best([*wishes, *pages], named=named):
            yield replace(best, why=best.why + _citations_changed(best))


def _report_form(choice: _Choice, kind: str, document: str, cited: Collection[Wish]) -> ReportForm:
    if document == "text":
        return ReportForm.named("text")
    segmentation = "binary"
    if kind in _CITES_SEGMENTATION and ("segmentation", "") not in cited:
        segmentation = "labelmap" if ("segmentation", "labelmap") in cited else "none"
    explanations = [(one, "") for one in _EXPLANATIONS if one in choice.kinds]
    cites_explanation = kind in _CITES_EXPLANATION and explanations
    explanation = not cites_explanation or explanations[0] in cited
    return ReportForm(document, segmentation, explanation)


def _citations_changed(sending: Sending) -> str:
    form = ReportForm.named(sending.form if sending.kind in REPORT_KINDS else "")
    if form.document == "text" or form == replace(ReportForm(), document=form.document):
        return ""
    if form.segmentation == "labelmap":
        return "; cites the label map that is sent"
    return "; cites only what is sent"


def _pictures(choice: _Choice, wanted: Wanted) -> Iterator[Sending]:
    """Pictures for viewers that do not show the objects that programs read."""
    if wanted.secondary_capture == "off":
        return
    always = wanted.secondary_capture == "always"
    reason = "set for this destination" if always else _reason_for_pictures(choice)
    wishes = [_KEPT_PICTURES] if "secondary capture" in choice.kinds else []
    if choice.has_findings or (not wishes and "parametric map" in choice.kinds):
        wishes.append(_PICTURES)
    for wish in wishes or [_NOTICE]:
        if reason and not choice.refusal(wish):
            yield Sending(*wish, why=reason)


def _reason_for_pictures(choice: _Choice) -> str:
    if not choice.has_findings:
        explained = not choice.kinds.isdisjoint(_EXPLANATIONS)
        return "viewers show in pictures only where a model looked" if explained else ""
    refusals = [choice.refusal(("segmentation", form)) for form in ("", "labelmap")]
    if all(refusals):
        return refusals[0]
    if choice.modality in _PROJECTIONS:
        return f"viewers show no Segmentation on {choice.modality}"
    return ""


def _extras(choice: _Choice, wanted: Wanted) -> Iterator[Sending]:
    for wish, is_wanted in (
        (_SEGMENTATION_LADDER["presentation_state"], wanted.presentation_state),
        (KEY_OBJECTS_WISH, wanted.key_objects),
        (_PDF, wanted.pdf),
    ):
        can_be_built = choice.has_findings or wish == _PDF or (
            wish == KEY_OBJECTS_WISH and "image report" in choice.kinds
        )
        if is_wanted and can_be_built and (best := choice.best([wish], named=True)):
            yield best


def _notice_instead(choice: _Choice, wanted: Wanted) -> tuple[Sending, ...]:
    """A page that says what the reports say, where reports are not wanted."""
    if wanted.secondary_capture == "off" or choice.refusal(_NOTICE):
        return ()
    return (Sending(*_NOTICE, why="nothing else may go to this destination"),)


def _last_resort(choice: _Choice) -> tuple[Sending, ...]:
    if choice.has_findings and not choice.refusal(KEY_OBJECTS_WISH):
        return (Sending(*KEY_OBJECTS_WISH, why="destination takes no other class of results"),)
    return ()
