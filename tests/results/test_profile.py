from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.config_peers import ResultForms
from dicom_node.records import DestinationProfile
from dicom_node.results import sop_classes as classes
from dicom_node.results.profile import (
    REPORT_KINDS,
    ReportForm,
    Sending,
    Wanted,
    plan,
    sop_class_of,
)
from dicom_node.results.sop_classes import CLASS_NAMES

FINDINGS = ("segmentation", "volumetric report", "planar report")
EVERYTHING = frozenset(CLASS_NAMES)
ASKED_AT = datetime(2026, 11, 22, tzinfo=UTC)
ALL_SR = {
    classes.COMPREHENSIVE_3D_SR,
    classes.COMPREHENSIVE_SR,
    classes.ENHANCED_SR,
    classes.BASIC_TEXT_SR,
}
BOTH_SEG = {classes.SEGMENTATION, classes.LABEL_MAP_SEGMENTATION}


def taking(*sop_classes: str, refused: frozenset[str] = frozenset()) -> DestinationProfile:
    accepted = dict.fromkeys(sop_classes, ("1.2.840.10008.1.2.1",))
    return DestinationProfile("pacs", accepted, refused, ASKED_AT)


def without(*sop_classes: str) -> DestinationProfile:
    return taking(*(EVERYTHING - set(sop_classes)))


def wishes(sendings: tuple[Sending, ...]) -> list[tuple[str, str]]:
    return [one.wish for one in sendings]


def planned(
    profile: DestinationProfile | None,
    kinds: tuple[str, ...] = FINDINGS,
    modality: str = "CT",
    **wanted: object,
) -> list[tuple[str, str]]:
    return wishes(plan(kinds, profile, Wanted(**wanted), modality))  # type: ignore[arg-type]


KEPT = [("segmentation", ""), ("volumetric report", ""), ("planar report", "")]


def test_settings_are_those_of_the_configuration() -> None:
    assert Wanted(**ResultForms().model_dump()) == Wanted()
    assert [one.name for one in fields(Wanted)] == list(ResultForms.model_fields)


def test_a_destination_that_takes_everything_gets_what_is_kept() -> None:
    assert planned(taking(*EVERYTHING)) == KEPT


def test_a_destination_that_was_never_asked_gets_what_is_kept() -> None:
    assert planned(None) == KEPT
    assert planned(DestinationProfile("pacs", {}, frozenset(), None)) == KEPT


def test_labelmap_is_sent_only_where_it_was_negotiated() -> None:
    labelmap = [
        ("segmentation", "labelmap"),
        ("volumetric report", "comprehensive_3d+labelmap"),
        ("planar report", ""),
    ]
    assert planned(taking(*EVERYTHING), segmentation="labelmap") == labelmap
    assert planned(None, segmentation="labelmap") == KEPT
    refusing = DestinationProfile("pacs", {}, frozenset({classes.SEGMENTATION}), None)
    assert ("segmentation", "labelmap") not in planned(refusing)
    assert planned(without(classes.SEGMENTATION)) == labelmap


def test_regions_descend_to_structure_set_presentation_state_and_pictures() -> None:
    above = [
        ("secondary capture", "pictures"),
        ("volumetric report", "comprehensive_3d+no_segmentation"),
        ("planar report", ""),
    ]
    structure_set = ("structure set", "structure_set")
    state = ("presentation state", "presentation_state")
    assert planned(without(*BOTH_SEG)) == [*above, structure_set]
    assert planned(without(*BOTH_SEG), modality="DX") == [*above, state]
    none_of_them = {*BOTH_SEG, classes.RT_STRUCTURE_SET, classes.PRESENTATION_STATE}
    assert planned(without(*none_of_them)) == above


@pytest.mark.parametrize(
    ("missing", "document"),
    [
        ([classes.COMPREHENSIVE_3D_SR], "comprehensive"),
        ([classes.COMPREHENSIVE_3D_SR, classes.COMPREHENSIVE_SR], "enhanced"),
        (ALL_SR - {classes.BASIC_TEXT_SR}, "text"),
    ],
)
def test_reports_descend_to_the_next_document(missing: set[str], document: str) -> None:
    assert planned(without(*missing)) == [
        ("segmentation", ""), ("volumetric report", document), ("planar report", document),
    ]  # fmt: skip


def test_a_destination_without_reports_gets_one_page_of_what_they_say() -> None:
    assert planned(without(*ALL_SR)) == [("segmentation", ""), ("secondary capture", "notice")]
    for kind in ("negative report", "not analysed report"):
        assert planned(without(*ALL_SR), (kind,)) == [("secondary capture", "notice")]
    only_pdf = taking(classes.ENCAPSULATED_PDF)
    assert planned(only_pdf, ("not analysed report",)) == [("pdf", "pdf")]


def test_a_named_form_that_is_not_taken_is_replaced_by_the_best_that_is() -> None:
    sendings = plan(FINDINGS, without(classes.ENHANCED_SR), Wanted(report="enhanced"), "CT")
    assert wishes(sendings) == KEPT
    assert sendings[1].why == "destination takes no Enhanced SR (88.22)"


def test_every_step_down_says_what_was_not_taken() -> None:
    sendings = plan(FINDINGS, without(classes.SEGMENTATION), Wanted(), "CT")
    assert sendings[0].why == "destination takes no Segmentation (66.4)"
    kept = plan(FINDINGS, None, Wanted(), "CT")
    assert {one.why for one in kept} == {"best form; destination not asked what it takes"}


def test_radiographs_and_saliency_come_with_pictures() -> None:
    pictures = ("secondary capture", "pictures")
    assert pictures in planned(None, modality="CR")
    assert pictures in planned(None, ("parametric map", "image report"))
    assert pictures not in planned(None, (*FINDINGS, "parametric map"))
    assert pictures not in planned(None, modality="CR", secondary_capture="off")
    assert pictures in planned(None, secondary_capture="always")


