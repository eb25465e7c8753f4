"""Associations that outlive one list of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.delivery.open_sockets import STOPPING
from dicom_node.delivery.outgoing import HELD_BACK
from dicom_node.delivery.sender import Sender
from dicom_node.errors import PeerUnavailable
from tests.delivery.scripted_peer import abort, scripted_peer
from tests.dicom_samples import ct_series, write_series


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(ct_series((4, 16, 16)), tmp_path / "ct")


def test_an_idle_association_is_released_after_its_time(series: list[Path]) -> None:
    with scripted_peer() as script:
        Sender("NODE", idle_s=0.01).send(script.peer(), series[:1])
        assert script.ended.wait(60)
        assert (script.associations, script.released, script.aborted) == (1, 1, 0)


def test_what_the_idle_association_does_not_know_goes_over_a_new_one(
    series: list[Path], tmp_path: Path
) -> None:
    rle = write_series(
        ct_series((1, 16, 16)), tmp_path / "rle", transfer_syntax_uid="1.2.840.10008.1.2.5"
    )
    with scripted_peer() as script:
        sender = Sender("NODE", idle_s=60.0)
        for paths in (series[:1], rle, series[1:2], rle):
            assert sender.send(script.peer(), paths)[0].stored
        assert script.associations == 2
        sender.close(0.0)


def test_one_peers_association_is_not_used_for_another(series: list[Path]) -> None:
    with scripted_peer() as one, scripted_peer() as other:
        sender = Sender("NODE", idle_s=60.0)
        for script in (one, other, one):
            assert sender.send(script.peer(), series[:1])[0].stored
        assert (one.associations, other.associations) == (1, 1)
        assert (len(one.received), len(other.received)) == (2, 1)
        sender.close(0.0)


def test_a_peer_that_hung_up_meanwhile_gets_a_new_association(series: list[Path]) -> None:
    with scripted_peer() as script:
        sender = Sender("NODE", idle_s=60.0)
        assert sender.send(script.peer(), series[:1])[0].stored
        script.hang_up()
        assert all(outcome.stored for outcome in sender.send(script.peer(), series[1:]))
        assert script.associations == 2
        assert len(script.received) == 4
        sender.close(0.0)


def test_a_peer_that_hangs_up_on_an_old_association_alone_is_asked_once_more(
    series: list[Path],
) -> None:
    with scripted_peer(0x0000, abort, 0x0000, abort, abort) as script:
        sender = Sender("NODE", idle_s=60.0)
        assert sender.send(script.peer(), series[:1])[0].stored
        assert sender.send(script.peer(), series[1:2])[0].stored
        assert script.associations == 2
        (outcome,) = sender.send(script.peer(), series[2:3])
        assert (outcome.stored, outcome.transient) == (False, True)
        assert script.associations == 3, "twice in a row is the object's or the peer's fault"
        sender.close(0.0)


def test_an_association_that_broke_off_is_not_kept(series: list[Path]) -> None:
    with scripted_peer(0x0000, 0x0000, abort, 0x0000) as script:
        sender = Sender("NODE", idle_s=60.0)
        first = sender.send(script.peer(), series)
        assert [outcome.stored for outcome in first] == [True, True, False, False]
        assert all(outcome.stored for outcome in sender.send(script.peer(), series[2:]))
        assert script.associations == 2
        sender.close(0.0)


def test_in_order_nothing_behind_a_transient_refusal_is_tried(series: list[Path]) -> None:
    with scripted_peer(0xC000, 0xA700) as script:
        outcomes = Sender("NODE").send(script.peer(), series, in_order=True)
    assert len(script.received) == 2
    assert [outcome.status for outcome in outcomes] == [0xC000, 0xA700, None, None]
    assert [outcome.reason for outcome in outcomes[2:]] == [HELD_BACK] * 2
    assert all(outcome.transient for outcome in outcomes[1:])


def test_in_order_nothing_behind_an_unreadable_file_is_tried(
    series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def failing(path: Path, *arguments: str) -> object:
        if path == series[1]:
            raise OSError("input/output error")
        return opened(path, *arguments)

    monkeypatch.setattr(Path, "open", failing)
    with scripted_peer() as script:
        outcomes = Sender("NODE").send(script.peer(), series, in_order=True)
    assert [outcome.reason for outcome in outcomes] == [
        "", "file.unreadable", HELD_BACK, HELD_BACK,
    ]
    assert len(script.received) == 1


def test_a_closed_sender_begins_nothing(series: list[Path]) -> None:
    with scripted_peer() as script:
        sender = Sender("NODE", idle_s=60.0)
        sender.send(script.peer(), series[:1])
        sender.close(0.0)
        for act in (lambda: sender.send(script.peer(), series), lambda: sender.echo(script.peer())):
            with pytest.raises(PeerUnavailable) as raised:
                act()
            assert raised.value.reason == STOPPING
        assert script.associations == 1
