"""What a destination takes: asked, kept, and asked again when it may have changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.sop_class import CTImageStorage

from dicom_node.config import Config, PeerSettings
from dicom_node.config_peers import DicomWebSettings
from dicom_node.delivery.association import Timeouts
from dicom_node.delivery.capabilities import PROPOSED, Capabilities, CapabilityProber, probe
from dicom_node.errors import PeerUnavailable
from dicom_node.events import Events
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import Circuit, CircuitState
from dicom_node.results.sop_classes import CLASS_NAMES
from tests.delivery.scripted_peer import EXPLICIT, IMPLICIT, scripted_peer
from tests.peers import DcmtkStorescp, Orthanc, free_port

SEGMENTATION, REPORT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
RLE, JPEG_2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"
SHORT = Timeouts(connect_s=2.0, association_s=2.0, write_s=2.0, response_s=2.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db")
    yield opened
    opened.close()


def settings(port: int, names: Sequence[str] = ("pacs",)) -> Config:
    peers = {
        name: {"ae_title": "SCRIPTED", "host": "127.0.0.1", "port": port} for name in names
    }
    web: dict[str, Any] = {"web": {"dicomweb": {"url": "http://127.0.0.1:1/dicom-web"}}}
    rule = {"name": "r", "when": {"Modality": "CT"}, "model": "m", "send_to": ["pacs", "sender"]}
    return Config.model_validate({"peers": peers | web, "rules": [rule]})


def test_everything_that_results_are_is_asked_for_in_one_association() -> None:
    assert set(PROPOSED) == set(CLASS_NAMES), "a class that is not asked for counts as not taken"
    with scripted_peer(sop_classes=[SEGMENTATION, REPORT], transfer_syntaxes=[EXPLICIT, RLE]) as it:
        found = probe(it.peer(), "NODE", SHORT)
        assert it.associations == 1 and it.received == []
        assert len(it.proposed) == sum(map(len, PROPOSED.values())) <= 128
        assert it.ended.wait(10) and it.released == 1
    assert found.accepted == {SEGMENTATION: (EXPLICIT, RLE), REPORT: (EXPLICIT,)}
    assert (found.destination, found.refused) == ("scripted", frozenset())
    assert found.probed_at is not None and found.probed_at <= datetime.now(UTC)


def test_who_does_not_answer_says_nothing() -> None:
    with pytest.raises(PeerUnavailable):
        probe(PeerSettings(name="p", ae_title="P", host="127.0.0.1", port=free_port()), "N", SHORT)


def test_a_dicomweb_service_is_not_asked() -> None:
    web = PeerSettings(name="web", dicomweb=DicomWebSettings(url="http://127.0.0.1:1/dicom-web"))
    found = probe(web, "NODE", SHORT)
    assert (found.accepted, found.probed_at) == ({}, None)
    assert found.takes(SEGMENTATION)


def test_what_was_accepted_is_kept_and_one_that_accepts_nothing_changes_nothing(
    ledger: Ledger,
) -> None:
    with scripted_peer(sop_classes=[SEGMENTATION]) as it:
        config = settings(it.port)
        Capabilities(config, ledger, Events(), SHORT).ask(config.peer("pacs"))
    kept = ledger.profiles.find("pacs")
    assert kept is not None and kept.accepted == {SEGMENTATION: (EXPLICIT, IMPLICIT)}
    with scripted_peer(sop_classes=[CTImageStorage]) as it:
        config = settings(it.port)
        Capabilities(config, ledger, Events(), SHORT).ask(config.peer("pacs"))
    assert ledger.profiles.find("pacs") == kept


def test_refusals_are_forgotten_only_when_somebody_wants_that(ledger: Ledger) -> None:
    with scripted_peer(sop_classes=[SEGMENTATION]) as it:
        config = settings(it.port)
        capabilities = Capabilities(config, ledger, Events(), SHORT)
        for name in ("pacs", "web"):
            ledger.profiles.refuse(name, SEGMENTATION)
            capabilities.ask(config.peer(name))
            assert ledger.profiles.all()[name].refused == {SEGMENTATION}
            capabilities.ask(config.peer(name), forget_refusals=True)
            assert ledger.profiles.all()[name].takes(SEGMENTATION)


def test_only_destinations_of_rules_are_asked_at_the_start_and_then_once_a_day(
    ledger: Ledger,
) -> None:
    with scripted_peer(sop_classes=[SEGMENTATION]) as it:
        prober = CapabilityProber(settings(it.port, ("pacs", "other")), ledger, Events(), SHORT)
        prober.tick()
        prober.tick()
        assert it.associations == 1
        assert set(ledger.profiles.all()) == {"pacs"}
        for back in (timedelta(hours=25), timedelta(hours=-1)):
            prober._asked_at["pacs"] = datetime.now(UTC) - back
            prober.tick()
        assert it.associations == 3, "a day later, and after the clock was set back"


def test_a_destination_is_asked_again_when_it_comes_back_and_not_while_it_is_away(
    ledger: Ledger,
) -> None:
    def change(circuit: Circuit, state: CircuitState) -> Circuit:
        return replace(circuit, state=state, changed_at=datetime.now(UTC))

    with scripted_peer(sop_classes=[SEGMENTATION]) as it:
        prober = CapabilityProber(settings(it.port), ledger, Events(), SHORT)
        prober.tick()
        ledger.circuits.change("pacs", lambda one: change(one, CircuitState.OPEN))
        prober.tick()
        assert it.associations == 1
        ledger.circuits.change("pacs", lambda one: change(one, CircuitState.CLOSED))
        prober.tick()
        prober.tick()
        assert it.associations == 2


def test_one_that_does_not_answer_is_left_alone_for_a_while_and_holds_up_no_other(
    ledger: Ledger,
) -> None:
    with scripted_peer(sop_classes=[SEGMENTATION]) as it:
        config = settings(it.port, ("pacs", "archive"))
        away = config.peer("archive").model_copy(update={"port": free_port()})
        rule = config.rules[0].model_copy(update={"send_to": ["archive", "pacs"]})
        peers = dict(config.peers) | {"archive": away}
        config = config.model_copy(update={"peers": peers, "rules": [rule]})
        prober = CapabilityProber(config, ledger, Events(), SHORT)
        prober.tick()
        prober.tick()
        assert prober._pauses["archive"].failures == 1
        assert set(ledger.profiles.all()) == {"pacs"}
        assert ledger.circuits.all() == {}, "whether it is away only deliveries say"


def test_the_background_asks_by_itself_and_stops(ledger: Ledger) -> None:
    with scripted_peer(sop_classes=[SEGMENTATION]) as it:
        prober = CapabilityProber(settings(it.port), ledger, Events(), SHORT)
        prober.start()
        assert it.ended.wait(30)
        prober.stop()
        assert not prober._thread.is_alive()
    assert ledger.profiles.find("pacs") is not None


@pytest.mark.network
def test_dcmtk_in_its_default_takes_no_label_map_and_nothing_compressed(tmp_path: Path) -> None:
    with DcmtkStorescp(tmp_path) as storescp:
        found = probe(storescp.peer, "NODE")
    assert found.takes(SEGMENTATION) and found.takes(REPORT) and not found.takes(LABEL_MAP)
    assert RLE not in found.accepted[SEGMENTATION]


@pytest.mark.network
def test_orthanc_takes_no_label_map_and_compressed_segmentations(tmp_path: Path) -> None:
    with Orthanc(tmp_path) as orthanc:
        found = probe(orthanc.peer, "NODE")
    assert found.takes(SEGMENTATION) and found.takes(REPORT) and not found.takes(LABEL_MAP)
    assert {RLE, JPEG_2000} <= set(found.accepted[SEGMENTATION])
