"""Routing a series to a version of a model: live, canary, shadow, or one that is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

from ai_models.catalog import Catalog
from dicom_node.config import Config
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_routing import Router
from dicom_node.node_versions import ModelVersions, falls_to
from dicom_node.records import Job, Priority, Stage
from dicom_node.spool import Spool
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series
from tests.test_node_routing import CT_RULE, SERIES, ledger, models, receive, router, spool

__all__ = ["ledger", "models", "spool"]


def versions(folder: Path, *names: str) -> None:
    for name in names:
        write_model(folder / f"v{name}", threshold_onnx(0.5), id="tiny", version=name)


def jobs_of(ledger: Ledger) -> list[Job]:
    return sorted(ledger.jobs.of_series(SERIES), key=lambda one: one.shadow)


def test_a_candidate_is_not_run_until_it_is_promoted(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    versions(models, "2")
    ledger.stages.begin("tiny", "1.0")
    receive(ledger, spool, ct_series((3, 8, 8)))
    running = router(ledger, spool, models, CT_RULE)
    running.route_complete()
    assert [one.model_version for one in jobs_of(ledger)] == ["1.0"]
    ledger.stages.promote("tiny", "2", "by operator")
    receive(ledger, spool, ct_series((3, 8, 8)))
    running.route_complete()
    assert {one.model_version for one in jobs_of(ledger)} == {"1.0", "2"}


def test_a_canary_gets_the_series_that_fall_to_it(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    versions(models, "2")
    ledger.stages.begin("tiny", "1.0")
    at = falls_to("tiny", "2", SERIES)
    for share, expected in ((at - 1e-6, {"1.0"}), (at + 1e-6, {"1.0", "2"})):
        ledger.stages.put("tiny", "2", Stage.CANARY, share, "by operator")
        receive(ledger, spool, ct_series((3, 8, 8)))
        router(ledger, spool, models, CT_RULE).route_complete()
        assert {one.model_version for one in jobs_of(ledger)} == expected


def test_a_canary_that_the_site_does_not_allow_gets_nothing(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    write_model(models / "tiny", threshold_onnx(0.5), id="tiny", demonstration=False,
                weights__licence="MIT")
    versions(models, "2")
    ledger.stages.begin("tiny", "1.0")
    ledger.stages.put("tiny", "2", Stage.CANARY, 1.0, "by operator")
    receive(ledger, spool, ct_series((3, 8, 8)))
    clinical = {"directories": [models], "site_use": "clinical"}
    router(ledger, spool, models, CT_RULE, models=clinical).route_complete()
    assert [one.model_version for one in jobs_of(ledger)] == ["1.0"]


def test_a_shadow_gets_a_job_of_its_own_that_sends_nothing(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    versions(models, "2")
    ledger.stages.begin("tiny", "1.0")
    ledger.stages.put("tiny", "2", Stage.SHADOW, 0.0, "by operator")
    receive(ledger, spool, ct_series((3, 8, 8)))
    router(ledger, spool, models, CT_RULE).route_complete()
    live, shadow = jobs_of(ledger)
    assert (live.model_version, live.priority, live.shadow) == ("1.0", Priority.STAT, False)
    assert (shadow.model_version, shadow.priority, shadow.shadow) == (
        "2", Priority.BACKGROUND, True
    )
    assert (shadow.rule, shadow.destinations) == (live.rule, ())
    assert shadow.reason == "routed, as a shadow of version 1.0"


def test_a_version_that_was_a_shadow_on_a_series_is_a_new_job_when_it_is_live(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    versions(models, "2")
    ledger.stages.begin("tiny", "1.0")
    ledger.stages.put("tiny", "2", Stage.SHADOW, 0.0, "by operator")
    receive(ledger, spool, ct_series((3, 8, 8)))
    running = router(ledger, spool, models, CT_RULE)
    running.route_complete()
    ledger.stages.promote("tiny", "2", "by operator")
    receive(ledger, spool, ct_series((3, 8, 8)))
    running.route_complete()
    found = [(one.model_version, one.shadow) for one in jobs_of(ledger)]
    assert sorted(found) == [("1.0", False), ("2", False), ("2", True)]


def test_a_model_that_goes_away_keeps_its_jobs_coming_so_that_somebody_is_answered(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    catalog = Catalog([models], quiet_s=0.0)
    config = Config.model_validate({
        "peers": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
        "rules": [CT_RULE], "models": {"directories": [models]},
    })
    live = ModelVersions(catalog, ledger, Events(), lambda _card: None)
    running = Router(config, ledger, spool, catalog, Events(), live)
    live.live("tiny")
    shutil.rmtree(models / "tiny")
    catalog.refresh()
    catalog.refresh()
    assert catalog.versions("tiny") == ()
    receive(ledger, spool, ct_series((3, 8, 8)))
    running.route_complete()
    assert [one.model_version for one in jobs_of(ledger)] == ["1.0"]