def test_extras_are_sent_where_they_are_wanted_and_taken() -> None:
    wanted = {"key_objects": True, "presentation_state": True, "pdf": True}
    extras = [
        ("presentation state", "presentation_state"),
        ("key objects", "key_objects"),
        ("pdf", "pdf"),
    ]
    assert planned(None, **wanted) == [*KEPT, *extras]
    assert planned(without(classes.KEY_OBJECTS), **wanted) == [*KEPT, extras[0], extras[2]]


def test_a_probability_map_goes_only_beside_a_mask() -> None:
    kinds = ("segmentation", "probability map", "volumetric report")
    assert ("probability map", "") in planned(None, kinds)
    assert ("probability map", "") not in planned(None, kinds, segmentation="off")
    assert ("probability map", "") not in planned(None, kinds, probability_map=False)


@pytest.mark.parametrize("explanation", ["parametric map", "secondary capture"])
def test_a_report_cites_no_explanation_that_is_not_sent(explanation: str) -> None:
    kinds = (explanation, "image report")
    assert {(explanation, ""), ("image report", "")} <= set(planned(None, kinds))
    lacking = without(sop_class_of(explanation, ""))
    assert ("image report", "comprehensive_3d+no_explanation") in planned(lacking, kinds)


def test_what_could_not_be_built_is_replaced_by_the_next_best() -> None:
    failed = {("structure set", "structure_set"): "a contour crosses itself"}
    sendings = plan(FINDINGS, without(*BOTH_SEG), Wanted(), "CT", failed)
    state = next(one for one in sendings if one.kind == "presentation state")
    assert state.why.endswith("a contour crosses itself")
    assert "structure set" not in {one.kind for one in sendings}


def test_settings_that_leave_nothing_do_not_silence_the_node() -> None:
    off = {"segmentation": "off", "report": "off", "secondary_capture": "off"}
    assert planned(None, **off) == KEPT
    assert planned(None, ("negative report",), report="off") == [("secondary capture", "notice")]


def test_a_destination_that_takes_nothing_gets_nothing() -> None:
    assert planned(taking()) == []
    assert planned(taking(classes.SEGMENTATION), ("negative report",)) == []


FORMS = st.builds(
    ReportForm,
    st.sampled_from(["comprehensive_3d", "comprehensive", "enhanced"]),
    st.sampled_from(["binary", "labelmap", "none"]),
    st.booleans(),
)


@given(FORMS)
def test_a_report_form_is_known_by_its_name(form: ReportForm) -> None:
    assert ReportForm.named(form.name) == form


WANTED = st.builds(
    Wanted,
    st.sampled_from(["auto", "binary", "labelmap", "structure_set", "presentation_state", "off"]),
    st.sampled_from(["auto", "comprehensive_3d", "comprehensive", "enhanced", "text", "off"]),
    st.sampled_from(["auto", "always", "off"]),
    *[st.booleans()] * 5,
)
PROFILES = st.one_of(
    st.none(),
    st.builds(
        lambda accepted, refused, at: DestinationProfile(
            "pacs", dict.fromkeys(accepted, ("1.2",)), frozenset(refused), at
        ),
        st.sets(st.sampled_from(sorted(EVERYTHING))),
        st.sets(st.sampled_from(sorted(EVERYTHING))),
        st.sampled_from([None, ASKED_AT]),
    ),
)
KINDS = st.one_of(
    st.sampled_from([("negative report",), ("not analysed report",)]),
    st.sets(st.sampled_from(["planar report", "probability map", "parametric map"])).map(
        lambda more: ("segmentation", "volumetric report", *sorted(more))
    ),
    st.sampled_from(
        [
            ("image report",),
            ("image report", "parametric map"),
            ("image report", "secondary capture"),
        ]
    ),
)


@given(KINDS, PROFILES, WANTED, st.sampled_from(["CT", "MR", "DX", "US"]))
def test_plans_hold_for_every_destination(
    kinds: tuple[str, ...], profile: DestinationProfile | None, wanted: Wanted, modality: str
) -> None:
    sendings = plan(kinds, profile, wanted, modality)
    sent = wishes(sendings)
    assert len(set(sent)) == len(sent)
    for one in sendings:
        assert one.why
        assert profile is None or profile.takes(one.sop_class_uid)
        assert one.form or one.kind in kinds
        if one.kind in REPORT_KINDS:
            assert_cited_goes_first(one, sent, kinds)
    if ("segmentation", "labelmap") in sent:
        assert profile is not None
        assert profile.probed_at is not None
    if not sent:
        answers = {sop_class_of(kind, "") for kind in kinds} | ALL_SR
        answers |= {classes.SECONDARY_CAPTURE, classes.ENCAPSULATED_PDF}
        if "segmentation" in kinds:
            answers |= {classes.PRESENTATION_STATE, classes.KEY_OBJECTS}
            answers |= {classes.RT_STRUCTURE_SET} if modality in ("CT", "MR") else set()
        assert profile is not None
        assert not any(profile.takes(sop_class) for sop_class in answers)


def assert_cited_goes_first(
    report: Sending, sent: list[tuple[str, str]], kinds: tuple[str, ...]
) -> None:
    form = ReportForm.named(report.form)
    before = sent[: sent.index(report.wish)]
    if report.kind == "volumetric report" and form.segmentation != "none":
        cited = "" if form.segmentation == "binary" else "labelmap"
        assert ("segmentation", cited) in before
    explanations = [one for one in ("parametric map", "secondary capture") if one in kinds]
    if report.kind == "image report" and form.explanation and explanations:
        assert (explanations[0], "") in before
