"""A node whose models are damaged or fail: it receives, it says so, and nobody waits in vain."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests import peers
from tests.acceptance.running_node import RunningNode, wait_until
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, write_series

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NAMES = ("damaged", "missing", "tried")


@dataclass
class Damaged:
    """A node that started before, and whose models are no longer what they were."""

    node: RunningNode
    models: Path
    folder: Path
    sent: int = 0

    def send(self, name: str) -> str:
        """Send a new series for a model; returns its UID."""
        self.sent += 1
        series = ct_series((12, 32, 40), SeriesDescription=name.upper())
        self.node.send(write_series(series, self.folder / f"series-{self.sent}"))
        return str(series[0].SeriesInstanceUID)

    def without(self) -> dict[str, str]:
        found = self.node.read("status")["rules_without_model"]
        return {one["rule"]: one["reason"] for one in found}

    def wait_for_waiting(self, uid: str, reason: str) -> str:
        def waits() -> str:
            jobs = self.node.ledger.jobs.of_series(uid)
            return next((job.job_id for job in jobs if f"retry: {reason}" in job.reason), "")

        job_id: str = wait_until(waits, f"a job waits for {reason}")
        return job_id


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    peers.need_private_network()
    folder = tmp_path_factory.mktemp("damaged")
    models = folder / "models"
    with peers.DcmtkStorescp(folder, options=("+xa", "-pm")) as archive:
        node = RunningNode(folder / "node", archive.peer, database=None)
        for name in NAMES:
            write_model(models / name, threshold_onnx(0.5), id=name, version="1")
        settings = yaml.safe_load(node.config.read_text())
        settings["models"]["directories"] = [str(models)]
        settings["rules"] = [
            {"name": name, "when": {"SeriesDescription": name.upper()}, "model": name,
             "send_to": ["pacs"]}
            for name in NAMES
        ]
        node.config.write_text(yaml.safe_dump(settings))
        with node:
            node.stop()
            shutil.rmtree(models / "missing")
            (models / "damaged" / "weights.onnx").write_bytes(b"another network")
            node.start()
            yield Damaged(node, models, folder)


def test_damaged_and_missing_models_stop_no_start_and_their_rules_are_told(
    site: Damaged,
) -> None:
    expected = {"damaged": "model.hash_mismatch", "missing": "model.unknown"}
    wait_until(lambda: site.without() == expected, "both rules are told")
    log = site.node.log_text()
    assert "rule is without its model rule=missing" in log
    assert "rule is without its model rule=damaged" in log
    listed = site.node.read("models", "list")["rules_without_model"]
    assert {one["rule"] for one in listed} == set(expected)
    checked = site.node.command("check", "--no-network")
    assert checked.returncode == 1
    assert "model.hash_mismatch: rule 'damaged'" in checked.stdout
    assert "model.unknown: rule 'missing'" in checked.stdout


def test_a_series_is_received_waits_for_its_model_and_is_analysed_once_that_is_mended(
    site: Damaged,
) -> None:
    waiting = {
        name: site.send(name) for name in ("damaged", "missing")
    }
    for name, reason in (("damaged", "model.hash_mismatch"), ("missing", "model.unknown")):
        job_id = site.wait_for_waiting(waiting[name], reason)
        assert reason in site.node.command("show", job_id).stdout
    for name in waiting:
        write_model(site.models / name, threshold_onnx(0.5), id=name, version="1")
    for uid in waiting.values():
        (done,) = site.node.wait_for_series(uid)
        assert (done.state, done.model_version) == ("succeeded", "1"), done.reason
    assert site.without() == {}
    assert "rule has its model again rule=damaged" in site.node.log_text()


def test_weights_that_are_damaged_while_the_node_runs_are_told_after_the_first_job(
    site: Damaged,
) -> None:
    weights = site.models / "damaged" / "weights.onnx"
    whole = weights.read_bytes()
    site.node.stop()
    site.node.start()
    wait_until(lambda: site.without() == {}, "all is well")
    # Behind the back of the node: after it looked the weights through, before it loads them.
    weights.write_bytes(b"another network")
    uid = site.send("damaged")
    site.wait_for_waiting(uid, "model.")
    wait_until(lambda: site.without() == {"damaged": "model.hash_mismatch"}, "the rule is told")
    weights.write_bytes(whole)
    (done,) = site.node.wait_for_series(uid)
    assert done.state == "succeeded", done.reason


def test_what_a_canary_cannot_do_the_live_version_does_and_three_times_end_it(
    site: Damaged,
) -> None:
    write_model(site.models / "tried-2", b"no network", id="tried", version="2")
    wait_until(lambda: "version=2 what=added" in site.node.log_text(), "the folder is taken up")
    begun = site.node.command("models", "canary", "tried", "2", "--share", "1")
    assert begun.returncode == 0, begun.stderr
    for _ in range(3):
        uid = site.send("tried")
        (done,) = site.node.wait_for_series(uid)
        assert (done.state, done.model_version) == ("succeeded", "1"), done.reason
        sent = site.node.times_sent(uid)
        assert sent and set(sent.values()) == {1}
    (canary,) = site.node.read("models", "agreement", "tried")["canaries"]
    assert (canary["version"], canary["stage"], canary["count"]) == ("2", "retired", 3)
    log = site.node.log_text()
    assert log.count("what=canary failed") == 3 and log.count("what=canary ended") == 1
