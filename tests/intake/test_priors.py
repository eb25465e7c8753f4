"""Looking for an earlier examination: whose, which, from where, and when there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import NodeError, PeerRefused, PeerUnavailable
from dicom_node.intake.query import Limits
from dicom_node.records import JobInput
from tests.delivery.scripted_peer import socket_peer
from tests.intake.prior_place import PRESENT, Archive, Place
from tests.intake.query_peer import FIND, MOVE, query_peer
from tests.ledger.conftest import job


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def place(tmp_path: Path, archive: Archive, request: pytest.FixtureRequest) -> Iterator[Place]:
    header = getattr(request, "param", {})
    with query_peer((FIND, MOVE), on_find=archive.find) as peer:
        made = Place(tmp_path, peer, **header)
        archive.place = made
        made.search.start()
        try:
            yield made
        finally:
            made.search.close()
            made.ledger.close()


def none_found(found: JobInput) -> bool:
    return not found.series_instance_uid and found.reason == (
        "there is none of the 1095 days before here or at pacs"
    )


def brought(place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the archive's retrievals arrive; the studies that are asked for."""
    asked: list[str] = []

    def brings(_way: str, _peer: object, found: Any) -> bool:
        asked.append(found.study_instance_uid)
        archive.give(found.study_instance_uid)
        return True

    monkeypatch.setattr(place.search._fetching, "brings", brings)
    return asked


