"""``dicom-node models``: versions, stages, problems, and what an operator decides about them."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dicom_node.records import ModelProblem, SeriesState, Stage
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.cli.running import Answer, Site
from tests.ledger.conftest import START, instance, job


class Models:
    """A site with two versions of the model ``tiny``."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.folder / "models"
        for version in ("1", "2"):
            self.write(version)
        site.settings(more=f"models: {{directories: [{self.folder}]}}\n")
        site.ledger().close()

    def write(self, version: str, folder: str = "", **changes: object) -> Path:
        return write_model(
            self.folder / (folder or f"v{version}"), threshold_onnx(0.5), id="tiny",
            version=version, **changes,
        )

    def __call__(self, *arguments: str) -> Answer:
        return self.site("models", *arguments)

    def stages(self) -> dict[str, str]:
        ledger = self.site.ledger()
        found = {one.version: str(one.stage) for one in ledger.stages.of("tiny")}
        ledger.close()
        return found

    def listed(self) -> dict[str, str]:
        models = self("list", "--json").json()["models"]
        return {one["version"]: one["stage"] for one in models if one["id"] == "tiny"}


@pytest.fixture
def models(site: Site) -> Models:
    return Models(site)


def test_every_version_is_listed_with_its_stage(models: Models) -> None:
    assert models.listed() == {"1": "live", "2": "candidate"}
    models("canary", "tiny", "2", "--share", "0.25")
    assert models.listed() == {"1": "live", "2": "canary"}
    for answer in (models("list"), models()):
        assert re.search(r"^tiny +2 +canary 25\.0% ", answer.out, re.MULTILINE)


def test_before_a_node_has_run_the_first_version_is_the_one_that_will_be_live(
    site: Site,
) -> None:
    folder = site.folder / "models"
    for version in ("1", "2"):
        write_model(folder / version, threshold_onnx(0.5), id="tiny", version=version)
    site.settings(more=f"models: {{directories: [{folder}]}}\n")
    found = site("models", "list", "--json").json()["models"]
    assert [one["stage"] for one in found if one["id"] == "tiny"] == ["live", "candidate"]
    promoted = site("models", "promote", "tiny", "2")
    assert promoted.code == 2 and "no node has run" in promoted.err


def test_json_may_be_asked_for_before_the_action_as_well(models: Models) -> None:
    assert models("--json").json() == models("list", "--json").json()


def test_a_bad_folder_is_listed_with_what_the_card_says_and_others_are_whole(
    models: Models,
) -> None:
    (models.folder / "bad").mkdir()
    (models.folder / "bad" / "model.yaml").write_text("id: bad\nsurprise: 1\n")
    answer = models("list")
    assert answer.code == 0 and "tiny" in answer.out
    assert f"{models.folder / 'bad'} is not used as it is, since " in answer.out
    (problem,) = models("list", "--json").json()["problems"]
    assert problem["model_id"] == "bad" and "model.yaml" in problem["message"]


