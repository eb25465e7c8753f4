from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from ai_models.types import Label, LabelMap
from dicom_node.errors import GateRefused, StorageFailed
from dicom_node.records import DestinationProfile
from dicom_node.results import form_builders
from dicom_node.results.forms import Prepared, Source, prepare
from dicom_node.results.profile import Sending, Wanted
from dicom_node.results.sop_classes import (
    BASIC_TEXT_SR,
    CLASS_NAMES,
    COMPREHENSIVE_3D_SR,
    ENHANCED_SR,
    LABEL_MAP_SEGMENTATION,
    PARAMETRIC_MAP,
    SECONDARY_CAPTURE,
    SEGMENTATION,
)
from tests.conformance import validators
from tests.dicom_samples import radiograph
from tests.results import kept_samples, samples
from tests.results.kept_samples import Images, Kept, encoded, from_files, source_of
from tests.results.samples import items

ASKED_AT = datetime(2026, 11, 22, tzinfo=UTC)
EVERYTHING = frozenset(CLASS_NAMES)
EXTRAS = Wanted(key_objects=True, presentation_state=True, pdf=True)


def taking(*sop_classes: str) -> DestinationProfile:
    accepted = dict.fromkeys(sop_classes, ("1.2.840.10008.1.2.1",))
    return DestinationProfile("pacs", accepted, frozenset(), ASKED_AT)


DESTINATIONS: dict[str, tuple[DestinationProfile | None, Wanted]] = {
    "everything": (taking(*EVERYTHING), Wanted()),
    "labelmap": (taking(*EVERYTHING), Wanted(segmentation="labelmap")),
    "no segmentation": (taking(*(EVERYTHING - {SEGMENTATION, LABEL_MAP_SEGMENTATION})), EXTRAS),
    "no labels at all": (taking(SECONDARY_CAPTURE, COMPREHENSIVE_3D_SR), Wanted()),
    "enhanced": (taking(SEGMENTATION, ENHANCED_SR), Wanted()),
    "only pictures": (taking(SECONDARY_CAPTURE), Wanted()),
    "only text": (taking(BASIC_TEXT_SR), Wanted()),
    "nothing": (taking(), Wanted()),
}


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.headers(samples.ct())


@pytest.fixture(scope="module")
def lungs(datasets: list[Dataset]) -> Kept:
    return kept_samples.lungs(datasets)


@pytest.fixture(scope="module")
def prepared(lungs: Kept, datasets: list[Dataset]) -> Prepared:
    return prepare(DESTINATIONS, lungs, source_of(datasets))


def wishes(sendings: Sequence[Sending]) -> list[tuple[str, str]]:
    return [one.wish for one in sendings]


def test_each_destination_gets_the_forms_of_its_plan(prepared: Prepared) -> None:
    assert prepared.failed == {}
    plans = {name: wishes(plan) for name, plan in prepared.plans.items()}
    assert plans["everything"] == [
        ("segmentation", ""),
        ("volumetric report", ""),
        ("planar report", ""),
    ]
    assert plans["no labels at all"] == [
        ("secondary capture", "pictures"),
        ("volumetric report", "comprehensive_3d+no_segmentation"),
        ("planar report", ""),
    ]
    assert plans["only pictures"] == [
        ("secondary capture", "notice"),
        ("secondary capture", "pictures"),
    ]
    assert plans["nothing"] == []


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_what_is_sent_cites_only_the_source_and_what_is_sent_before(
    prepared: Prepared, lungs: Kept, datasets: list[Dataset], destination: str
) -> None:
    # A structure set refers to its study as to an instance (PS3.3 C.8.8.5).
    sent = {str(datasets[0].StudyInstanceUID), *(str(one.SOPInstanceUID) for one in datasets)}
    profile, _ = DESTINATIONS[destination]
    for sending, dataset in prepared.objects_for(destination, lungs):
        assert profile is not None
        assert profile.takes(str(dataset.SOPClassUID))
        assert sending.sop_class_uid == dataset.SOPClassUID
        if sending.kind != "pdf":
            assert set(cited(dataset)) <= sent
        sent.add(str(dataset.SOPInstanceUID))


