"""Which version of a model runs: one is live, and the way back is remembered."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.model_stages import IsLive, NoFormerVersion
from dicom_node.records import ModelProblem, Stage
from tests.ledger.conftest import START


def stages(ledger: Ledger) -> dict[str, str]:
    return {one.version: str(one.stage) for one in ledger.stages.of("lungs")}


def test_of_a_model_that_nobody_knows_nothing_is_live(ledger: Ledger) -> None:
    assert ledger.stages.live("lungs") is None and ledger.stages.all() == {}


def test_the_first_version_is_live_and_a_second_does_not_take_its_place(ledger: Ledger) -> None:
    assert ledger.stages.begin("lungs", "1")
    assert not ledger.stages.begin("lungs", "2")
    assert stages(ledger) == {"1": "live"}


def test_a_promoted_version_retires_the_live_one(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    promoted = ledger.stages.promote("lungs", "2", "by operator")
    assert (promoted.version, promoted.previous) == ("2", "1")
    assert stages(ledger) == {"1": "retired", "2": "live"}
    assert ledger.stages.live("lungs") == ledger.stages.of("lungs")[-1]


def test_promoting_what_is_live_changes_nothing(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    ledger.stages.promote("lungs", "1", "by operator")
    assert ledger.stages.of("lungs")[0].previous == ""


def test_going_back_twice_goes_back_two_versions(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    ledger.stages.promote("lungs", "2", "by operator")
    ledger.stages.promote("lungs", "3", "by operator")
    assert ledger.stages.rollback("lungs", "by operator").version == "2"
    assert ledger.stages.rollback("lungs", "by operator").version == "1"
    with pytest.raises(NoFormerVersion):
        ledger.stages.rollback("lungs", "by operator")
    assert stages(ledger) == {"1": "live", "2": "retired", "3": "retired"}


def test_a_model_has_one_shadow_and_one_canary_at_most(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    ledger.stages.put("lungs", "2", Stage.SHADOW, 0.0, "by operator")
    ledger.stages.put("lungs", "3", Stage.CANARY, 0.1, "by operator")
    ledger.stages.put("lungs", "4", Stage.SHADOW, 0.0, "by operator")
    assert stages(ledger) == {"1": "live", "2": "retired", "3": "canary", "4": "shadow"}
    ledger.stages.put("lungs", "4", Stage.CANARY, 0.5, "by operator")
    assert stages(ledger) == {"1": "live", "2": "retired", "3": "retired", "4": "canary"}
    assert {one.version: one.share for one in ledger.stages.of("lungs")}["4"] == 0.5


def test_a_canary_that_is_promoted_is_no_canary_any_more(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    ledger.stages.put("lungs", "2", Stage.CANARY, 0.1, "by operator")
    ledger.stages.promote("lungs", "2", "by operator")
    assert ledger.stages.end("lungs", Stage.CANARY, "by operator") is None
    live = ledger.stages.live("lungs")
    assert live is not None and (live.version, live.share) == ("2", 0.0)


def test_the_live_version_is_not_its_own_shadow(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    with pytest.raises(IsLive):
        ledger.stages.put("lungs", "1", Stage.SHADOW, 0.0, "by operator")
    assert stages(ledger) == {"1": "live"}


def test_a_shadow_that_ends_is_retired_and_what_was_live_before_is_remembered(
    ledger: Ledger,
) -> None:
    ledger.stages.begin("lungs", "1")
    ledger.stages.promote("lungs", "2", "by operator")
    ledger.stages.promote("lungs", "3", "by operator")
    for version in ("9", "2"):
        ledger.stages.put("lungs", version, Stage.SHADOW, 0.0, "by operator")
        ended = ledger.stages.end("lungs", Stage.SHADOW, "by operator")
        assert ended is not None and ended.version == version
        assert stages(ledger)[version] == "retired"
    assert ledger.stages.rollback("lungs", "by operator").version == "2"
    assert ledger.stages.rollback("lungs", "by operator").version == "1"


def test_what_is_wrong_with_folders_is_kept_as_it_is_now(ledger: Ledger) -> None:
    problem = ModelProblem("/models/a", "lungs", "model.yaml:3: id: required and absent", START)
    ledger.stages.put_problems([problem, problem])
    assert ledger.stages.problems() == [problem]
    ledger.stages.put_problems([])
    assert ledger.stages.problems() == []


def test_models_do_not_touch_each_other(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    ledger.stages.begin("liver", "1")
    ledger.stages.promote("lungs", "2", "by operator")
    assert [one.version for one in ledger.stages.all()["liver"]] == ["1"]


def test_every_change_is_in_the_history(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    ledger.stages.put("lungs", "2", Stage.CANARY, 0.1, "by operator")
    ledger.stages.promote("lungs", "2", "by operator")
    assert [(t.from_state, t.to_state, t.reason) for t in ledger.history("model", "lungs:2")] == [
        ("candidate", "canary", "by operator, share 0.1"), ("canary", "live", "by operator"),
    ]
    assert [(t.from_state, t.to_state) for t in ledger.history("model", "lungs:1")] == [
        ("candidate", "live"), ("live", "retired"),
    ]


def test_stages_outlive_a_restart_and_another_process_sees_them(database_url: str) -> None:
    first, second = Ledger.open(database_url), Ledger.open(database_url)
    first.stages.begin("lungs", "1")
    second.stages.promote("lungs", "2", "by operator")
    live = first.stages.live("lungs")
    assert live is not None and live.version == "2"
    first.close()
    second.close()


def test_the_database_itself_allows_one_live_version_only(ledger: Ledger) -> None:
    ledger.stages.begin("lungs", "1")
    with pytest.raises(sa.exc.IntegrityError), ledger._database.write() as connection:
        connection.execute(
            sa.text("INSERT INTO model_stages VALUES ('lungs', '2', 'live', 0, 0, '')")
        )
