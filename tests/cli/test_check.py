"""``dicom-node check``: what is broken is named, with what to do next; what is well passes."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml

from dicom_node.cli import check_models
from dicom_node.operations import doctor_host
from dicom_node.operations.audit_trail import AuditTrail
from dicom_node.operations.selftest import SelftestBook
from tests import tls_files
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.cli.running import Site
from tests.peers import need_program
from tests.ports import free_port
from tests.test_node_selftest import Pool, measured


class SetUp:
    """Settings of a site as a dictionary, written before each check."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.folder
        self.settings: dict[str, Any] = {
            "node": {"data_dir": str(site.data_dir), "host": "127.0.0.1", "port": free_port()},
            "peers": {"ct": {"ae_title": "CT", "host": "127.0.0.1", "port": 1}},
            "storage": {"refuse_below_free_bytes": 0, "make_room_below_free_bytes": 0},
            "web": {"port": free_port()},
            "models": {"devices": ["cpu"]},
            "rules": [{"name": "chest", "when": {"Modality": "CT"}, "model": "lungs-ct",
                       "send_to": ["sender"]}],
        }
        site.data_dir.mkdir(mode=0o750)

    def set(self, section: str, **values: object) -> None:
        self.settings.setdefault(section, {}).update(values)

    def check(self, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """The exit code, and the findings by check."""
        self.site.config.write_text(yaml.safe_dump(self.settings))
        answer = self.site("check", "--json", *(options or ("--no-network",)))
        assert answer.out, answer.err
        found = {one["check"]: one for one in answer.json()["checks"]}
        return answer.code, found


@pytest.fixture
def made(site: Site) -> SetUp:
    return SetUp(site)


def test_a_set_up_that_is_well_passes_and_nothing_is_to_be_done(made: SetUp) -> None:
    code, found = made.check()
    assert code == 0
    assert {one["outcome"] for one in found.values()} <= {"ok", "warning"}
    assert all(one["next"] == "" for one in found.values() if one["outcome"] == "ok")
    # What a machine of tests may be without.
    allowed = {"clock", "time zone", "open files", "disk speed"}
    assert {name for name, one in found.items() if one["outcome"] == "warning"} <= allowed


def test_the_table_says_below_each_line_what_to_do_next(made: SetUp) -> None:
    made.settings["rules"] = []
    made.check()
    lines = made.site("check", "--no-network").out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("settings"))
    assert "warning" in lines[at] and "no rules" in lines[at]
    assert lines[at + 1].split()[:2] == ["->", "next"] and "dicom-node init" in lines[at + 1]


def _wrong_key(made: SetUp) -> None:
    need_program("openssl")
    one, other = (tls_files.site(made.folder / name) for name in ("one", "other"))
    made.set("security", tls={
        "certificate_file": str(one.node.certificate), "key_file": str(other.node.key),
        "ca_file": str(one.ca)})


def _expired(made: SetUp) -> None:
    need_program("openssl")
    found = tls_files.site(made.folder / "tls")
    made.set("security", tls={
        "certificate_file": str(found.expired.certificate), "key_file": str(found.expired.key),
        "ca_file": str(found.ca)})


def _stranger(made: SetUp) -> None:
    need_program("openssl")
    found = tls_files.site(made.folder / "tls")
    made.set("security", tls={
        "certificate_file": str(found.stranger.certificate), "key_file": str(found.stranger.key),
        "ca_file": str(found.ca)})


def _open_key(made: SetUp) -> None:
    need_program("openssl")
    found = tls_files.site(made.folder / "tls")
    found.node.key.chmod(0o644)
    made.set("security", tls={
        "certificate_file": str(found.node.certificate), "key_file": str(found.node.key),
        "ca_file": str(found.ca)})


def _open_tokens(made: SetUp) -> None:
    tokens = made.folder / "tokens"
    tokens.write_text(f"anna viewer {'0' * 64}\n")
    tokens.chmod(0o644)
    made.set("web", tokens_file=str(tokens))


def _changed_audit(made: SetUp) -> None:
    folder = made.site.data_dir / "audit"
    trail = AuditTrail(folder)
    for number in range(3):
        trail.append([f"<AuditMessage>{number}</AuditMessage>"])
    (file,) = trail.files()
    file.write_bytes(file.read_bytes().replace(b">1<", b">7<"))