def test_a_document_names_the_reports_that_it_was_made_from(
    prepared: Prepared, lungs: Kept
) -> None:
    document = next(one.dataset for one in prepared.derived if one.sending.kind == "pdf")
    reports = [str(one.SOPInstanceUID) for kind, one in lungs if kind.endswith("report")]
    assert list(cited(document)) == reports


def cited(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


def test_every_form_satisfies_the_validator(prepared: Prepared, tmp_path: Path) -> None:
    complaints = []
    for one in prepared.derived:
        if "labelmap" in one.sending.form or int(one.dataset.InstanceNumber) > 1:
            continue  # the validator does not know label maps; of the pictures one stands for all
        path = tmp_path / f"{one.sending.kind}-{one.sending.form}.dcm"
        one.dataset.save_as(path, enforce_file_format=True)
        try:
            complaints += validators.dciodvfy(path)
        except validators.ToolMissing as missing:
            pytest.skip(str(missing))
    assert validators.unexplained(complaints) == []


def test_every_form_says_that_it_is_a_demonstration(prepared: Prepared) -> None:
    for one in prepared.derived:
        assert one.dataset.SeriesDescription.startswith("DEMONSTRATION, NOT FOR CLINICAL USE")


def test_forms_are_the_same_bytes_from_memory_and_from_files(
    prepared: Prepared, lungs: Kept, datasets: list[Dataset], tmp_path: Path
) -> None:
    read = from_files(lungs, tmp_path)
    again = prepare(DESTINATIONS, read, source_of(datasets))
    assert [encoded(one.dataset) for one in again.derived] == [
        encoded(one.dataset) for one in prepared.derived
    ]
    assert [one.made_from for one in again.derived] == [one.made_from for one in prepared.derived]


def test_every_object_has_a_uid_of_its_own(prepared: Prepared, lungs: Kept) -> None:
    everything = [*(one for _, one in lungs), *(one.dataset for one in prepared.derived)]
    assert len({str(one.SOPInstanceUID) for one in everything}) == len(everything)


def test_a_form_names_the_kept_object_that_it_was_made_from(
    prepared: Prepared, lungs: Kept
) -> None:
    kept = {kind: str(dataset.SOPInstanceUID) for kind, dataset in lungs}
    made_from = {one.sending.wish: one.made_from for one in prepared.derived}
    assert made_from["segmentation", "labelmap"] == kept["segmentation"]
    assert made_from["secondary capture", "pictures"] == kept["segmentation"]
    assert made_from["planar report", "text"] == kept["planar report"]
    assert made_from["secondary capture", "notice"] == kept["volumetric report"]


def test_images_are_read_once_and_only_for_pictures(lungs: Kept, datasets: list[Dataset]) -> None:
    images = Images()
    source = source_of(datasets, images)
    prepare({"text": DESTINATIONS["only text"]}, lungs, source)
    assert images.asked_for == []
    prepare({name: DESTINATIONS[name] for name in ("only pictures", "no segmentation")},
            lungs, source)  # fmt: skip
    assert images.asked_for == [samples.LABELS]


def test_images_that_cannot_be_read_just_now_stop_everything(
    lungs: Kept, datasets: list[Dataset]
) -> None:
    def unreadable(labels: Sequence[Label]) -> LabelMap:
        raise StorageFailed("the disk does not answer")

    source = Source(datasets, [1] * len(datasets), unreadable, samples.EQUIPMENT)
    with pytest.raises(StorageFailed):
        prepare({"pacs": DESTINATIONS["only pictures"]}, lungs, source)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (GateRefused("a contour crosses itself", reason="gate.contour"), "gate.contour"),
        (ValueError("Müller^Zoë"), "ValueError"),
    ],
)
def test_a_form_that_cannot_be_built_is_replaced_by_the_next_best(
    lungs: Kept,
    datasets: list[Dataset],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    why: str,
) -> None:
    def broken(*_: object, **__: object) -> Dataset:
        raise error

    monkeypatch.setattr(form_builders, "build_structure_set", broken)
    prepared = prepare({"pacs": DESTINATIONS["no segmentation"]}, lungs, source_of(datasets))
    assert prepared.failed == {
        ("structure set", "structure_set"): f"structure set could not be built ({why})"
    }
    state = next(one for one in prepared.plans["pacs"] if one.kind == "presentation state")
    assert state.why.endswith(f"structure set could not be built ({why})")


