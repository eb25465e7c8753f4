"""Dashboard and alert rules ask for what the node really tells, under its real names and labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.ledger.hosts import HostState
from dicom_node.ledger.ledger import Ledger
from dicom_node.operations.audit_trail import AuditStanding
from dicom_node.operations.metrics import Metrics
from dicom_node.operations.metrics_gauges import Surroundings
from tests.operations.test_metrics import work

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dicom-node.json"
_NAME = re.compile(r"\b((?:dicom_node|process)_[a-z_]+)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"([a-z]+)\s*(?:=~|!=|!~|=)\s*\"([^\"]*)\"")
_BY = re.compile(r"\bby \(([^)]*)\)")
# What Prometheus itself adds to every sample.
_ADDED = {"instance", "job"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every metric of a node on which everything has happened once, and its labels."""
    folder = tmp_path_factory.mktemp("told")
    ledger = Ledger.open(folder / "ledger.db")
    metrics = Metrics(ledger, Surroundings(
        folder, device_mib=lambda: {"cuda:0": 1.0}, processes=lambda: {"worker": [1]},
        certificates=lambda: {"dicom": 1.0}, audit=lambda: AuditStanding(0, True, True),
        peers=("pacs",),
    ))
    work(ledger)
    ledger.duties.add("answer", "job-1", "")
    for event, arguments in (
        ("association_refused", {"reason": "a.b"}), ("association_ended", {"how": "released"}),
        ("instance_stored", {"outcome": "new", "size_bytes": 1}),
        ("instance_refused", {"status": 1, "reason": "a.b"}),
        ("impression_drafted",
         {"writer": "llama", "fallback": "a.b", "kept": 1, "struck": {"side": 1}}),
        ("worker_changed", {"device": "cpu", "what": "killed"}),
        ("service_refused", {"reason": "a.b"}),
        ("study_removed", {"reason": "a.b", "size_bytes": 1}),
        ("web_sign_in", {"succeeded": False}), ("selftest_failed", {"model_id": "lungs-ct"}),
        ("commitment_changed", {"destination": "pacs", "what": "asked", "count": 1}),
    ):
        metrics.sink(event, arguments)
    # Only PostgreSQL has rows of hosts.
    monkeypatch = pytest.MonkeyPatch()
    lives = HostState("p1", "host-1", ("work",), (), (), "1", 0.0, 0.0, 0.5, leads=("work",))
    monkeypatch.setattr(ledger.hosts, "all", lambda: [lives])
    content, _ = metrics.render()
    ledger.close()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load(ALERTS.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def questions() -> Iterator[tuple[str, str, str]]:
    """Where it is asked, what is asked, and the text that is written beside the answer."""
    for rule in alerts():
        yield rule["alert"], rule["expr"], str(rule["annotations"])
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]


@pytest.mark.parametrize(("where", "expr", "text"), list(questions()))
def test_what_is_asked_for_is_told(
    told: dict[str, set[str]], where: str, expr: str, text: str
) -> None:
    asked = list(_NAME.findall(expr))
    assert asked or 'up{job="dicom-node"}' in expr, where
    labels = set(_ADDED)
    for name, matchers in asked:
        assert name in told, f"{where}: {name}"
        labels |= told[name]
        for label, _ in _MATCHER.findall(matchers):
            assert label in told[name] | _ADDED, f"{where}: {name} has no label {label}"
    for group in _BY.findall(expr):
        assert {one.strip() for one in group.split(",")} <= labels, f"{where}: by ({group})"
    shown = re.findall(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}", text)
    by = {one.strip() for group in _BY.findall(expr) for one in group.split(",")}
    assert set(shown) <= (by or labels), f"{where} shows {shown}"
    assert expr.count("(") == expr.count(")") and expr.count("{") == expr.count("}")


def test_a_series_that_does_not_suit_the_model_is_no_dead_letter_that_alerts() -> None:
    (rule,) = [rule for rule in alerts() if rule["alert"] == "DicomNodeDeadLetters"]
    patterns = re.findall(r'outcome="dead",reason!~"([^"]*)"', rule["expr"])
    assert len(patterns) == rule["expr"].count("dicom_node_")
    for pattern in patterns:
        assert re.fullmatch(pattern, "input.too_few_slices")
        assert not re.fullmatch(pattern, "model.failed")


def test_every_alert_says_how_grave_it_is_and_what_has_happened() -> None:
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules) > 20
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].strip()
        assert rule["alert"] in (ROOT / "docs/observability.md").read_text(), rule["alert"]


def test_every_metric_of_the_node_is_described_and_looked_at(told: dict[str, set[str]]) -> None:
    described = (ROOT / "docs/observability.md").read_text()
    asked = "".join(expr for _, expr, _ in questions())
    unused = {
        "dicom_node_build_info", "dicom_node_jobs", "dicom_node_deliveries",
        "dicom_node_host_leads", "dicom_node_host_seen_seconds",
        "dicom_node_host_clock_ahead_seconds",
    }
    for name in told:
        base = re.sub(r"_(total|bucket|sum|count|info)$", "", name)
        if name.startswith("dicom_node_"):
            assert base in described, name
            assert base in asked or name in unused, name


def test_the_panels_of_the_dashboard_lie_beside_and_not_upon_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
