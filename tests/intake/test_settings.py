"""The listener's part of the configuration, and who may associate under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config import Config
from dicom_node.intake.access import UNKNOWN_CALLED, UNKNOWN_CALLING, refusal
from dicom_node.intake.active import ActiveAssociations
from dicom_node.intake.settings import ListenerSettings, listener_count

PEERS = {"ct": {"ae_title": "CT1", "host": "10.0.0.1", "port": 104}}


def settings_of(**access: object) -> ListenerSettings:
    return ListenerSettings.of(
        Config.model_validate({"peers": PEERS, "access": access, "node": {"data_dir": "/data"}})
    )


def test_settings_survive_the_way_to_a_child_process() -> None:
    for settings in (settings_of(), settings_of(accept_unknown_callers=True)):
        assert ListenerSettings.from_json(settings.to_json()) == settings


def test_the_spool_lies_in_the_data_directory() -> None:
    assert Path(settings_of().spool.root) == Path("/data/spool")


@pytest.mark.parametrize(
    ("called", "calling", "expected"),
    [
        ("DICOMNODE", "CT1", None),
        ("DICOMNODE ", " CT1", None),
        ("dicomnode", "CT1", UNKNOWN_CALLED),
        ("DICOMNODE", "CT2", UNKNOWN_CALLING),
        ("DICOMNODE", "", UNKNOWN_CALLING),
    ],
)
def test_titles_decide_who_may_associate(called: str, calling: str, expected: object) -> None:
    assert refusal(settings_of(), called, calling) == expected


def test_unknown_callers_are_welcome_when_the_configuration_says_so() -> None:
    assert refusal(settings_of(accept_unknown_callers=True), "DICOMNODE", "CT2") is None


def test_listener_processes_are_as_configured_or_one_to_four() -> None:
    assert listener_count(7) == 7
    assert 1 <= listener_count(None) <= 4


def test_a_place_that_was_left_is_free_again() -> None:
    active = ActiveAssociations()
    assert [active.enter(2), active.enter(2), active.enter(2)] == [True, True, False]
    active.leave()
    assert active.enter(2)


def test_a_dicomweb_server_without_an_ae_title_lets_nobody_in() -> None:
    config = Config.model_validate(
        {"peers": {"web": {"dicomweb": {"url": "https://pacs.example.org/dicom-web"}}}}
    )
    assert ListenerSettings.of(config).calling_ae_titles == ()
