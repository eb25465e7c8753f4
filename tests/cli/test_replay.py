"""Replaying history against rules, and tokens for the page, from the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dicom_node.operations.web.tokens import Role, read_tokens
from dicom_node.records import SeriesState
from dicom_node.spool import Spool
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_instance
from tests.ledger.conftest import instance


@pytest.fixture
def received(site: Site) -> Site:
    """One thick CT that arrived just now, and that no rule took."""
    spool, ledger = Spool(site.data_dir / "spool"), site.ledger()
    for number, dataset in enumerate(ct_series((3, 8, 8), SliceThickness="10"), start=1):
        one = instance(number, at=datetime.now(UTC))
        (spool.root / one.path).parent.mkdir(parents=True, exist_ok=True)
        write_instance(dataset, spool.root / one.path)
        ledger.index([one])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    ledger.receipts.change("1.2.3", SeriesState.DECLINED, "no_rule_matched")
    ledger.close()
    return site


def test_edited_rules_gain_what_they_would_have_taken(received: Site) -> None:
    edited = received.folder / "edited.yaml"
    edited.write_text(received.config.read_text().replace("max: 5", "max: 20"))
    found = received("replay", "--rules", edited, "--json").json()
    by_name = {one["rule"]: one for one in found["rules"]}
    assert (found["series"], found["unmatched_before"], found["unmatched_after"]) == (1, 1, 0)
    assert by_name["chest"]["gained"] == ["1.2.3"]
    assert by_name["heads"]["gained"] == []
    assert "chest gains series 1.2.3" in received("replay", "--rules", edited).out


def test_the_rules_in_use_change_nothing(received: Site) -> None:
    found = received("replay", "--days", "1", "--json").json()
    assert all(one["gained"] == one["lost"] == [] for one in found["rules"])
    assert (found["unmatched_before"], found["unmatched_after"]) == (1, 1)


def test_series_whose_images_are_gone_are_counted(received: Site) -> None:
    spool = Spool(received.data_dir / "spool")
    for path in list(spool.stored()):
        spool.resolve(path).unlink()
    found = received("replay", "--json").json()
    assert (found["series"], found["not_kept"]) == (0, 1)


def test_rules_that_are_wrong_are_exit_2_with_their_line(received: Site) -> None:
    edited = received.folder / "edited.yaml"
    edited.write_text("rules:\n  - {name: a, model: b, send_to: [nobody], when: {Modality: CT}}\n")
    answer = received("replay", "--rules", edited)
    assert answer.code == 2
    assert "edited.yaml:2" in answer.err


@pytest.mark.parametrize("is_full", [True, False], ids=["a full copy", "rules only"])
def test_rules_are_checked_against_the_tls_that_is_in_use(received: Site, is_full: bool) -> None:
    text = received.config.read_text().replace(
        "port: 1}", "port: 1, tls: true, certificate_names: [pacs]}"
    )
    tls = "{certificate_file: n.pem, key_file: n.key, ca_file: ca.pem}"
    received.config.write_text(f"{text}security: {{tls: {tls}}}\n")
    edited = received.folder / "edited.yaml"
    full = received.config.read_text().replace("max: 5", "max: 20")
    edited.write_text(full if is_full else "rules:" + full.split("rules:")[1].split("security:")[0])
    answer = received("replay", "--rules", edited, "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["unmatched_after"] == 0


def test_a_token_is_written_where_the_settings_say(site: Site) -> None:
    path = site.folder / "tokens"
    assert site("web-token", "anna").code == 2
    site.settings(more=f"web: {{tokens_file: {path}}}\n")
    answer = site("web-token", "anna", "--role", "operator")
    assert answer.code == 0
    (line,) = read_tokens(path)
    assert (line.name, line.role) == ("anna", Role.OPERATOR)
    assert len(answer.out.strip()) >= 40
    assert answer.out.strip() not in path.read_text() + answer.err