def test_what_a_running_node_found_is_listed_and_told_by_status(models: Models) -> None:
    ledger = models.site.ledger()
    ledger.stages.put_problems([ModelProblem("/models/x", "x", "weights are others", START)])
    ledger.close()
    assert models("list", "--json").json()["problems"] == []
    assert "/models/x is not used as it is" in models.site("status").out
    told = models.site("status", "--json").json()["model_problems"]
    assert [one["message"] for one in told] == ["weights are others"]
    with (models.site.data_dir / "intake.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert len(models("list", "--json").json()["problems"]) == 1


def test_check_fails_over_a_folder_that_cannot_be_used(models: Models) -> None:
    assert models.site("check", "--no-network").code == 0
    (models.folder / "bad").mkdir()
    (models.folder / "bad" / "model.yaml").write_text("id: bad\n")
    answer = models.site("check", "--no-network", "--json")
    checks = {one["check"]: one["ok"] for one in answer.json()["checks"]}
    assert answer.code == 1 and checks["models"] and not checks["folder of bad"]


def test_a_version_that_is_gone_and_has_a_task_is_told(models: Models) -> None:
    models("shadow", "tiny", "2")
    (models.folder / "v2" / "model.yaml").unlink()
    assert "tiny 2 is shadow and its folder is gone" in models("list").out


def test_a_live_version_whose_card_has_a_typing_error_is_not_called_gone(models: Models) -> None:
    card = models.folder / "v1" / "model.yaml"
    models("promote", "tiny", "2")
    models("promote", "tiny", "1")
    card.write_text(card.read_text() + "surprise: 1\n")
    text = models("list").out
    assert "tiny 1 is live and cannot be used; its folder has a problem, below" in text
    assert "gone" not in text and models.listed() == {"1": "live", "2": "retired"}
    with (models.site.data_dir / "intake.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        text = models("list").out
    assert "tiny 1 is live by its last good card; its folder has a problem, below" in text
    assert re.search(r"^tiny +1 +live ", text, re.MULTILINE)


@pytest.mark.parametrize("action", [("verify",), ("show",)])
@pytest.mark.parametrize("away", [False, True])
def test_no_other_version_is_looked_at_in_place_of_a_live_one_that_cannot_be(
    models: Models, action: tuple[str, ...], away: bool
) -> None:
    models("promote", "tiny", "2")
    card = models.folder / "v2" / "model.yaml"
    if away:
        card.unlink()
    else:
        card.write_text(card.read_text() + "surprise: 1\n")
    answer = models(*action, "tiny")
    assert answer.code == 2 and "the live version 2 of tiny" in answer.err
    assert ("promote tiny VERSION" if away else "surprise: unknown key") in answer.err


def test_one_version_is_shown_and_the_live_one_without_a_word(models: Models) -> None:
    assert models("show", "tiny").json()["version"] == "1"
    assert models("show", "tiny", "--version", "2").json()["version"] == "2"
    assert models("show", "tiny@2").json()["folder"] == str(models.folder / "v2")
    models("promote", "tiny", "2")
    assert models("show", "tiny").json()["version"] == "2"
    unknown = models("show", "tiny@3")
    assert unknown.code == 2 and "there are: 1, 2" in unknown.err


def test_a_promoted_version_is_live_and_a_rollback_brings_the_former_one_back(
    models: Models,
) -> None:
    promoted = models("promote", "tiny", "2")
    assert promoted.out == "tiny 2 is live; 1 was before: rollback goes back\n"
    assert models.stages() == {"1": "retired", "2": "live"}
    assert "live already" in models("promote", "tiny", "2").out
    assert models("rollback", "tiny").out == "tiny 1 is live again, 2 is not\n"
    again = models("rollback", "tiny")
    assert again.code == 1 and "no version of tiny was live before" in again.err
    assert models.stages() == {"1": "live", "2": "retired"}


@pytest.mark.parametrize("action", [["promote"], ["shadow"], ["canary", "--share", "0.5"]])
def test_no_version_gets_jobs_that_would_die(models: Models, action: list[str]) -> None:
    name, *options = action
    models.write("3", weights__sha256="0" * 64)
    models.write("4", report="bones")
    program = {"backend": "command", "command": {"run": ["program"]}}
    models.write("5", runtime=program, trust__program=True)
    for version, why in (("3", "model.hash_mismatch"), ("4", "model.report"),
                         ("5", "model.refused")):
        answer = models(name, "tiny", version, *options)
        assert answer.code == 1 and why in answer.err, answer
    unknown = models(name, "tiny", "9", *options)
    assert unknown.code == 2 and "no version 9 of tiny" in unknown.err
    assert models.stages() == {}


def test_no_rollback_to_a_version_that_is_gone(models: Models) -> None:
    models("promote", "tiny", "2")
    (models.folder / "v1" / "model.yaml").unlink()
    answer = models("rollback", "tiny")
    assert answer.code == 2 and "no version 1 of tiny" in answer.err
    assert models.stages()["2"] == "live"


def test_a_version_that_does_something_else_is_another_model(models: Models) -> None:
    values: dict[str, Any] = {
        "task": "classification", "report": "bone_age", "runtime__roi": None,
        "output": {"channels": 1, "activation": "sigmoid",
                   "scores": [{"name": "some", "channel": 0}]},
    }
    models.write("3", "v3", **values)
    assert not models("list", "--json").json()["problems"]
    answer = models("promote", "tiny", "3")
    assert answer.code == 1 and "does classification, and the live version segmentation" in (
        answer.err)


def test_a_shadow_begins_and_ends(models: Models) -> None:
    assert "tiny 2 is shadow: it runs beside" in models("shadow", "tiny", "2").out
    assert models.stages() == {"1": "live", "2": "shadow"}
    assert models("shadow", "tiny", "--off").out == "tiny 2 is no shadow any more\n"
    assert models("shadow", "tiny", "--off").out == "tiny has no shadow\n"
    assert models.stages() == {"1": "live", "2": "retired"}


def test_a_canary_begins_and_ends(models: Models) -> None:
    assert "gets 10.0% of the series" in models("canary", "tiny", "2", "--share", "0.1").out
    ledger = models.site.ledger()
    assert {one.stage: one.share for one in ledger.stages.of("tiny")} == {
        Stage.LIVE: 0.0, Stage.CANARY: 0.1
    }
    ledger.close()
    assert models("canary", "tiny", "--off").out == "tiny 2 is no canary any more\n"


@pytest.mark.parametrize(
    "wrong",
    [["canary", "tiny", "2"], ["canary", "tiny", "2", "--share", "0"], ["shadow", "tiny"],
     ["canary", "tiny", "2", "--share", "1.5"], ["canary", "tiny", "2", "--share", "some"],
     ["shadow", "tiny", "2", "--off"], ["promote", "tiny"], ["rollback"], ["no such thing"]],
)
def test_wrong_use_is_exit_2_and_changes_nothing(models: Models, wrong: list[str]) -> None:
    assert models(*wrong).code == 2
    assert models.stages() == {}


def test_the_live_version_is_not_its_own_shadow(models: Models) -> None:
    answer = models("shadow", "tiny", "1")
    assert answer.code == 1 and "tiny 1 is live" in answer.err


def test_weights_are_verified_one_by_one_and_all(models: Models) -> None:
    assert models("verify").code == 0
    (models.folder / "v2" / "weights.onnx").write_bytes(b"others")
    answer = models("verify", "--json")
    assert answer.code == 1
    assert {one["version"]: one["ok"] for one in answer.json()["models"] if one["id"] == "tiny"} \
        == {"1": True, "2": False}
    refused = models("verify", "tiny@2")
    assert refused.code == 1
    assert "model.hash_mismatch" in refused.out


def test_agreement_is_summed_up_with_the_failures_of_the_shadow(models: Models) -> None:
    assert models("agreement", "tiny").code == 1
    models("shadow", "tiny", "2")
    assert "0 series compared" in models("agreement", "tiny").out
    ledger = models.site.ledger()
    for number, dice in enumerate((0.5, 1.0)):
        document = {
            "task": "segmentation", "seconds": {"live": 1.0, "shadow": 2.0},
            "labels": {"Bright": {"dice": dice, "live_voxels": 4, "shadow_voxels": 4}},
        }
        ledger.agreements.keep(f"j{number}", "tiny", "1", "2", document)
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    dead = dataclasses.replace(
        job("s"), shadow=True, model_id="tiny", model_version="2", destinations=()
    )
    ledger.jobs.route("1.2.3", [dead], "rules", seen=START)
    ledger.jobs.start("s", 1)
    ledger.jobs.fail("s", "model.failed: no", retry_at=None)
    ledger.close()
    found = models("agreement", "tiny", "--json").json()
    assert found == {
        "id": "tiny", "shadow_version": "2", "live_versions": ["1"], "count": 2,
        "labels": {"Bright": {"count": 2, "mean_dice": 0.75, "lowest_dice": 0.5}},
        "mean_seconds": {"live": 1.0, "shadow": 2.0},
        "failures": {"count": 1, "by_reason": {"model.failed": 1}, "jobs": ["s"]},
        "canaries": [],
    }
    text = models("agreement", "tiny").out
    assert "2 series compared" in text and "failures of the shadow: 1 (1 model.failed)" in text
    models("shadow", "tiny", "--off")
    assert json.loads(models("agreement", "tiny", "--json").out) == found


def test_agreement_tells_what_a_canary_failed_of_though_there_is_no_shadow(
    models: Models,
) -> None:
    models("canary", "tiny", "2", "--share", "0.25")
    ledger = models.site.ledger()
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    asked = dataclasses.replace(job("c"), model_id="tiny", model_version="2")
    ledger.jobs.route("1.2.3", [asked], "rules", seen=START)
    running = ledger.jobs.start("c", 1)
    assert running is not None
    ledger.canaries.fall_back(running, "1", "model.failed: no", counts=True)
    ledger.close()
    (found,) = models("agreement", "tiny", "--json").json()["canaries"]
    assert (found["version"], found["stage"], found["count"]) == ("2", "canary", 1)
    assert (found["by_reason"], found["jobs"]) == ({"model.failed": 1}, ["c"])
    text = models("agreement", "tiny").out
    assert "tiny 2 as canary (now canary): failed on 1 series (1 model.failed)" in text
    assert "in place of canary 2: 1 is to do it" in models.site("show", "c").out


def test_every_kind_of_agreement_is_printed(models: Models) -> None:
    ledger = models.site.ledger()
    score = {"live": 0.1, "shadow": 0.9, "difference": 0.8, "same_side": False}
    documents: list[dict[str, Any]] = [
        {"scores": {"some": score}},
        {"values": {"age": {"live": 1, "shadow": 2, "difference": 1}}},
        {"detections": {"live": 2, "shadow": 3, "both": 1, "mean_iou": 0.5}},
        {"text": {"same_words": 0.25}},
        {"why_not": "text and regression cannot be compared"},
    ]
    for number, document in enumerate(documents):
        ledger.agreements.keep(f"j{number}", "tiny", "1", "2", document)
    ledger.close()
    text = models("agreement", "tiny").out
    for part in ("same side of 0.5", "age", "3 by the shadow, 1 by both", "25% in the mean",
                 "not compared, 1 series"):
        assert part in text


def test_a_shadow_is_marked_among_jobs_and_left_out_of_what_became_of_a_series(
    models: Models,
) -> None:
    ledger = models.site.ledger()
    ledger.index([instance(1)])
    ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
    beside = dataclasses.replace(job("s"), shadow=True, model_id="beside", destinations=())
    ledger.jobs.route("1.2.3", [job("live"), beside], "rules", seen=START)
    ledger.close()
    assert "beside 1 (shadow)" in models.site("jobs").out
    assert "shadow, sends nothing" in models.site("show", "s").out
    assert "beside" not in models.site("status").out