def _full_disk(made: SetUp) -> None:
    made.set("storage", refuse_below_free_bytes=1 << 60)


def _damaged_ledger(made: SetUp) -> None:
    (made.site.data_dir / "ledger.db").write_bytes(b"no database" * 1000)


def _damaged_model(made: SetUp) -> None:
    folder = write_model(made.folder / "models/bright", threshold_onnx(0.5))
    (folder / "weights.onnx").write_bytes(b"cut off")
    made.set("models", directories=[str(made.folder / "models")])
    made.settings["rules"][0]["model"] = "bright"


def _clinical_use(made: SetUp) -> None:
    made.set("models", site_use="clinical")


def _stranger_in_data(made: SetUp) -> None:
    (made.site.data_dir / "spool").mkdir()
    os.chown(made.site.data_dir, 12345, 12345)


def _no_gpu(made: SetUp) -> None:
    made.set("models", devices=["cuda:7"])


def _address_of_nobody(made: SetUp) -> None:
    made.set("node", host="192.0.2.1")


BROKEN: dict[str, tuple[Callable[[SetUp], None], str, str, str]] = {
    "key of another certificate": (_wrong_key, "certificates", "key values mismatch", "PEM"),
    "expired certificate": (_expired, "DICOM TLS", "has expired", "renew"),
    "certificate of a stranger": (_stranger, "DICOM TLS", "issuer", "ca_file"),
    "key for everybody": (_open_key, "DICOM TLS", "every user", "chmod 640"),
    "tokens for everybody": (_open_tokens, "tokens", "every user", "chmod 640"),
    "changed audit trail": (_changed_audit, "audit trail", "does not follow", "who changed"),
    "full disk": (_full_disk, "free space", "storage.out_of_space", "make room"),
    "damaged ledger": (_damaged_ledger, "ledger", "not a database", "PostgreSQL"),
    "damaged model": (_damaged_model, "models", "hash_mismatch", "models verify"),
    "model not for clinical use": (_clinical_use, "models", "model.refused", "models verify"),
    "data of two users": (_stranger_in_data, "data_dir", "12345", "chown -R 12345"),
    "a GPU that is not there": (_no_gpu, "GPU", "sees no GPU", "models.devices"),
    "an address of another machine": (_address_of_nobody, "port", "cannot be listened on",
                                      "address of this machine"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_is_named_with_what_to_do_next(made: SetUp, broken: str) -> None:
    break_it, check, found, todo = BROKEN[broken]
    if broken == "data of two users" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    break_it(made)
    code, findings = made.check()
    failed, *more = [one for one in findings.values() if one["outcome"] == "failed"]
    # Which version of a model runs stands in the ledger.
    assert [one["check"] for one in more] == (["models"] if broken == "damaged ledger" else [])
    assert code == 1 and failed["check"].startswith(check), failed
    assert found in failed["found"] and todo in failed["next"], failed


@pytest.mark.parametrize("closed", [".", "ledger.db"])
def test_data_of_another_user_are_one_failure_with_the_command_for_it(
    made: SetUp, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    (made.site.data_dir / "ledger.db").write_bytes(b"not to be looked at")
    access = os.access
    there = made.site.data_dir / closed
    monkeypatch.setattr("dicom_node.operations.doctor_host.os.access",
                        lambda path, mode: path != there and access(path, mode))
    monkeypatch.setattr("dicom_node.operations.doctor_host.os.geteuid", lambda: 65534)
    code, findings = made.check()
    (failed,) = [one for one in findings.values() if one["outcome"] == "failed"]
    assert code == 1 and failed["check"] == "data_dir"
    owner = there.owner()
    assert f"sudo -u {owner} dicom-node check" in failed["next"]
    assert f"chown -R nobody {made.site.data_dir}" in failed["next"]


def test_a_disk_on_which_studies_go_early_is_a_warning(made: SetUp) -> None:
    made.set("storage", make_room_below_free_bytes=1 << 60)
    _, found = made.check("--no-selftest", "--no-network")
    assert found["free space"]["outcome"] == "warning"
    assert "go before their time" in found["free space"]["found"]
    assert "storage.make_room_below_free_bytes" in found["free space"]["next"]


def test_a_port_that_another_program_has_is_named(made: SetUp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        made.set("node", port=port)
        code, found = made.check()
    assert code == 1 and "another program has it" in found[f"port {port}"]["found"]
    assert f"sport = :{port}" in found[f"port {port}"]["next"]


@contextmanager
def _held(made: SetUp, *roles: str) -> Iterator[None]:
    files = [(made.site.data_dir / f"{role}.lock").open("w+") for role in roles]
    for file in files:
        file.write(str(os.getpid()))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
    yield
    for file in files:
        file.close()


def test_a_node_that_runs_and_takes_no_connections_is_named(
    made: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.set("web", enabled=False)
    with _held(made, "intake"):
        code, found = made.check()
    (port,) = [one for name, one in found.items() if name.startswith("port")]
    assert code == 1 and "takes no connection" in port["found"]
    assert "systemctl restart" in port["next"]


def test_a_peer_that_results_go_to_and_that_does_not_answer_is_named(made: SetUp) -> None:
    code, found = made.check("--no-selftest")
    assert code == 1
    assert "peer.unreachable" in found["peer ct"]["found"]
    assert "is it up?" in found["peer ct"]["next"] and "port" in found["peer ct"]["next"]
    assert "AE title" not in found["peer ct"]["next"]


def test_a_certificate_that_ends_soon_is_a_warning_and_no_failure(
    made: SetUp, certificates: tls_files.Site
) -> None:
    made.set("security", tls=json.loads(certificates.settings().model_dump_json()))
    code, found = made.check()
    assert code == 0
    assert found["DICOM TLS"]["outcome"] == "warning" and "until 20" in found["DICOM TLS"]["found"]
    assert "renew" in found["DICOM TLS"]["next"]


def test_an_open_data_directory_is_a_warning(made: SetUp) -> None:
    made.site.data_dir.chmod(0o755)
    code, found = made.check()
    assert code == 0 and found["data_dir"]["outcome"] == "warning"
    assert f"chmod 750 {made.site.data_dir}" in found["data_dir"]["next"]


def test_a_clock_that_nothing_keeps_right_is_a_warning(
    made: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_host, "_is_synchronised", lambda: False)
    assert made.check()[1]["clock"]["outcome"] == "warning"
    monkeypatch.setattr(doctor_host, "_is_synchronised", lambda: True)
    assert made.check()[1]["clock"]["outcome"] == "ok"


def test_wrong_settings_are_exit_code_2_and_name_the_line(made: SetUp) -> None:
    made.site.config.write_text("node:\n  port: 99999\n")
    answer = made.site("check")
    assert answer.code == 2 and ":2" in answer.err and "node.port" in answer.err


def test_a_driver_that_hangs_is_told_and_the_other_checks_go_on(
    made: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = made.folder / "nvidia-smi"
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(check_models, "_DRIVER_WITHIN_S", 0.3)
    nothing = {"torch": "2", "cuda": "", "onnxruntime": "1", "providers": [], "devices": []}
    monkeypatch.setattr(check_models, "_seen_by_worker", lambda: nothing)
    made.set("models", devices=["cuda:0"])
    _, found = made.check()
    assert "the driver hangs" in found["GPU driver"]["found"]
    assert found["models"]["outcome"] == "ok"


def test_devices_are_judged_by_what_a_worker_sees() -> None:
    seen = {"torch": "2", "cuda": "13", "onnxruntime": "1", "providers": [],
            "devices": [{"name": "H100", "free_mib": 80000, "total_mib": 81000}]}
    (missing,) = check_models._usable("GPU", ["cuda:1"], seen)
    assert missing.outcome == "failed" and "names cuda:1" in missing.found
    (slow,) = check_models._usable("GPU", ["cuda:0"], seen)
    assert slow.outcome == "warning" and "dicom-node[gpu]" in slow.todo
    seen["providers"] = ["CUDAExecutionProvider"]
    (well,) = check_models._usable("GPU", ["cuda:0"], seen)
    assert well.outcome == "ok" and "H100, 80000 of 81000 MiB free" in well.found


def test_a_model_that_no_longer_says_what_it_said_fails_its_self_test(
    made: SetUp,
) -> None:
    edges = (64, 64, 64)
    folder = write_model(made.folder / "models/bright", threshold_onnx(0.5, roi=edges),
                         runtime__roi=list(edges), runtime__overlap=0.0)
    made.set("models", directories=[str(made.folder / "models")])
    made.settings["rules"][0]["model"] = "bright"
    before = measured(folder, Pool("cpu"))
    book = SelftestBook(made.site.data_dir / "selftest")
    book.judge(replace(before, values={"Bright ml": before.values["Bright ml"] * 1.05}))
    code, found = made.check("--no-network", "--selftest")
    assert code == 1 and "and was" in found["self-test of bright"]["found"]
    assert "models verify" in found["self-test of bright"]["next"]
    last = SelftestBook(made.site.data_dir / "selftest").last("bright")
    assert last is not None and last.problem




def test_a_rule_that_gives_its_model_other_series_than_it_takes_is_named(made: SetUp) -> None:
    pt = {"role": "pt", "modality": ["PT"], "intensity": {"unit": "arbitrary"}}
    write_model(
        made.folder / "models" / "joint", threshold_onnx(0.5), id="joint",
        input__role="ct", input__companions=[pt, {**pt, "role": "t2", "required": False}],
    )
    made.set("models", directories=[str(made.folder / "models")])
    rule = {"name": "fusion", "when": {"Modality": "CT"}, "model": "joint", "send_to": ["sender"]}
    wanted = {role: {"when": {"Modality": "PT"}} for role in ("pt", "t2", "prior")}
    made.settings["rules"] = [{**rule, "inputs": wanted}]
    assert made.check()[1]["further series"]["outcome"] == "ok"
    made.settings["rules"] = [{**rule, "inputs": {"pet": wanted["pt"]}}]
    code, _ = made.check()
    made.site.config.write_text(yaml.safe_dump(made.settings))
    findings = made.site("check", "--json", "--no-network").json()["checks"]
    assert code == 1 and [
        (one["outcome"], one["found"].partition(",")[0])
        for one in findings if one["check"] == "further series"
    ] == [
        ("failed", "rule 'fusion' waits for 'pet'"),
        ("failed", "rule 'fusion' gives joint no series for 'pt'"),
        ("warning", "rule 'fusion' gives joint no series for 't2': it always does without"),
    ]


def test_a_rule_with_phases_in_other_series_than_its_model_takes_is_named(made: SetUp) -> None:
    for name, phases in (("phased", {"min": 2, "max": 3}), ("still", 1)):
        write_model(
            made.folder / "models" / name, threshold_onnx(0.5), id=name, input__modality=["MR"],
            input__phases=phases, input__intensity={"unit": "arbitrary", "scale_to": [0, 1]},
        )
    made.set("models", directories=[str(made.folder / "models")])
    rule = {"name": "dynamic", "when": {"Modality": "MR"}, "send_to": ["sender"]}

    def told(model: str, series: int, **when: str) -> list[str]:
        wanted = {"phases": {"when": {"Modality": "MR", **when}, "series": series}}
        made.settings["rules"] = [{**rule, "model": model, "inputs": wanted}]
        made.site.config.write_text(yaml.safe_dump(made.settings))
        findings = made.site("check", "--json", "--no-network").json()["checks"]
        return [
            f"{one['outcome']}: {one['found']}" for one in findings
            if one["check"] == "further series"
        ]

    assert told("phased", 2, SeriesDescription="late") == [
        "ok: 1 of the rules take further series, as their models do"
    ]
    assert told("phased", 3, SeriesDescription="late") == [
        "failed: rule 'dynamic' has 4 series with a phase each at least, and phased takes 3 phases "
        "at most"
    ]
    assert told("still", 1, SeriesDescription="late")[0].startswith(
        "failed: rule 'dynamic' waits for further phases, and still takes a series of one moment"
    )
    assert told("phased", 2) == [
        "warning: rule 'dynamic' fits every series of its phases: each makes a job of its own with "
        "the same result"
    ]
