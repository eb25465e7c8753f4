"""Explaining rules: on files, on a received study, and without telling the patient."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pydicom
from pydicom.dataset import Dataset

from dicom_node.events import hash_uid
from dicom_node.records import JobInput, SeriesState
from dicom_node.spool import Spool
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_instance, write_series
from tests.ledger.conftest import START, instance, job


def test_files_are_explained_rule_by_rule(site: Site) -> None:
    series = ct_series((3, 8, 8), SliceThickness="10")
    write_series(series, site.folder / "images")
    answer = site("explain", site.folder / "images", "--json")
    (found,) = answer.json().values()
    assert [(one["rule"], one["matches"]) for one in found] == [("chest", False), ("heads", False)]
    assert [m["keyword"] for m in found[0]["mismatches"]] == ["SliceThickness"]
    text = site("explain", site.folder / "images")
    assert text.code == 0 and "SliceThickness" in text.out


def test_a_received_study_is_explained_by_the_image_that_routed_it(site: Site) -> None:
    spool = Spool(site.data_dir / "spool")
    ledger = site.ledger()
    for number, dataset in enumerate(ct_series((3, 8, 8)), start=1):
        one = instance(number)
        (spool.root / one.path).parent.mkdir(parents=True, exist_ok=True)
        # Only the middle image is as the rule wants it: the router looks at that one.
        dataset.SliceThickness = "2" if number == 2 else "10"
        write_instance(dataset, spool.root / one.path)
        ledger.index([one])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.jobs.route("1.2.3", [job()], "rules",
                      seen=ledger.receipts.recent_series(1)[0].last_received_at)
    ledger.close()
    for uid in ("1.2", "1.2.3", hash_uid("1.2"), hash_uid("1.2.3"), "job-1"):
        document = site("explain", uid, "--json").json()
        assert [one["matches"] for one in document["1.2.3"]] == [True, False]
    for path in spool.stored():
        spool.resolve(path).unlink()
    gone = site("explain", "1.2")
    assert gone.code == 1 and "Traceback" not in gone.err


def test_nothing_named_is_exit_1(filled: Site) -> None:
    (filled.folder / "empty").mkdir()
    assert filled("explain", filled.folder / "empty").code == 1
    unknown = filled("explain", "1.2.99", "--json")
    assert unknown.out == "" and "1.2.99" in unknown.err
    for name in ("text", "other"):
        (filled.folder / "empty" / name).write_text("not DICOM")
    said = filled("explain", filled.folder / "empty")
    assert said.code == 1 and said.err.count("skipped") == 1


def test_a_bad_value_is_not_quoted_on_stderr(site: Site) -> None:
    (path,) = write_series(ct_series((1, 8, 8), PatientName="DOE^JOHN"), site.folder / "images")
    path.write_bytes(path.read_bytes().replace(b"PN", b"DA", 1))
    assert "PatientName" in pydicom.dcmread(path, stop_before_pixels=True)
    answer = site("explain", path)
    assert answer.code == 0 and "DOE" not in answer.out + answer.err


FUSION = (
    "  - {name: fusion, when: {Modality: CT}, model: lungs-ct, send_to: [pacs],"
    " inputs: {pt: {when: {Modality: PT}}, prior: {when: {Modality: CT}, fetch_from: pacs}}}\n"
)


def test_files_are_explained_with_the_series_that_fill_the_roles_of_a_rule(site: Site) -> None:
    site.settings(more=FUSION)
    one = ct_series((3, 8, 8))
    place = {"StudyInstanceUID": one[0].StudyInstanceUID,
             "FrameOfReferenceUID": one[0].FrameOfReferenceUID}
    other = ct_series((4, 8, 8), Modality="PT", **place)
    for number, series in enumerate((one, other)):
        write_series(series, site.folder / "images" / str(number))
    assert f"  is pt for fusion on series {one[0].SeriesInstanceUID}\n" in site(
        "explain", site.folder / "images"
    ).out
    document = site("explain", site.folder / "images", "--json").json()
    fusion = document[one[0].SeriesInstanceUID][2]
    assert fusion["inputs"]["pt"]["series_instance_uid"] == other[0].SeriesInstanceUID
    assert document[other[0].SeriesInstanceUID][2]["inputs"] == {}
    text = site("explain", site.folder / "images" / "0")
    assert "    pt: no series so far" in text.out
    assert "prior: an earlier examination, back to 1095 days, asked of pacs" in text.out


def test_a_received_series_is_explained_with_what_its_job_waits_for(site: Site) -> None:
    site.settings(more=FUSION)
    route_and_wait(site)
    text = site("explain", "1.2.3")
    assert "its job waits for pt, until 20" in text.out
    assert site("explain", "1.2.3", "--json").json()["1.2.3"][2]["waits_for"].startswith("pt, ")


def test_what_a_job_waits_for_is_shown_everywhere(site: Site) -> None:
    site.settings(more=FUSION)
    route_and_wait(site)
    shown = site("show", "1.2.3")
    assert "; waits for pt, until 20" in shown.out and "pt: no series so far" in shown.out
    assert "prior: none, not there" in shown.out
    (found,) = site("show", "job-1", "--json").json()["series"][0]["jobs"]
    assert [(one["role"], one["waits"]) for one in found["inputs"]] == [
        ("prior", False), ("pt", True)
    ]
    assert "waits for pt, until 20" in site("status").out
    assert "pt, until 20" in site("jobs").out
    site("retry", "job-1")
    assert "a free device, next in turn" in site("show", "1.2.3").out


def test_a_declined_series_that_a_job_took_is_shown_with_that_job(site: Site) -> None:
    site.settings(more=FUSION)
    route_and_wait(site)
    ledger = site.ledger()
    pet = replace(instance(2), series_instance_uid="1.2.4", sop_instance_uid="1.2.4.1")
    ledger.index([pet])
    ledger.receipts.change("1.2.4", SeriesState.COMPLETE, "quiet_period")
    ledger.inputs.fill("job-1", JobInput("pt", "1.2.4", "content", "the only series that fits"))
    ledger.close()
    assert "  taken as pt by job job-1 of series 1.2.3: queued" in site("show", "1.2.4").out
    (shown,) = site("show", "1.2.4", "--json").json()["series"]
    assert shown["taken_by"] == [{
        "job_id": "job-1", "series_instance_uid": "1.2.3", "role": "pt", "model_id": "lungs-ct",
        "state": "queued",
    }]
    assert "; pt of job job-1, lungs-ct queued" in site("status").out


def test_a_series_that_no_rule_matches_is_explained_by_what_it_is_to_others(site: Site) -> None:
    site.settings(more=FUSION)
    ct = route_and_wait(site)
    spool, ledger = Spool(site.data_dir / "spool"), site.ledger()
    for number, frame in ((4, ct.FrameOfReferenceUID), (5, "1.2.99")):
        (dataset,) = ct_series((1, 8, 8), Modality="PT", FrameOfReferenceUID=frame)
        one = replace(
            instance(number), series_instance_uid=f"1.2.{number}",
            sop_instance_uid=f"1.2.{number}.1",
        )
        write_instance(dataset, spool.root / one.path)
        ledger.index([one])
        ledger.receipts.change(one.series_instance_uid, SeriesState.COMPLETE, "quiet_period")
        ledger.receipts.change(one.series_instance_uid, SeriesState.DECLINED, "no_rule_matched")
    ledger.close()
    of = "pt for fusion on series 1.2.3, job job-1: queued, waits for pt, until 20"
    assert f"  is {of}" in site("explain", "1.2.4").out
    assert "pt for fusion" not in site("explain", "1.2.5").out


def route_and_wait(site: Site) -> Dataset:
    """A CT whose job waits for a PET, and has given up on an earlier examination."""
    spool, ledger = Spool(site.data_dir / "spool"), site.ledger()
    (dataset,), one = ct_series((1, 8, 8)), instance(1)
    (spool.root / one.path).parent.mkdir(parents=True, exist_ok=True)
    write_instance(dataset, spool.root / one.path)
    ledger.index([one])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    asked = replace(job(), rule="fusion", not_before=datetime.now(UTC) + timedelta(hours=3))
    ledger.jobs.route("1.2.3", [asked], "rules", seen=START, inputs={"job-1": [
        JobInput("pt", "", "", "not there within 15 min", waits=True),
        JobInput("prior", "", "", "not there"),
    ]})
    ledger.close()
    return dataset