def test_a_label_map_that_cannot_be_built_leaves_the_reports_on_the_binary_one(
    lungs: Kept, datasets: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_builders, "build_label_map_segmentation", lambda *_, **__: None)
    prepared = prepare({"pacs": DESTINATIONS["labelmap"]}, lungs, source_of(datasets))
    assert wishes(prepared.plans["pacs"]) == [(kind, "") for kind, _ in lungs]
    assert prepared.derived == ()


def test_each_form_is_built_once_for_all_who_get_it(lungs: Kept, datasets: list[Dataset]) -> None:
    destination = DESTINATIONS["only text"]
    prepared = prepare({"one": destination, "two": destination}, lungs, source_of(datasets))
    assert [one.sending.kind for one in prepared.derived] == ["volumetric report", "planar report"]
    for name in ("one", "two"):
        sent = [dataset for _, dataset in prepared.objects_for(name, lungs)]
        assert sent == [one.dataset for one in prepared.derived]


@pytest.mark.parametrize("kind", ["negative", "not_analysed"])
def test_an_answer_without_findings_reaches_every_destination(
    kind: str, datasets: list[Dataset]
) -> None:
    kept: Kept = getattr(kept_samples, kind)(datasets)
    prepared = prepare(DESTINATIONS, kept, source_of(datasets))
    report = kept[0][0]
    plans = {name: wishes(plan) for name, plan in prepared.plans.items()}
    assert prepared.failed == {}
    assert plans["everything"] == plans["labelmap"] == [(report, "")]
    assert plans["enhanced"] == [(report, "enhanced")]
    assert plans["only text"] == [(report, "text")]
    assert plans["only pictures"] == [("secondary capture", "notice")]
    assert plans["nothing"] == []


def test_a_page_is_written_also_about_images_with_broken_headers() -> None:
    datasets = samples.ct()[:2]
    del datasets[0].FrameOfReferenceUID
    datasets[1].PixelSpacing = ["9", "9"]
    kept = kept_samples.not_analysed(datasets, frame_numbers=())
    prepared = prepare({"pacs": DESTINATIONS["only pictures"]}, kept, source_of(datasets))
    (page,) = prepared.derived
    assert page.dataset.PatientID == datasets[0].PatientID
    assert page.dataset.StudyInstanceUID == datasets[0].StudyInstanceUID


def test_what_a_model_looked_at_is_shown_in_pictures_and_cited_where_it_is_sent(
    datasets: list[Dataset],
) -> None:
    kept = kept_samples.embolism(datasets)
    destinations = {
        "everything": DESTINATIONS["everything"],
        "no maps": (taking(*(EVERYTHING - {PARAMETRIC_MAP})), Wanted()),
    }
    prepared = prepare(destinations, kept, source_of(datasets))
    assert prepared.failed == {}
    assert wishes(prepared.plans["everything"]) == [
        ("parametric map", ""),
        ("secondary capture", "pictures"),
        ("image report", ""),
    ]
    assert wishes(prepared.plans["no maps"]) == [
        ("secondary capture", "pictures"),
        ("image report", "comprehensive_3d+no_explanation"),
    ]
    report = next(one.dataset for one in prepared.derived if one.sending.kind == "image report")
    assert str(kept[0][1].SOPInstanceUID) not in set(cited(report))
    assert any(item.ValueType == "NUM" for item in items(report))


def test_a_radiograph_gets_pictures_beside_its_segmentation() -> None:
    image = radiograph()
    mask = samples.np.zeros((1, int(image.Rows), int(image.Columns)), "uint8")
    mask[0, 5:12, 5:15] = 1
    request = samples.request_for([image])
    kept = [
        ("segmentation", samples.segmentation_of([image], mask)),
        *kept_samples.not_analysed([image]),
    ]
    assert request.frame_numbers == [1]
    prepared = prepare({"pacs": (None, Wanted())}, kept, source_of([image], Images(mask.shape)))
    assert wishes(prepared.plans["pacs"])[:2] == [
        ("segmentation", ""),
        ("secondary capture", "pictures"),
    ]
    assert len(prepared.derived) == 1
