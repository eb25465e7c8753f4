"""Explaining rules: on files, on a received study, and without telling the patient."""

from __future__ import annotations

import pydicom

from dicom_node.events import hash_uid
from dicom_node.records import SeriesState
from dicom_node.spool import Spool
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_instance, write_series
from tests.ledger.conftest import instance, job


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
    (filled.folder / "text").write_text("not DICOM")
    assert filled("explain", filled.folder / "text").code == 1


def test_a_bad_value_is_not_quoted_on_stderr(site: Site) -> None:
    (path,) = write_series(ct_series((1, 8, 8), PatientName="DOE^JOHN"), site.folder / "images")
    path.write_bytes(path.read_bytes().replace(b"PN", b"DA", 1))
    assert "PatientName" in pydicom.dcmread(path, stop_before_pixels=True)
    answer = site("explain", path)
    assert answer.code == 0 and "DOE" not in answer.out + answer.err
