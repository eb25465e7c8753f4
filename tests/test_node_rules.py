"""Rules and their models: what is told of one that cannot be run, and what stops a first start."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ai_models.catalog import Catalog
from ai_models.trust import why_refused
from dicom_node.config import Config
from dicom_node.errors import ConfigurationError, LedgerUnavailable, UnknownName
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_models import check_model, site_of
from dicom_node.node_rules import RuleModels, has_run
from dicom_node.node_versions import ModelVersions
from dicom_node.spool import Spool
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.ledger.conftest import instance

CT_RULE = {"name": "lungs", "when": {"Modality": "CT"}, "model": "tiny", "send_to": ["pacs"]}


class Heard(Events):
    """Keeps what is told of rules and settings."""

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[tuple[str, str, bool]] = []
        self.ignored: list[str] = []

    def rule_changed(
        self, rule: str, model_id: str, reason: str, message: str, *, served: bool
    ) -> None:
        self.rules.append((rule, reason, served))

    def node_changed(self, what: str, **fields: object) -> None:
        self.ignored.append(str(fields["key_path"]))


class Site:
    """A folder of models, a ledger, and the rules of a node that looks at both."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.ledger = Ledger.open(folder / "ledger.db")
        write_model(self.models / "tiny", threshold_onnx(0.5), id="tiny")

    def start(self, *rules: dict[str, Any], **settings: Any) -> None:
        config = Config.model_validate({
            "peers": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
            "rules": list(rules or [CT_RULE]), "models": {"directories": [self.models]},
            **settings,
        })
        site = site_of(config)
        self.heard = Heard()
        self.catalog = Catalog(
            config.models.directories, admit=lambda card: check_model(card, site), quiet_s=0.02,
            missing_ok=True,
        )
        self.versions = ModelVersions(
            self.catalog, self.ledger, Events(), lambda card: why_refused(card, site)
        )
        self.rules = RuleModels(
            config, self.catalog, self.ledger, self.heard, lambda card: why_refused(card, site)
        )

    def begin(self, *rules: dict[str, Any], **settings: Any) -> None:
        self.start(*rules, **settings)
        self.versions.begin()
        self.rules.begin(weights=True)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, self.heard.rules
            self.versions.refresh()
            self.rules.refresh()
            time.sleep(0.01)

    def kept(self) -> list[tuple[str, str]]:
        return [(one.rule, one.reason) for one in self.ledger.stages.rules_without_model()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path)
    yield opened
    opened.ledger.close()


def test_rules_whose_models_are_well_are_not_spoken_of(site: Site) -> None:
    site.begin()
    for _ in range(20):
        site.versions.refresh()
        site.rules.refresh()
        time.sleep(0.01)
    assert (site.heard.rules, site.kept(), site.catalog.problems()) == ([], [], [])


def break_card(folder: Path) -> None:
    (folder / "model.yaml").write_text("id: tiny\nsurprise: 1\n")


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def remove_directory(folder: Path) -> None:
    shutil.rmtree(folder.parent)


def copy_in_another_form(folder: Path) -> None:
    write_model(folder.parent / "copy", threshold_onnx(0.6), id="tiny")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_card, "model.unknown"),
        (remove, "model.unknown"),
        (remove_directory, "model.directory_missing"),
        (copy_in_another_form, "model.unknown"),
    ],
)
def test_a_rule_without_its_model_is_told_and_kept_at_start_and_when_it_is_mended(
    site: Site, damage: Callable[[Path], None], reason: str
) -> None:
    site.ledger.stages.begin("tiny", "1.0")
    damage(site.models / "tiny")
    site.begin()
    assert site.heard.rules == [("lungs", reason, False)]
    assert site.kept() == [("lungs", reason)]
    shutil.rmtree(site.models / "copy", ignore_errors=True)
    if damage is not copy_in_another_form:
        write_model(site.models / "tiny", threshold_onnx(0.5), id="tiny")
    site.until(lambda: not site.kept())
    assert [one for one in site.heard.rules if one[2]] == [("lungs", "", True)]
    assert site.versions.live("tiny").version == "1.0"


def test_weights_that_are_not_those_of_the_card_are_found_after_the_start(site: Site) -> None:
    whole = (site.models / "tiny" / "weights.onnx").read_bytes()
    (site.models / "tiny" / "weights.onnx").write_bytes(b"another network")
    site.begin()
    site.until(lambda: site.kept() == [("lungs", "model.hash_mismatch")])
    assert site.heard.rules == [("lungs", "model.hash_mismatch", False)]
    (problem,) = site.ledger.stages.problems()
    assert (problem.model_id, "SHA-256" in problem.message) == ("tiny", True)
    (site.models / "tiny" / "weights.onnx").write_bytes(whole)
    site.until(lambda: not site.kept())
    assert site.ledger.stages.problems() == []


