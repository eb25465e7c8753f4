"""Routing complete series to jobs: what is routed, what is declined, and what breaks nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ai_models.catalog import Catalog
from dicom_node.config import Config, Rule
from dicom_node.errors import LedgerUnavailable
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.node_routing import Router, job_id, job_id_without_card
from dicom_node.records import Instance, Priority, Series, SeriesState
from dicom_node.routing import rules
from dicom_node.spool import Spool
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.dicom_samples import ct_series, localizer, write_instance

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
SERIES = "1.2.3"
CT_RULE = {"name": "lungs", "when": {"Modality": "CT"}, "model": "tiny", "send_to": ["pacs"],
           "priority": "stat"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_model(tmp_path / "models" / "tiny", threshold_onnx(0.5), id="tiny")
    return tmp_path / "models"


def router(
    ledger: Ledger, spool: Spool, folder: Path, *given: dict[str, Any], **settings: Any
) -> Router:
    config = Config.model_validate(
        {
            "peers": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
            "rules": list(given),
            "models": {"directories": [folder]},
            **settings,
        }
    )
    return Router(config, ledger, spool, Catalog([folder]), Events())


def receive(ledger: Ledger, spool: Spool, datasets: list[Any], *, complete: bool = True) -> None:
    """Keep the files where the spool would and index them."""
    found = []
    for number, dataset in enumerate(datasets, start=1):
        uid = str(dataset.SOPInstanceUID)
        path = f"instances/1.2/{SERIES}/{uid}.dcm"
        (spool.root / path).parent.mkdir(parents=True, exist_ok=True)
        write_instance(dataset, spool.root / path)
        found.append(
            Instance(uid, str(dataset.SOPClassUID), "1.2.840.10008.1.2.1", SERIES, "1.2", "CT",
                     path, 1, "f", START + timedelta(seconds=number), "one", "CT01",
                     instance_number=number)
        )
    ledger.index(found)
    if complete:
        ledger.receipts.change(SERIES, SeriesState.COMPLETE, "quiet_period")


def series(ledger: Ledger) -> Series:
    found = ledger.receipts.find_series(SERIES)
    assert found is not None
    return found


def test_a_series_that_matches_becomes_one_job_for_each_rule(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((3, 8, 8)))
    second = {**CT_RULE, "name": "again"}
    other = {**CT_RULE, "name": "mr", "when": {"Modality": "MR"}}
    assert router(ledger, spool, models, CT_RULE, second, other).route_complete() == 1
    jobs = ledger.jobs.of_series(SERIES)
    assert {j.rule for j in jobs} == {"lungs", "again"}
    assert {(j.model_id, j.priority, j.destinations) for j in jobs} == {
        ("tiny", Priority.STAT, ("pacs",))
    }
    assert series(ledger).reason == "rules: lungs, again"


def test_an_emergency_by_the_header_is_stat_and_says_so(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((3, 8, 8), RequestedProcedurePriority="STAT"))
    router(ledger, spool, models, {**CT_RULE, "priority": "background"}).route_complete()
    (routed,) = ledger.jobs.of_series(SERIES)
    assert (routed.priority, routed.reason) == (
        Priority.STAT, "routed, stat by RequestedProcedurePriority"
    )
    assert ledger.history("job", routed.job_id)[0].reason == routed.reason


def test_the_header_decides_nothing_where_the_settings_say_so(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((3, 8, 8), RequestedProcedurePriority="STAT"))
    router(
        ledger, spool, models, {**CT_RULE, "priority": "background"},
        routing={"honour_requested_priority": False},
    ).route_complete()
    (routed,) = ledger.jobs.of_series(SERIES)
    assert (routed.priority, routed.reason) == (Priority.BACKGROUND, "routed")


def test_only_the_first_rule_counts_where_the_settings_say_so(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((3, 8, 8)))
    second = {**CT_RULE, "name": "again"}
    routing = {"match": "first"}
    router(ledger, spool, models, CT_RULE, second, routing=routing).route_complete()
    assert [j.rule for j in ledger.jobs.of_series(SERIES)] == ["lungs"]


def test_a_series_that_no_rule_takes_is_declined(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((3, 8, 8), Modality="MR"))
    router(ledger, spool, models, CT_RULE).route_complete()
    assert (series(ledger).state, series(ledger).reason) == (
        SeriesState.DECLINED, "no_rule_matched"
    )


def test_a_localizer_at_the_end_does_not_speak_for_its_series(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    slices = ct_series((4, 8, 8))
    scout = localizer(slices[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    receive(ledger, spool, [scout, *slices])
    rule = {**CT_RULE, "when": {"ImageType": {"not": "LOCALIZER"}}}
    router(ledger, spool, models, rule).route_complete()
    assert series(ledger).state is SeriesState.ROUTED


def test_another_file_speaks_for_the_series_when_the_middle_one_is_gone(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((3, 8, 8)))
    ordered = sorted(ledger.receipts.instances(SERIES), key=lambda one: one.instance_number or 0)
    spool.resolve(ordered[1].path).unlink()
    spool.resolve(ordered[0].path).write_bytes(b"damaged")
    router(ledger, spool, models, CT_RULE).route_complete()
    assert series(ledger).state is SeriesState.ROUTED


def test_a_series_of_which_no_file_can_be_read_is_declined_with_the_reason(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((2, 8, 8)))
    for one in ledger.receipts.instances(SERIES):
        spool.resolve(one.path).unlink()
    router(ledger, spool, models, CT_RULE).route_complete()
    assert series(ledger).state is SeriesState.DECLINED
    assert series(ledger).reason.startswith("dataset.not_understood: cannot read the file")


def test_a_series_without_instances_is_declined(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((1, 8, 8)))
    with ledger._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM instances")
    router(ledger, spool, models, CT_RULE).route_complete()
    assert series(ledger).reason.startswith("input.no_instances")


def test_a_header_that_breaks_a_rule_ends_its_series_and_not_the_node(
    ledger: Ledger, spool: Spool, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(ledger, spool, ct_series((1, 8, 8)))

    def broken(*_: object, **__: object) -> None:
        raise ValueError("DOE^JOHN")

    monkeypatch.setattr(rules, "match", broken)
    assert router(ledger, spool, models, CT_RULE).route_complete() == 1
    assert (series(ledger).state, series(ledger).reason) == (
        SeriesState.DECLINED, "unexpected.ValueError"
    )


@pytest.mark.parametrize("given", [(CT_RULE,), ()], ids=["matching", "not matching"])
def test_a_slice_that_slips_in_while_it_is_routed_keeps_the_series_open(
    ledger: Ledger, spool: Spool, models: Path, monkeypatch: pytest.MonkeyPatch,
    given: tuple[dict[str, Any], ...],
) -> None:
    receive(ledger, spool, ct_series((2, 8, 8)))
    original = rules.match

    def late(*arguments: Any, **how: Any) -> Any:
        receive(ledger, spool, ct_series((1, 8, 8)), complete=False)
        return original(*arguments, **how)

    monkeypatch.setattr(rules, "match", late)
    assert router(ledger, spool, models, *given).route_complete() == 0
    assert series(ledger).state is SeriesState.RECEIVING
    assert ledger.jobs.latest() == []


def test_an_unavailable_ledger_declines_nothing(
    ledger: Ledger, spool: Spool, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(ledger, spool, ct_series((1, 8, 8)))

    def locked(*_: object, **__: object) -> None:
        raise LedgerUnavailable("locked")

    with monkeypatch.context() as away:
        away.setattr(ledger.jobs, "route", locked)
        with pytest.raises(LedgerUnavailable):
            router(ledger, spool, models, CT_RULE).route_complete()
    assert series(ledger).state is SeriesState.COMPLETE


def test_a_series_whose_model_is_not_there_gets_a_job_that_can_wait_for_it(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    receive(ledger, spool, ct_series((3, 8, 8)))
    missing = {**CT_RULE, "name": "other", "model": "missing"}
    router(ledger, spool, models, CT_RULE, missing).route_complete()
    found = {job.rule: job for job in ledger.jobs.of_series(SERIES)}
    assert (found["lungs"].model_id, found["lungs"].model_version) == ("tiny", "1.0")
    waiting = found["other"]
    assert (waiting.model_id, waiting.model_version) == ("missing", "")
    assert (waiting.destinations, waiting.priority) == (("pacs",), Priority.STAT)
    assert waiting.reason == "routed: model.unknown"


def test_a_job_without_its_model_is_of_the_version_that_was_live_and_of_these_bytes(
    ledger: Ledger, spool: Spool, models: Path
) -> None:
    rule = {**CT_RULE, "model": "missing"}
    ledger.stages.begin("missing", "3")
    receive(ledger, spool, ct_series((2, 8, 8)))
    running = router(ledger, spool, models, rule)
    running.route_complete()
    (waiting,) = ledger.jobs.of_series(SERIES)
    instances = ledger.receipts.instances(SERIES)
    named = Rule.model_validate(rule)
    assert waiting.model_version == "3"
    assert waiting.job_id == job_id_without_card(named, "3", list(reversed(instances)))
    others = {
        job_id_without_card(named, "", instances), job_id_without_card(named, "3", instances[:1])
    }
    assert waiting.job_id not in others and len(others) == 2


def test_the_same_bytes_under_the_same_rule_and_card_are_the_same_job(
    ledger: Ledger, spool: Spool, models: Path, tmp_path: Path
) -> None:
    receive(ledger, spool, ct_series((2, 8, 8)))
    instances = ledger.receipts.instances(SERIES)
    card = Catalog([models]).get("tiny")
    same = job_id("lungs", card, instances)
    assert same == job_id("lungs", card, list(reversed(instances)))
    write_model(tmp_path / "newer" / "tiny", threshold_onnx(0.5), id="tiny", version="9")
    newer = Catalog([tmp_path / "newer"]).get("tiny")
    others = {
        job_id("other", card, instances),
        job_id("lungs", newer, instances),
        job_id("lungs", card, instances[:1]),
    }
    assert same not in others and len(others) == 3
