"""Wrong settings, wrong names, wrong files and series that no model can take: answered for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydicom.dataset import Dataset

from dicom_node.config import PeerSettings
from tests import dicom_samples, peers
from tests.acceptance.conftest import Site
from tests.acceptance.running_node import SCANNER, dicom_node, settings, wait_until

pytestmark = [
    pytest.mark.network, pytest.mark.timeout(600), pytest.mark.long_on_postgresql,
]
NOBODY = PeerSettings(name="pacs", ae_title="NOBODY", host="127.0.0.1", port=104)


@pytest.mark.parametrize("command", [("check", "--no-network"), ("serve",), ("status",)])
def test_wrong_setting_is_named_with_key_and_line_and_exit_code_2(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("node:\n  ae_title: NODE\n  port: eleven\n")
    done = dicom_node(*command, config=config)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"{config}:3: node.port: " in done.stderr
    assert "expected" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "key_path"),
    [
        ({"model": "no-such-model"}, "rules[0].model"),
        ({"send_to": ["no-such-peer"]}, "rules[0].send_to[0]"),
        ({"when": {"NoSuchKeyword": 1}}, "rules[0].when.NoSuchKeyword"),
    ],
)
def test_rule_that_names_what_does_not_exist_stops_the_start_with_exit_code_2(
    tmp_path: Path, change: dict[str, object], key_path: str
) -> None:
    config = tmp_path / "config.yaml"
    document = settings(tmp_path / "data", NOBODY, 0, None)
    document["rules"][0].update(change)
    config.write_text(yaml.safe_dump(document))
    done = dicom_node("serve", config=config)
    assert done.returncode == 2, done.stderr
    assert key_path in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("run", "no-such-model", "FILE", "--output", "out"),
        ("send", "no-such-peer", "FILE"),
        ("echo", "no-such-peer"),
    ],
)
def test_unknown_model_or_peer_on_the_command_line_is_exit_code_2(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path / "data", NOBODY, 0, None)))
    (file,) = dicom_samples.write_series(dicom_samples.ct_series((1, 32, 40)), tmp_path / "ct")
    arguments = [str(file) if part == "FILE" else part for part in command]
    done = dicom_node(*arguments, config=config, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "no-such" in done.stderr and "Traceback" not in done.stderr


def test_run_without_any_dicom_file_says_so_and_fails(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear colleague")
    done = dicom_node("run", "lungs-ct", letter, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert str(letter) in done.stderr and "input.no_dicom" in done.stderr


def test_run_on_a_series_that_is_too_short_fails_with_the_coded_reason(tmp_path: Path) -> None:
    dicom_samples.write_series(dicom_samples.ct_series((2, 32, 40)), tmp_path / "ct")
    done = dicom_node("run", "lungs-ct", tmp_path / "ct", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "input.too_few_slices" in done.stderr


def test_send_skips_what_is_not_dicom_and_sends_the_rest(site: Site, tmp_path: Path) -> None:
    datasets = dicom_samples.ct_series((3, 32, 40))
    dicom_samples.write_series(datasets, tmp_path)
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear colleague")
    done = site.node.command("send", "pacs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"skipped {letter}" in done.stderr
    assert site.archive.count(datasets[0].StudyInstanceUID) == 3


def _localizer_only() -> list[Dataset]:
    (image,) = dicom_samples.ct_series((1, 32, 40))
    return [dicom_samples.localizer(image)]


DECLINED: dict[str, tuple[Callable[[], list[Dataset]], str]] = {
    "an MR series": (lambda: dicom_samples.mr_series((12, 32, 40)), "input.modality"),
    "a localizer": (_localizer_only, "input."),
    "two slices": (lambda: dicom_samples.ct_series((2, 32, 40)), "input.too_few_slices"),
    "a radiograph": (lambda: [dicom_samples.radiograph()], "no_rule_matched"),
}


@pytest.mark.parametrize("name", list(DECLINED))
def test_series_that_no_model_can_take_is_declined_with_its_reason(
    site: Site, tmp_path: Path, name: str
) -> None:
    make, code = DECLINED[name]
    datasets = make()
    uid = str(datasets[0].SeriesInstanceUID)

    site.node.send(dicom_samples.write_series(datasets, tmp_path))

    assert site.node.wait_for_decline(uid).startswith(code)
    status = site.node.read("status", "--limit", "100")
    assert status["series"]["declined"] >= 1
    (shown,) = [one for one in status["latest"] if one["series_instance_uid"] == uid]
    assert (shown["state"], shown["reason"].startswith(code)) == ("declined", True)
    for_people = site.node.command("show", uid).stdout
    assert "declined" in for_people and code in for_people
    # What a rule took is answered for; what none took is no business of the node.
    expected = 0 if code == "no_rule_matched" else 1
    study = str(datasets[0].StudyInstanceUID)
    wait_until(lambda: site.archive.count(study) == expected, f"{expected} objects at the archive")
    jobs = site.node.ledger.jobs.of_series(uid)
    made = [r for job in jobs for r in site.node.ledger.jobs.results(job.job_id)]
    assert [r.kind for r in made] == ["not analysed report"] * expected


def test_caller_that_is_no_configured_peer_is_turned_away(site: Site, tmp_path: Path) -> None:
    datasets = dicom_samples.ct_series((1, 32, 40))
    paths = dicom_samples.write_series(datasets, tmp_path)
    for calling, called in (("STRANGER", "DICOMNODE"), (SCANNER, "OTHERNODE")):
        done = peers.storescu(
            paths, port=site.node.port, called=called, calling=calling, check=False
        )
        assert done.returncode != 0
        assert "Association Rejected" in done.stdout + done.stderr
    shown = site.node.command("show", datasets[0].SeriesInstanceUID)
    assert shown.returncode == 1
