"""Associations: who may have one, how they end, and what an end leaves behind."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bench.raw_scu import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Closed,
    Rejected,
    pdu,
    store_command,
    store_message,
    value,
)
from bench.synthetic import ct_slice
from dicom_node.intake.association import wait_until
from dicom_node.intake.contexts import storage_transfer_syntaxes
from tests.intake.conftest import Node, slice_of

MR = "1.2.840.10008.5.1.4.1.1.4"
Start = Callable[..., Node]


def test_an_unknown_called_ae_title_is_rejected_with_its_reason(both: Start) -> None:
    node = both()
    with pytest.raises(Rejected) as rejected:
        node.scu(called="SOMEONE")
    assert rejected.value.args == (1, 1, 7)
    assert both(check_called_ae_title=False).scu(called="SOMEONE").accepted[1] == 0


def test_only_configured_callers_may_associate(
    both: Start, caplog: pytest.LogCaptureFixture
) -> None:
    node = both(calling_ae_titles=("CT1",))
    with caplog.at_level("WARNING", "dicom_node"), pytest.raises(Rejected) as rejected:
        node.scu(calling="NOBODY")
    (fields,) = [vars(r)["fields"] for r in caplog.records if r.msg == "association refused"]
    assert (fields["calling_ae_title"], fields["address"]) == ("NOBODY", "127.0.0.1")
    assert rejected.value.args == (1, 1, 3)
    assert node.scu(calling="CT1").accepted[1] == 0


def test_associations_over_the_limit_are_rejected_for_the_moment(both: Start) -> None:
    node = both(max_associations=2)
    first, second = node.scu(), node.scu()
    with pytest.raises(Rejected) as rejected:
        node.scu()
    assert rejected.value.args == (2, 3, 2)
    uid, data = slice_of(1)
    assert first.store(CT, uid, data) == 0
    first.release()
    assert node.told.has_ended.wait(10)
    assert node.scu().accepted[1] == 0
    second.release()


def test_what_was_acknowledged_stays_when_the_next_object_is_cut_off(both: Start) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)
    assert scu.store(CT, uid, data) == 0
    scu.send(store_message(1, CT, "1.2.3.9.2", slice_of(2, 500_000)[1])[:300_000])
    scu.abort()
    assert node.told.has_ended.wait(20)
    assert node.told.associations[0].ended == "aborted"
    assert len(node.kept()) == 1
    assert node.half_received() == []


def test_a_lost_connection_half_way_leaves_nothing(both: Start) -> None:
    node = both()
    scu = node.scu()
    uid, data = slice_of(1)
    assert scu.store(CT, uid, data) == 0
    scu.send(store_message(1, CT, "1.2.3.9.2", slice_of(2, 500_000)[1])[:300_000])
    scu.socket.close()
    assert node.told.has_ended.wait(20)
    assert len(node.kept()) == 1
    assert node.half_received() == []


def test_a_released_association_is_told_as_released(both: Start) -> None:
    node = both()
    scu = node.scu(calling="CT7")
    uid, data = slice_of(1)
    scu.store(CT, uid, data)
    scu.release()
    assert node.told.has_ended.wait(10)
    ended = node.told.associations[0]
    assert (ended.ended, ended.calling_ae_title) == ("released", "CT7")
    assert ended.association_id == node.told.instances[0].association_id


def test_verification_answers_between_stores(both: Start) -> None:
    node = both()
    scu = node.scu()
    for number in range(5):
        assert scu.store(CT, *slice_of(number)) == 0
        assert scu.echo(3) == 0
    assert len(node.kept()) == 5


def test_another_sop_class_than_that_of_its_context_is_refused_and_drained(both: Start) -> None:
    node = both()
    scu = node.scu()
    assert scu.store(MR, "1.2.3.9.1", slice_of(1, 400_000)[1]) == 0x0122
    assert scu.store(CT, *slice_of(2)) == 0
    assert len(node.kept()) == 1


def test_a_store_request_without_a_data_set_is_refused(start: Start) -> None:
    node = start()
    scu = node.scu()
    command = store_command(CT, "1.2.3.9.1").replace(
        struct.pack("<HHLH", 0, 0x0800, 2, 1), struct.pack("<HHLH", 0, 0x0800, 2, 0x0101)
    )
    scu.send(pdu(4, value(1, 3, command)))
    assert scu.status() == 0xC000
    assert scu.echo(3) == 0


def test_every_transfer_syntax_of_the_list_is_accepted(start: Start) -> None:
    node = start()
    transfer_syntaxes = storage_transfer_syntaxes()
    scu = node.scu(
        [(2 * n + 1, CT, [transfer]) for n, transfer in enumerate(transfer_syntaxes)]
    )
    assert set(scu.accepted.values()) == {0}
    assert list(scu.transfer_syntax.values()) == transfer_syntaxes


def test_explicit_little_endian_is_taken_first_when_one_context_offers_many(
    start: Start,
) -> None:
    scu = start().scu([(1, CT, ["1.2.840.10008.1.2.4.50", IMPLICIT, EXPLICIT])])
    assert scu.transfer_syntax[1] == EXPLICIT


def test_private_sop_classes_are_accepted_only_when_configured(both: Start) -> None:
    private = "1.2.999.7.1"
    context = [(1, private, [EXPLICIT])]
    assert both().scu(context).accepted[1] == 3
    node = both(private_sop_classes=(private,))
    scu = node.scu(context)
    data = ct_slice("1.2.3.9.1", "1.2.3.1", "1.2.3.2", 1, b"ab", sop_class=private)
    assert scu.store(private, "1.2.3.9.1", data) == 0


def test_a_context_that_was_refused_aborts_the_association(start: Start) -> None:
    node = start()
    scu = node.scu([(1, "1.2.3", [EXPLICIT]), (3, VERIFICATION, [EXPLICIT])])
    with pytest.raises(Closed):
        scu.store(CT, *slice_of(1))
    assert node.answers_echo()


def test_a_strange_instance_uid_becomes_a_safe_name(both: Start) -> None:
    node = both()
    sop_instance = "../../etc/passwd"
    data = ct_slice(sop_instance, "1.2.3.1", "1.2.3.2", 1, b"ab")
    assert node.scu().store(CT, sop_instance, data) == 0
    assert len(node.kept()) == 1
    assert "x-" in node.kept()[0]


def test_closing_lets_a_half_received_object_finish(start: Start) -> None:
    import threading

    node = start()
    scu = node.scu()
    uid, data = slice_of(1, 400_000)
    message = store_message(1, CT, uid, data)
    scu.send(message[:200_000])
    assert wait_until(lambda: node.half_received() != [], 10), "the node has begun to receive it"
    closing = threading.Thread(target=node.listener.close)
    closing.start()
    scu.send(message[200_000:])
    assert scu.status() == 0
    with pytest.raises(Closed):
        scu.read_pdu()
    closing.join(20)
    assert not closing.is_alive()
    assert len(node.kept()) == 1


def test_an_idle_association_is_aborted_at_the_network_timeout(start: Start) -> None:
    node = start(network_timeout_s=0.3)
    scu = node.scu()
    with pytest.raises(Closed):
        scu.read_pdu()


def test_a_sender_that_stalls_within_an_object_is_aborted_and_its_part_removed(
    start: Start,
) -> None:
    node = start(dimse_timeout_s=0.3)
    scu = node.scu()
    scu.send(store_message(1, CT, "1.2.3.9.2", slice_of(2, 500_000)[1])[:300_000])
    with pytest.raises(Closed):
        scu.read_pdu()
    assert node.answers_echo()
    assert node.half_received() == []


def test_a_sender_that_drips_one_pdu_for_ever_is_aborted(start: Start) -> None:
    import time

    node = start(network_timeout_s=0.5)
    scu = node.scu()
    message = store_message(1, CT, "1.2.3.9.2", slice_of(2)[1])
    with pytest.raises((Closed, ConnectionError)):
        for byte in message:
            scu.send(bytes([byte]))
            time.sleep(0.05)
    assert node.half_received() == []


def test_a_connection_that_never_asks_for_an_association_is_closed(start: Start) -> None:
    import socket

    node = start(acse_timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", node.port), 10) as silent:
        silent.sendall(b"\x01\x00")
        assert silent.recv(100) == b""
    assert node.answers_echo()
