"""What destinations take and what goes there therefore, as `check`, `show` and `status` say it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dicom_node.ledger.duties import ANSWER, FORMS
from dicom_node.records import DestinationProfile
from tests.cli.running import Site
from tests.delivery.scripted_peer import EXPLICIT, scripted_peer
from tests.delivery.scripted_service import answer, scripted_service
from tests.ledger.conftest import START, delivery, result
from tests.peers import DcmtkStorescp

SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
REPORT, CAPTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


def checked(site: Site, name: str) -> dict[str, Any]:
    found = {one["check"]: one for one in site("check", "--json").json()["checks"]}
    return dict(found[name])


def test_check_says_what_a_destination_takes_and_in_which_form_results_go_there(
    site: Site,
) -> None:
    with scripted_peer(sop_classes=[REPORT, CAPTURE]) as peer:
        site.settings(peer.port)
        text = site("check").out
        found = checked(site, "results to pacs")
    assert "takes Comprehensive 3D SR (88.34), Secondary Capture (7); not: Segmentation" in text
    assert "volumetric report as comprehensive 3d with no segmentation" in text
    assert "results go as " in text
    assert "secondary capture as pictures (destination takes no Segmentation (66.4)" in text
    assert found["ok"] is True
    assert found["takes"] == ["Comprehensive 3D SR (88.34)", "Secondary Capture (7)"]
    assert {"Segmentation (66.4)", "Label Map Segmentation (66.7)"} <= set(found["takes_not"])
    kinds = {one["kind"] for one in found["results_as"]}
    assert kinds == {"volumetric report", "planar report", "secondary capture"}
    assert not site.data_dir.exists(), "looking makes no ledger"


def test_check_lets_the_node_know_and_forgets_what_was_refused_before(filled: Site) -> None:
    ledger = filled.ledger()
    ledger.profiles.refuse("pacs", REPORT)
    with scripted_peer(sop_classes=[REPORT, SEGMENTATION]) as peer:
        filled.settings(peer.port)
        filled("check")
    profile = ledger.profiles.find("pacs")
    ledger.close()
    assert profile is not None
    assert set(profile.accepted) == {REPORT, SEGMENTATION} and profile.refused == frozenset()


def test_check_fails_for_a_destination_that_takes_nothing_of_a_result(site: Site) -> None:
    with scripted_peer() as peer:
        site.settings(peer.port)
        assert site("check").code == 1
        found = checked(site, "results to pacs")
    assert found["ok"] is False
    assert "peer.takes_no_results: takes nothing; not: Segmentation" in str(found["found"])


def test_check_asks_only_peers_that_results_go_to(site: Site) -> None:
    with scripted_peer(sop_classes=[REPORT]) as peer:
        site.settings(peer.port)
        scanner = f"peers:\n  ct: {{ae_title: CT01, host: 127.0.0.1, port: {peer.port}}}\n"
        site.config.write_text(site.config.read_text().replace("peers:\n", scanner))
        names = [one["check"] for one in site("check", "--json").json()["checks"]]
    assert "peer ct" in names and "results to ct" not in names and "results to pacs" in names


def test_a_dicomweb_service_cannot_be_asked_and_counts_as_taking_everything(
    site: Site,
) -> None:
    with scripted_service(answer(200)) as service:
        url = f"http://127.0.0.1:{service.port}/dicom-web"
        dimse = "{ae_title: SCRIPTED, host: 127.0.0.1, port: 1}"
        site.config.write_text(
            site.config.read_text().replace(dimse, f"{{dicomweb: {{url: '{url}'}}}}")
        )
        found = checked(site, "results to pacs")
    assert found["ok"] is True and found["asked_at"] is None
    assert str(found["found"]).startswith("cannot be asked; takes Segmentation (66.4), ")


@pytest.mark.network
def test_check_of_dcmtk_names_the_label_map_that_it_does_not_take(
    site: Site, tmp_path: Path
) -> None:
    with DcmtkStorescp(tmp_path) as storescp:
        site.settings(storescp.port)
        found = checked(site, "results to pacs")
    assert found["takes_not"] == ["Label Map Segmentation (66.7)"]
    assert "results go as segmentation, volumetric report, planar report" in str(found["found"])


def replaced(site: Site) -> None:
    """The dead segmentation of the filled site goes as a picture instead."""
    ledger = site.ledger()
    profile = DestinationProfile("pacs", {REPORT: (EXPLICIT,), CAPTURE: (EXPLICIT,)},
                                 frozenset(), datetime.now(UTC))  # fmt: skip
    ledger.profiles.put(profile)
    picture = replace(
        result(3), sop_class_uid=CAPTURE, kind="secondary capture", form="pictures",
        made_from="2.25.2", created_at=START,
    )
    ledger.outbox.add([picture])
    why = "as pictures: destination takes no Segmentation (66.4)"
    ledger.deliveries.replace(
        "job-1", "pacs", [], [replace(delivery(3), reason=why)], "pacs refused a class"
    )
    ledger.close()


def test_show_says_in_which_form_each_object_goes_and_why(filled: Site) -> None:
    replaced(filled)
    text = filled("show", "job-1").out
    assert "secondary capture as pictures  2.25.3" in text
    assert "secondary capture as pictures to pacs: pending (as pictures: destination" in text
    assert "segmentation to pacs: replaced (pacs refused a class" in text
    assert text.endswith("pacs takes: Comprehensive 3D SR (88.34), Secondary Capture (7)\n")
    document = filled("show", "job-1", "--json").json()
    (series,) = document["series"]
    last = series["jobs"][0]["deliveries"][-1]
    assert (last["kind"], last["form"]) == ("secondary capture", "pictures")
    assert last["chosen_because"] == "as pictures: destination takes no Segmentation (66.4)"
    (pacs,) = document["destinations"]
    assert pacs["takes"] == ["Comprehensive 3D SR (88.34)", "Secondary Capture (7)"]


def test_show_says_in_short_what_a_destination_takes_that_takes_nearly_everything(
    filled: Site,
) -> None:
    assert filled("show", "job-1").out.endswith("pacs takes: not known yet\n")
    ledger = filled.ledger()
    ledger.profiles.refuse("pacs", LABEL_MAP)
    ledger.close()
    assert filled("show", "job-1").out.endswith(
        "pacs takes: everything but Label Map Segmentation (66.7) (never asked)\n"
    )


def test_what_is_owed_is_told_and_why_what_waits_for_it_waits(filled: Site) -> None:
    assert "owed          1 answer(s) for jobs without results\n" in filled("status").out
    assert filled("retry", "job-1").code == 0
    ledger = filled.ledger()
    ledger.duties.add(FORMS, "job-1:pacs", "pacs refused a class")
    (duty,) = ledger.duties.waiting(FORMS)
    ledger.duties.put_off(duty, datetime.now(UTC), "storage.out_of_space")
    ledger.close()
    text = filled("status").out
    assert "1 answer(s) for jobs without results, 1 choice(s) of what a destination gets" in text
    assert "tried 1 times: storage.out_of_space" in text
    owed = {one["kind"] for one in filled("status", "--json").json()["duties"]}
    assert owed == {ANSWER, FORMS}
    waits = {one["job_id"]: one["waits_for"] for one in filled("jobs", "--json").json()["jobs"]}
    assert waits["job-1"] == "another choice of what goes to pacs (storage.out_of_space)"
    assert waits["job-2"] == "an answer that says why there is no result"


def test_status_counts_what_was_replaced(filled: Site) -> None:
    replaced(filled)
    assert filled("status", "--json").json()["deliveries"] == {
        "pending": 1, "replaced": 1, "sent": 1,
    }
    assert "1 replaced" in filled("status").out
    assert filled("retry", "--state", "dead").out.count("job-1") == 0
