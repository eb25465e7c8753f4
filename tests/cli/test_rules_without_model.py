"""A rule whose model cannot be run, as an operator sees it by each command that may tell of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dicom_node.records import RuleWithoutModel
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.cli.running import Site
from tests.dicom_samples import ct_series, write_series

SINCE = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


@pytest.fixture
def ruled(site: Site) -> Site:
    """Two rules for a model of a folder."""
    write_model(site.folder / "models" / "tiny", threshold_onnx(0.5), id="tiny")
    site.settings(more=f"models: {{directories: [{site.folder / 'models'}]}}\n")
    site.config.write_text(site.config.read_text().replace("lungs-ct", "tiny"))
    return site


def found_by_the_node(site: Site) -> None:
    ledger = site.ledger()
    ledger.stages.put_rules_without_model(
        [RuleWithoutModel("chest", "tiny", "model.hash_mismatch", "weights are others", SINCE)]
    )
    ledger.close()


def test_status_tells_of_it_and_the_document_has_it(ruled: Site) -> None:
    found_by_the_node(ruled)
    text = ruled("status").out
    assert "chest is without its model tiny, since " in text
    assert "model.hash_mismatch: weights are others" in text
    (one,) = ruled("status", "--json").json()["rules_without_model"]
    assert (one["rule"], one["reason"]) == ("chest", "model.hash_mismatch")


def test_explain_says_of_a_rule_that_matches_what_it_lacks(ruled: Site) -> None:
    write_series(ct_series((3, 8, 8), SliceThickness="2"), ruled.folder / "images")
    assert "without its model" not in ruled("explain", ruled.folder / "images").out
    found_by_the_node(ruled)
    text = ruled("explain", ruled.folder / "images").out
    assert "is without its model tiny: model.hash_mismatch: weights are others" in text
    (matches,) = ruled("explain", ruled.folder / "images", "--json").json().values()
    assert [one["without_model"] is None for one in matches] == [False, True]


def test_the_list_of_models_names_the_rules_that_a_bad_card_leaves_without(ruled: Site) -> None:
    assert ruled("models", "list", "--json").json()["rules_without_model"] == []
    (ruled.folder / "models" / "tiny" / "model.yaml").write_text("id: tiny\nsurprise: 1\n")
    text = ruled("models", "list").out
    assert "rule chest is without its model tiny, since " in text and "task: one of" in text
    found = ruled("models", "list", "--json").json()["rules_without_model"]
    assert [(one["rule"], one["reason"]) for one in found] == [
        ("chest", "model.unknown"), ("heads", "model.unknown")
    ]


def test_check_fails_for_every_rule_whose_model_cannot_be_run(ruled: Site) -> None:
    assert ruled("check", "--no-network").code == 0
    (ruled.folder / "models" / "tiny" / "weights.onnx").write_bytes(b"another network")
    answer = ruled("check", "--no-network")
    assert answer.code == 1
    assert "model.hash_mismatch: rule 'chest': " in answer.out and "rule 'heads': " in answer.out


def test_check_tells_a_name_that_nothing_knows_from_a_model_that_is_away(ruled: Site) -> None:
    ruled.config.write_text(ruled.config.read_text().replace("model: tiny", "model: tyni"))
    answer = ruled("check", "--no-network")
    assert answer.code == 1 and "configuration.unknown_name: rule 'chest': " in answer.out
    ledger = ruled.ledger()
    ledger.stages.begin("tyni", "1")
    ledger.close()
    answer = ruled("check", "--no-network")
    assert answer.code == 1 and "model.unknown: rule 'chest': " in answer.out