@pytest.mark.parametrize("report", ["bones", "bone_age"])
def test_a_report_that_does_not_fit_the_model_is_found_after_the_start(
    site: Site, report: str
) -> None:
    write_model(site.models / "tiny", threshold_onnx(0.5), id="tiny", report=report)
    site.begin()
    site.until(lambda: site.kept() == [("lungs", "model.unknown")])
    (problem,) = site.ledger.stages.problems()
    assert "tiny: report: " in problem.message and report in problem.message


def test_a_model_that_may_not_be_used_clinically_is_told_at_once(site: Site) -> None:
    clinical = {"directories": [site.models], "site_use": "clinical"}
    site.begin(models=clinical)
    assert site.heard.rules == [("lungs", "model.refused", False)]


def test_of_a_model_that_no_rule_names_nothing_is_looked_through(site: Site) -> None:
    write_model(site.models / "other", b"weights", id="other")
    (site.models / "other" / "weights.onnx").write_bytes(b"damaged")
    site.begin()
    for _ in range(20):
        site.versions.refresh()
        site.rules.refresh()
        time.sleep(0.01)
    assert site.heard.rules == [] and site.catalog.get("other")


def test_a_damaged_live_version_is_not_replaced_by_a_candidate(site: Site) -> None:
    site.begin()
    write_model(site.models / "second", threshold_onnx(0.5), id="tiny", version="2")
    (site.models / "tiny" / "weights.onnx").write_bytes(b"another network")
    site.begin()
    site.until(lambda: bool(site.kept()))
    site.versions.refresh()
    assert {one.version: str(one.stage) for one in site.ledger.stages.of("tiny")} == {
        "1.0": "live"
    }


def test_a_copy_that_came_while_the_node_looked_on_takes_nothing_away(site: Site) -> None:
    site.begin()
    copy_in_another_form(site.models / "tiny")
    site.until(lambda: bool(site.catalog.problems()))
    site.rules.refresh()
    assert site.heard.rules == [] and site.catalog.get("tiny").folder == site.models / "tiny"


def test_a_copy_that_is_the_same_may_be_there_at_start(site: Site) -> None:
    shutil.copytree(site.models / "tiny", site.models / "copy")
    site.begin()
    assert site.heard.rules == []


def test_what_could_not_be_kept_is_kept_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(site.models / "tiny")
    site.start()

    def locked(_found: object) -> None:
        raise LedgerUnavailable("locked")

    with monkeypatch.context() as away:
        away.setattr(site.ledger.stages, "put_rules_without_model", locked)
        with pytest.raises(LedgerUnavailable):
            site.rules.begin(weights=False)
    site.rules.refresh()
    assert site.kept() == [("lungs", "model.unknown")]
    assert site.heard.rules == [("lungs", "model.unknown", False)]


def test_a_name_that_nothing_knows_stops_the_first_start_by_its_place(site: Site) -> None:
    site.start(CT_RULE, {**CT_RULE, "name": "2", "model": "none"})
    with pytest.raises(UnknownName, match=r"rules\[1\]\.model.*there are: "):
        site.rules.check_names(is_first_start=True)
    site.start(jobs={"per_model": {"tyni": 1}})
    with pytest.raises(UnknownName, match=r"jobs\.per_model\.tyni"):
        site.rules.check_names(is_first_start=True)
    shutil.rmtree(site.models)
    site.start()
    with pytest.raises(ConfigurationError, match=r"models\.directories"):
        site.rules.check_names(is_first_start=True)


def test_a_name_that_nothing_knows_stops_no_later_start(site: Site) -> None:
    site.start({**CT_RULE, "model": "none"}, jobs={"per_model": {"tyni": 1}})
    site.rules.check_names(is_first_start=False)
    assert site.heard.ignored == ["jobs.per_model.tyni"]
    site.rules.begin(weights=True)
    assert site.kept() == [("lungs", "model.unknown")]


def test_a_model_that_is_broken_or_was_known_before_is_no_typing_error(site: Site) -> None:
    break_card(site.models / "tiny")
    site.ledger.stages.begin("gone", "1")
    site.start(CT_RULE, {**CT_RULE, "name": "2", "model": "gone"})
    site.rules.check_names(is_first_start=True)


def test_a_node_has_run_once_it_knew_a_model_or_has_an_image(tmp_path: Path, site: Site) -> None:
    spool = Spool(tmp_path / "spool")
    assert not has_run(site.ledger, spool)
    (spool.root / "instances" / "1.2").mkdir(parents=True)
    assert has_run(site.ledger, spool)
    shutil.rmtree(spool.root / "instances" / "1.2")
    site.ledger.index([instance(1)])
    assert has_run(site.ledger, spool)