def test_the_latest_examination_before_is_taken_and_declared_as_fetched(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.has("1.2", "20260301")
    archive.has("1.3", "20250101")
    archive.has("1.4", "20260101")
    archive.has("1.5", "20260302")
    archive.has("1.6", "20200101")
    archive.has("1.7", "20260201", Modality="MR")
    archive.has("1.8", "20260201", images=1)
    asked = brought(place, archive, monkeypatch)
    found = place.ask()
    assert found.series_instance_uid == "1.4.1"
    assert found.reason == "the latest before it, by 59 days"
    assert asked == ["1.4"]
    query = place.peer.asked[0]
    assert (query.PatientID, query.StudyDate) == ("ANNA", "20230302-20260228")


@pytest.mark.parametrize("place", [{"PatientID": "AN*"}], indirect=True)
def test_an_id_with_an_asterisk_is_not_that_of_everybody(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.has("1.4", "20260101", "ANNA")
    asked = brought(place, archive, monkeypatch)
    assert none_found(place.ask()) and asked == []


@pytest.mark.parametrize("place", [{"IssuerOfPatientID": "HERE"}], indirect=True)
def test_the_same_id_of_another_issuer_is_another_patient(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.has("1.4", "20260101", IssuerOfPatientID="ELSEWHERE")
    asked = brought(place, archive, monkeypatch)
    assert none_found(place.ask()) and asked == []


def test_what_arrives_is_not_taken_for_what_the_archive_said_it_was(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.has("1.4", "20260101", really="BERTA")
    archive.has("1.3", "20250101")
    asked = brought(place, archive, monkeypatch)
    assert place.ask().series_instance_uid == "1.3.1"
    assert asked == ["1.4", "1.3"]


def test_what_is_here_is_not_fetched(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.receive("1.4.1", "1.4", "CT01", PatientID="ANNA", StudyDate="20260101")
    place.decline("1.4.1")
    archive.has("1.4", "20260101")
    asked = brought(place, archive, monkeypatch)
    assert place.ask().series_instance_uid == "1.4.1" and asked == []
    here = place.ledger.receipts.find_series("1.4.1")
    assert here is not None and not place.search.is_prior(here)


def test_half_of_an_examination_is_not_taken_for_all_of_it(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.receive("1.4.1", "1.4", "PACS", images=3, PatientID="ANNA", StudyDate="20260101")
    place.decline("1.4.1")
    archive.has("1.4", "20260101")
    asked: list[str] = []

    def brings(way: str, _peer: object, found: Any) -> bool:
        asked.append(f"{way} {found.study_instance_uid}")
        place.receive("1.4.1", "1.4", "PACS", PatientID="ANNA", StudyDate="20260101")
        place.decline("1.4.1")
        return True

    monkeypatch.setattr(place.search._fetching, "brings", brings)
    assert place.ask().reason == "the latest before it, by 59 days"
    assert asked == ["c-move 1.4"]


@pytest.mark.parametrize("fault", [None, PeerRefused("no"), PeerUnavailable("away")])
def test_half_of_an_examination_is_better_than_none_and_is_said_to_be_half(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch, fault: NodeError | None
) -> None:
    place.receive("1.4.1", "1.4", "PACS", images=3, PatientID="ANNA", StudyDate="20260101")
    place.decline("1.4.1")
    archive.has("1.4", "20260101")

    def brings(*_asked: object) -> bool:
        if fault is not None:
            raise fault
        return False

    monkeypatch.setattr(place.search._fetching, "brings", brings)
    found = place.ask()
    assert found.series_instance_uid == "1.4.1"
    assert found.reason == "the latest before it, by 59 days, 3 of its 4 images"


@pytest.mark.parametrize("fault", [None, PeerRefused("no")])
def test_what_could_not_be_fetched_is_not_said_not_to_be_there(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch, fault: NodeError | None
) -> None:
    archive.has("1.4", "20260101")

    def brings(*_asked: object) -> bool:
        if fault is not None:
            raise fault
        return False

    monkeypatch.setattr(place.search._fetching, "brings", brings)
    found = place.ask()
    assert not found.series_instance_uid
    assert found.reason == "there may be one at pacs, 59 days before, and it could not be fetched"


BORN = {"PatientBirthDate": "19500101", "PatientSex": "F"}


@pytest.mark.parametrize("place", [BORN], indirect=True)
@pytest.mark.parametrize("other", [{"PatientBirthDate": "19700101"}, {"PatientSex": "M"}])
@pytest.mark.parametrize("is_told", [True, False])
def test_the_same_id_of_somebody_born_on_another_day_or_of_another_sex_is_passed_over(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch, other: dict[str, str],
    is_told: bool,
) -> None:
    archive.has("1.4", "20260101", in_truth={**BORN, **other}, **(other if is_told else {}))
    archive.has("1.3", "20250101", in_truth={"PatientBirthDate": "", "PatientSex": "O"})
    asked = brought(place, archive, monkeypatch)
    assert place.ask().series_instance_uid == "1.3.1"
    assert asked == (["1.3"] if is_told else ["1.4", "1.3"])


@pytest.mark.parametrize("place", [BORN], indirect=True)
def test_what_is_here_of_somebody_born_on_another_day_is_passed_over(
    place: Place, archive: Archive
) -> None:
    place.receive("1.4.1", "1.4", "CT01", PatientID="ANNA", StudyDate="20260101",
                  PatientBirthDate="19700101")
    place.decline("1.4.1")
    assert none_found(place.ask())


@pytest.mark.parametrize(
    ("place", "expected"),
    [({"PatientID": ""}, "the images do not say whose they are"),
     ({"StudyDate": "", "AcquisitionDate": "", "SeriesDate": ""},
      "the images do not say when they were taken")],
    indirect=["place"],
)
def test_images_that_do_not_say_whose_or_when_have_no_earlier_ones(
    place: Place, expected: str
) -> None:
    assert place.ask().reason == expected
    assert place.peer.asked == []


def test_a_peer_that_is_away_is_asked_again_and_the_ledger_says_why_it_takes_so_long(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.has("1.4", "20260101")
    brought(place, archive, monkeypatch)
    place.peer.status = 0xA700
    on_find, place.peer.on_find = place.peer.on_find, None
    place.search.want(place.job, "1.2", PRESENT, place.wanted)
    until = time.monotonic() + 60
    while "could not be looked for" not in place.ledger.inputs.of(place.job.job_id)[0].reason:
        assert time.monotonic() < until
        time.sleep(0.05)
    place.peer.on_find = on_find
    monkeypatch.setattr("dicom_node.intake.priors._ASK_AGAIN_S", 0.0)
    for search in place.search._searches.values():
        search.next_s = 0.0
    assert place.ask().series_instance_uid == "1.4.1"


def test_a_peer_that_hangs_keeps_nobody_from_what_another_peer_has(
    place: Place, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.has("1.4", "20260101")
    brought(place, archive, monkeypatch)
    place.search._fetching._limits = Limits(associate_s=600)
    with socket_peer() as hangs:
        place.search._peers = {**place.search._peers, "silent": hangs}
        asked = place.wanted.model_copy(update={"fetch_from": "silent"})
        for number in range(8):
            place.search.want(job(f"other-{number}"), "1.2", PRESENT, asked)
        assert place.ask().series_instance_uid == "1.4.1"
