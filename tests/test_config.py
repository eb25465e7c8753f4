"""Settings: what is refused and how that is said, environment variables, defaults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node import config
from dicom_node.errors import ConfigurationError, UnknownName
from dicom_node.records import Priority
from tests.config_files import PACS, load, refusal, when

BAD = {
    "unknown section": ("nodes:\n  port: 1\n", 1, "nodes", "did you mean 'node'?"),
    "unknown key": ("node:\n  prt: 104\n", 2, "node.prt", "did you mean 'port'?"),
    "section that is a list": ("\nnode: []\n", 2, "node", "a mapping"),
    "text for a port": ("node:\n  port: eleven\n", 2, "node.port", "a whole number"),
    "quoted port": ('node:\n  port: "104"\n', 2, "node.port", "a whole number"),
    "truth for a port": ("node:\n  port: true\n", 2, "node.port", "a whole number"),
    "port above 65535": ("node:\n  port: 70000\n", 2, "node.port", "at most 65535"),
    "negative port": ("web:\n  port: -1\n", 2, "web.port", "at least 0"),
    "negative memory": ("jobs:\n  read_ahead_mib: -1\n", 2, "jobs.read_ahead_mib", "at least 0"),
    "half a MiB": ("jobs:\n  read_ahead_mib: 0.5\n", 2, "jobs.read_ahead_mib", "a whole number"),
    "number as AE title": ("node:\n  ae_title: 7\n", 2, "node.ae_title", "put it in quotes"),
    "AE title of 17 characters": (
        "node:\n  ae_title: ABCDEFGHIJKLMNOPQ\n",
        2,
        "node.ae_title",
        "1 to 16",
    ),
    "AE title with a backslash": ("node:\n  ae_title: A\\B\n", 2, "node.ae_title", "backslash"),
    "AE title with a control character": (
        'node:\n  ae_title: "A\\tB"\n',
        2,
        "node.ae_title",
        "printable",
    ),
    "blank AE title": ('node:\n  ae_title: "   "\n', 2, "node.ae_title", "1 to 16"),
    "AE title outside ASCII": ("node:\n  ae_title: KÖLN\n", 2, "node.ae_title", "ASCII"),
    "host with a space": ("node:\n  host: my host\n", 2, "node.host", "a host name"),
    "peer without a port": (
        "peers:\n  pacs: {ae_title: A, host: h}\n",
        2,
        "peers.pacs.port",
        "is missing",
    ),
    "peer on port 0": (
        "peers:\n  pacs: {ae_title: A, host: h, port: 0}\n",
        2,
        "peers.pacs.port",
        "at least 1",
    ),
    "peer named sender": (
        "peers:\n\n  sender: {ae_title: A, host: h, port: 1}\n",
        3,
        "peers.sender",
        "whoever sent",
    ),
    "peer under another name": (
        "peers:\n  pacs: {name: x, ae_title: A, host: h, port: 1}\n",
        2,
        "peers.pacs.name",
        "expected 'pacs'",
    ),
    "rule without a model": (
        PACS + "rules:\n  - name: a\n    send_to: [pacs]\n    when: {Modality: CT}\n",
        4,
        "rules[0].model",
        "is missing",
    ),
    "rule that sends to nobody": (
        "rules:\n  - name: a\n    model: m\n    send_to: []\n    when: {Modality: CT}\n",
        4,
        "rules[0].send_to",
        "at least 1",
    ),
    "priority that does not exist": (
        "rules:\n  - name: a\n    model: m\n    send_to: [sender]\n    priority: urgent\n"
        "    when: {Modality: CT}\n",
        5,
        "rules[0].priority",
        "'stat'",
    ),
    "two rules with one name": (
        "rules:\n  - {name: a, model: m, send_to: [sender], when: {Modality: CT}}\n"
        "  - {name: a, model: m, send_to: [sender], when: {Modality: MR}}\n",
        3,
        "rules[1].name",
        "rules[0]",
    ),
    "series of this study that is to be fetched": (
        PACS + "rules:\n  - {name: a, model: m, send_to: [pacs], when: {Modality: CT},\n"
        "     inputs: {pt: {when: {Modality: PT}, fetch_from: pacs}}}\n",
        5, "rules[0].inputs.pt.fetch_from", "only the role 'prior'",
    ),
    "earlier examination from nowhere": (
        PACS + "rules:\n  - {name: a, model: m, send_to: [pacs], when: {Modality: CT},\n"
        "     inputs: {prior: {when: {Modality: CT}, fetch_from: pasc}}}\n",
        5, "rules[0].inputs.prior.fetch_from", "did you mean 'pacs'?",
    ),
    "phases in nobody knows how many series": (
        PACS + "rules:\n  - {name: a, model: m, send_to: [pacs], when: {Modality: MR},\n"
        "     inputs: {phases: {when: {Modality: MR}}}}\n",
        5, "rules[0].inputs.phases.series", "how many further series",
    ),
    "role of one series that is to be several": (
        PACS + "rules:\n  - {name: a, model: m, send_to: [pacs], when: {Modality: CT},\n"
        "     inputs: {pt: {when: {Modality: PT}, series: 2}}}\n",
        5, "rules[0].inputs.pt.series", "only the role 'phases'",
    ),
    "wait of more than a day": (
        PACS + "rules:\n  - {name: a, model: m, send_to: [pacs], when: {Modality: CT},\n"
        "     wait_s: 90000}\n",
        5, "rules[0].wait_s", "86400",
    ),
    "role that is no name": (
        PACS + "rules:\n  - {name: a, model: m, send_to: [pacs], when: {Modality: CT},\n"
        "     inputs: {PT: {when: {Modality: PT}}}}\n",
        5, "rules[0].inputs.PT", "[a-z]",
    ),
    "seconds below zero": (
        "completeness:\n  quiet_period_s: -1\n",
        2,
        "completeness.quiet_period_s",
        "at least 0",
    ),
    "infinite seconds": ("models:\n  deadline_s: 1e999\n", 2, "models.deadline_s", "found inf"),
    "PDU of no size": ("intake:\n  max_pdu_bytes: 0\n", 2, "intake.max_pdu_bytes", "4096"),
    "private SOP class that is no UID": (
        "intake:\n  private_sop_classes:\n    - 1.2.840\n    - 1.02.3\n",
        4,
        "intake.private_sop_classes[1]",
        "a DICOM UID",
    ),
    "device that does not exist": ("models:\n  devices: gpu\n", 2, "models.devices", "cuda:0"),
    "unknown receive path": (
        "intake:\n  receive_path: fast\n",
        2,
        "intake.receive_path",
        "'streamed' or 'stock'",
    ),
    "database of another kind": ("database:\n  url: mysql://a\n", 2, "database.url", "postgresql"),
    "TLS without its files": (
        "security:\n  tls: {certificate_file: a}\n", 2, "security.tls.key_file", "missing"
    ),
    "strangers at the page": ("web:\n  host: 0.0.0.0\n", 2, "web.host", "tokens_file"),
    "no network": (
        "access:\n  allowed_networks: [here]\n", 2, "access.allowed_networks[0]", "10.1"
    ),
    "no time of the day": ('selftest:\n  at: "25:00"\n', 2, "selftest.at", "02:30"),
    "number as a model folder": ("models:\n  directories: [5]\n", 2, "models.directories[0]", ""),
}


@pytest.mark.parametrize(("text", "line", "key_path", "said"), BAD.values(), ids=list(BAD))
def test_mistake_names_line_and_key(
    tmp_path: Path, text: str, line: int, key_path: str, said: str
) -> None:
    error = refusal(tmp_path, text)
    assert str(error).startswith(f"{tmp_path / 'node.yaml'}:{line}: {key_path}: ")
    assert (error.line, error.key_path) == (line, key_path)
    assert said in str(error)


BAD_YAML = {
    "syntax error": ("node:\n  port: [1\nweb: 2\n", 3, "is not YAML"),
    "tab as indentation": ("node:\n\tport: 1\n", 2, "is not YAML"),
    "duplicate key": ("node:\n  port: 1\n  host: h\n  port: 2\n", 4, "first on line 2"),
    "duplicate section": ("node: {}\nweb: {}\nnode: {}\n", 3, "written twice"),
    "key that is a number": ("peers:\n  7: {}\n", 2, "found the key 7"),
    "python object": ("node: !!python/object:os.system {}\n", 1, "tag"),
    "anchor": ("node: &a {port: 1}\nweb: *a\n", 1, "anchors"),
    "deep nesting": ("node: " + "[" * 50 + "]" * 50, 1, "nested deeper"),
    "number without end": ("node: {port: " + "1" * 5000 + "}\n", 1, "too long"),
    "list instead of settings": ("- node\n", 1, "found no settings"),
    "two documents": ("node: {}\n---\nweb: {}\n", 2, "is not YAML"),
    "control character": ("node: {ae_title: \x01}\n", None, "is not YAML"),
}


@pytest.mark.parametrize(("text", "line", "said"), BAD_YAML.values(), ids=list(BAD_YAML))
def test_text_that_is_not_plain_yaml_is_refused(
    tmp_path: Path, text: str, line: int | None, said: str
) -> None:
    error = refusal(tmp_path, text)
    assert error.line == line
    assert said in str(error)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file") as caught:
        config.load(tmp_path / "absent.yaml", {})
    assert "absent.yaml" in str(caught.value)


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        config.load(tmp_path, {})


def test_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_bytes(b"node:\n  ae_title: K\xd6LN\n")
    with pytest.raises(ConfigurationError, match="is not UTF-8") as caught:
        config.load(file, {})
    assert caught.value.line == 2


def test_huge_file_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "#" * 2_000_000)
    assert "larger than" in str(error)


def test_every_mistake_is_listed_below_the_first(tmp_path: Path) -> None:
    error = refusal(tmp_path, "web:\n  port: x\nnode:\n  port: y\n")
    assert [line.split(": ")[1] for line in str(error).splitlines()] == ["web.port", "node.port"]


def test_unknown_peer_in_send_to_is_an_unknown_name(tmp_path: Path) -> None:
    error = refusal(tmp_path, when("Modality: CT").replace("[pacs]", "[sender, pasc]"))
    assert isinstance(error, UnknownName)
    assert (error.key_path, error.line) == ("rules[0].send_to[1]", 6)
    assert "did you mean 'pacs'?" in str(error)


def test_peer_carries_its_name_and_unknown_peers_raise(tmp_path: Path) -> None:
    settings = load(tmp_path, PACS)
    assert settings.peer("pacs").name == "pacs"
    with pytest.raises(UnknownName, match="expected one of: pacs"):
        settings.peer("archive")


def test_password_of_the_database_is_never_shown(tmp_path: Path) -> None:
    error = refusal(tmp_path, "database: {url: 'mysql://user:hunter2@host/db'}\n")
    assert "hunter2" not in str(error)
    settings = load(tmp_path, "database: {url: 'postgresql://user:hunter2@host/db'}\n")
    assert "postgresql://user:***@host/db" in config.describe(settings)
    assert "hunter2" not in config.describe(settings)


def test_words_that_yaml_1_1_took_for_booleans_stay_words(tmp_path: Path) -> None:
    settings = load(tmp_path, "delivery: {storage_commitment: off}\nnode: {ae_title: NO}\n")
    assert settings.delivery.storage_commitment == "off"
    assert settings.node.ae_title == "NO"


def test_section_with_every_line_commented_out_means_its_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "rules:\npeers:\nnode:\n").rules == []


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    settings = load(tmp_path, "node: {data_dir: data}\nmodels: {directories: [m, /opt/m]}\n")
    assert settings.node.data_dir == tmp_path / "data"
    assert settings.models.directories == [tmp_path / "m", Path("/opt/m")]


def test_environment_variable_overrides_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        PACS + "node: {port: 104, ae_title: FILE}\n",
        DICOM_NODE__NODE__PORT="11113",
        DICOM_NODE__PEERS__PACS__HOST="pacs.example",
        DICOM_NODE__MODELS__DEVICES='["cuda:0", cpu]',
        DICOM_NODE__ACCESS__ACCEPT_UNKNOWN_CALLERS="true",
        DICOM_NODE__DATABASE__URL="postgresql://user:p#w: [x@host/db",
        DICOM_NODE_SHARED="/elsewhere",
        HOME="/root",
    )
    assert (settings.node.port, settings.node.ae_title) == (11113, "FILE")
    assert (settings.peers["pacs"].host, settings.peers["pacs"].port) == ("pacs.example", 4242)
    assert settings.models.devices == ["cuda:0", "cpu"]
    assert settings.access.accept_unknown_callers is True
    assert settings.database.url == "postgresql://user:p#w: [x@host/db"


@pytest.mark.parametrize(("written", "read"), [("007", "007"), ("NULL", "NULL"), ("ON", "ON")])
def test_environment_variable_for_text_is_text(written: str, read: str) -> None:
    settings = config.load(None, {"DICOM_NODE__NODE__AE_TITLE": written})
    assert settings.node.ae_title == read


def test_rules_can_come_from_an_environment_variable() -> None:
    rule = "{name: a, model: m, send_to: [sender], when: {Modality: CT}, priority: stat}"
    settings = config.load(None, {"DICOM_NODE__RULES": f"[{rule}]"})
    assert settings.rules[0].priority is Priority.STAT


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("DICOM_NODE__NODE__PORT", "eleven", "node.port: found 'eleven', expected a whole number"),
        ("DICOM_NODE__NODE__PORT", "70000", "node.port: found 70000, expected at most 65535"),
        ("DICOM_NODE__NODE__PRT", "1", "did you mean 'port'?"),
        ("DICOM_NODE__NOD__PORT", "1", "did you mean 'node'?"),
        ("DICOM_NODE__RULES__0__NAME", "a", "give it whole"),
        ("DICOM_NODE__MODELS__DEVICES", "gpu", "models.devices"),
        ("DICOM_NODE__", "1", "unknown key"),
    ],
)
def test_bad_environment_variable_is_named(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    error = refusal(tmp_path, "node: {port: 104}\n", **{variable: value})
    assert str(error).startswith(f"{variable}: ")
    assert said in str(error)


def test_defaults_are_those_of_the_design() -> None:
    settings = config.load(None, {})
    assert settings == config.Config()
    assert (settings.node.ae_title, settings.node.host, settings.node.port) == (
        "DICOMNODE",
        "0.0.0.0",
        11112,
    )
    assert settings.node.data_dir == Path("/var/lib/dicom-node")
    assert settings.completeness.model_dump() == {
        "quiet_period_s": 20,
        "after_release_s": 2,
        "give_up_after_s": 3600,
    }
    assert settings.storage.refuse_below_free_bytes == 5368709120
    assert (settings.peers, settings.rules, settings.routing.match) == ({}, [], "all")


def test_described_settings_load_as_the_same_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, when("not: {any: [{Modality: MR}, {Rows: {max: 64}}]}"))
    assert load(tmp_path, config.describe(settings)) == settings


def test_settings_cannot_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.load(None, {}).node.port = 1  # type: ignore[misc]


def test_loading_a_rule_imports_no_heavy_library(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(when("Modality: CT"))
    code = (
        "import sys, pathlib; from dicom_node import config;"
        f"config.load(pathlib.Path({str(file)!r}), {{}});"
        "print([m for m in ('pydicom', 'numpy', 'torch', 'sqlalchemy') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def keys_of(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return dict(node.get("properties", {}))


def test_json_schema_knows_every_key_of_the_example() -> None:
    schema = config.json_schema()
    example = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text())
    for section, values in example.items():
        node = schema["properties"][section]
        if section not in ("peers", "rules"):
            assert set(keys_of(schema, node)) == set(values)
    assert set(example) == set(schema["properties"])


def test_reading_ahead_can_be_switched_off(tmp_path: Path) -> None:
    assert load(tmp_path, "").jobs.read_ahead_mib == 1024
    assert load(tmp_path, "jobs: {read_ahead_mib: 0}\n").jobs.read_ahead_mib == 0
