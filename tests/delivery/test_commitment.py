"""Storage commitment asked of archives that report well, badly, late or never."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.delivery.commitment import CommitmentAsker
from dicom_node.ledger import tables
from dicom_node.ledger.commitments import NO_REPORT
from dicom_node.records import DeliveryState
from tests.delivery.commitment_peer import CommitmentPeer, commitment_peer
from tests.delivery.commitment_site import CT, Site, site, until
from tests.delivery.scripted_peer import socket_peer

ALL = [(CT, "2.25.1"), (CT, "2.25.2"), (CT, "2.25.3")]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as made:
        made.sent()
        yield made


def ask(asker: CommitmentAsker, peer: CommitmentPeer, times: int = 1) -> None:
    """Rounds until the peer has been asked so often, each request brought to its end."""
    until(lambda: _asked(asker, peer, times), "the question")
    _finish(asker)


def _asked(asker: CommitmentAsker, peer: CommitmentPeer, times: int) -> bool:
    if len(peer.asked) < times:
        asker.tick()
        _finish(asker)
    return len(peer.asked) >= times


def _finish(asker: CommitmentAsker) -> None:
    for thread in list(asker._busy.values()):
        thread.join(60)


def overdue(node: Site) -> None:
    """Let the time of every open transaction be over."""
    _update(node, not_before=0.0)


def _update(node: Site, **values: float) -> None:
    with node.ledger._database.write() as connection:
        connection.execute(tables.commitments.update().values(**values))


def asked_for_ago(node: Site, age: timedelta) -> None:
    """Let the results have been asked for so long ago."""
    with node.ledger._database.write() as connection:
        created_at = (datetime.now(UTC) - age).timestamp()
        connection.execute(tables.deliveries.update().values(created_at=created_at))


def test_a_report_on_the_same_association_commits(node: Site) -> None:
    with commitment_peer(on_same_association=True) as peer:
        asker = node.asker(node.config(peer.port, commitment_wait_s=60.0))
        ask(asker, peer)
    assert peer.asked[0][1] == ALL
    assert peer.answers == [0x0000]
    assert node.states() == [("committed", "committed")] * 3


@pytest.mark.parametrize("with_role", [True, False])
def test_a_report_on_a_new_association_commits_with_and_without_a_role(
    node: Site, with_role: bool
) -> None:
    with commitment_peer() as peer:
        ask(node.asker(node.config(peer.port)), peer)
        assert node.states() == [("sent", "asked")] * 3
        assert peer.call(node.port, with_role=with_role) == 0x0000
        assert node.has(DeliveryState.COMMITTED)
        # The archive lost our answer and says it again.
        assert peer.call(node.port) == 0x0000


def test_the_question_is_in_the_ledger_before_it_is_asked(node: Site) -> None:
    seen: list[list[tuple[str, str]]] = []
    with commitment_peer(when_asked=lambda: seen.append(node.states())) as peer:
        ask(node.asker(node.config(peer.port)), peer)
    assert seen == [[("sent", "asked")] * 3]


def test_what_the_archive_does_not_have_is_sent_again(node: Site) -> None:
    with commitment_peer(judge=lambda items: (items[1:], [(*items[0], 0x0112)])) as peer:
        ask(node.asker(node.config(peer.port)), peer)
        assert peer.call(node.port) == 0x0000
    assert node.states() == [("pending", ""), *[("committed", "committed")] * 2]
    assert node.reasons()[0] == "commitment.failed.no_such_instance"
    (shipment,) = node.ledger.deliveries.open_shipments()
    assert (shipment.key, shipment.attempt) == ("job-1:pacs", 2)


def test_what_is_sent_again_is_asked_for_again(node: Site) -> None:
    with commitment_peer(judge=lambda items: ([], [(*one, 0x0110) for one in items])) as peer:
        asker = node.asker(node.config(peer.port))
        ask(asker, peer)
        peer.call(node.port)
        assert node.has(DeliveryState.PENDING)
        node.sent()
        peer.judge = lambda items: (items, [])
        ask(asker, peer, times=2)
        # What was said of the first sending says nothing of the second.
        first, second = peer.asked
        assert first[0] != second[0]
        peer.judge = lambda items: ([], [(*one, 0x0110) for one in items])
        assert peer.call(node.port, number=0) == 0x0000
        assert node.has(DeliveryState.SENT)
        peer.judge = lambda items: (items, [])
        assert peer.call(node.port) == 0x0000
    assert node.has(DeliveryState.COMMITTED)


def test_what_can_not_be_committed_for_days_dies(node: Site) -> None:
    asked_for_ago(node, timedelta(hours=2))
    with commitment_peer(judge=lambda items: ([], [(*one, 0x0112) for one in items])) as peer:
        asker = node.asker(node.config(peer.port, retry_for_h=3.0))
        ask(asker, peer)
        _update(node, retry_for_s=3600.0)
        peer.call(node.port)
    assert node.has(DeliveryState.DEAD)
    assert set(node.reasons()) == {"commitment.failed.no_such_instance"}


def test_a_report_that_leaves_instances_out_has_them_asked_for_again(node: Site) -> None:
    with commitment_peer(judge=lambda items: (items[:1], [])) as peer:
        asker = node.asker(node.config(peer.port))
        ask(asker, peer)
        assert peer.call(node.port) == 0x0000
        assert node.states() == [("committed", "committed"), *[("sent", "wanted")] * 2]
        overdue(node)
        ask(asker, peer, times=2)
    assert peer.asked[1][1] == ALL[1:]


def test_a_report_of_another_class_does_not_commit(node: Site) -> None:
    with commitment_peer(judge=lambda items: ([("1.2.3", uid) for _, uid in items], [])) as peer:
        ask(node.asker(node.config(peer.port)), peer)
        assert peer.call(node.port) == 0x0000
    assert node.states() == [("sent", "wanted")] * 3


def test_a_report_of_an_unknown_transaction_is_refused_and_recorded(node: Site) -> None:
    with commitment_peer() as peer:
        peer.asked.append(("1.2.3.4", ALL))
        assert peer.call(node.port) == 0x0112
    (line,) = node.ledger.history("commitment", "1.2.3.4")
    assert (line.to_state, "SCRIPTED" in line.reason) == ("refused", True)
    assert node.states() == [("sent", "")] * 3


def test_a_report_of_another_application_is_refused(node: Site) -> None:
    with commitment_peer() as peer:
        ask(node.asker(node.config(peer.port)), peer)
        assert peer.call(node.port, ae_title="SOMEBODY") == 0x0112
        assert node.states() == [("sent", "asked")] * 3
        assert peer.call(node.port) == 0x0000
    assert node.has(DeliveryState.COMMITTED)


def test_an_archive_that_never_reports_is_asked_several_times_and_then_no_more(
    node: Site,
) -> None:
    with commitment_peer() as peer:
        asker = node.asker(node.config(peer.port, commitment_within_s=1.0))
        asked_for_ago(node, timedelta(hours=1))
        for times in (1, 2, 3):
            ask(asker, peer, times)
            overdue(node)
            asker.tick()
            assert node.states() == [("sent", "wanted")] * 3
            overdue(node)
        asker.tick()
        asker.stop()
        assert node.states() == [("sent", "unanswered")] * 3
        assert len({transaction for transaction, _ in peer.asked}) == 3
        # A late report still counts.
        assert peer.call(node.port, number=0) == 0x0000
    assert node.has(DeliveryState.COMMITTED)


def test_a_required_commitment_that_never_comes_is_asked_for_until_the_end(node: Site) -> None:
    with commitment_peer() as peer:
        asker = node.asker(
            node.config(peer.port, commitment_within_s=1.0, storage_commitment="required")
        )
        asked_for_ago(node, timedelta(hours=95))
        for times in (1, 2, 3, 4):
            ask(asker, peer, times)
            overdue(node)
            asker.tick()
            overdue(node)
        assert node.states() == [("sent", "wanted")] * 3
        asked_for_ago(node, timedelta(hours=97))
        asker.tick()
        asker.stop()
    assert node.has(DeliveryState.DEAD)
    assert set(node.reasons()) == {NO_REPORT}


def test_an_archive_without_storage_commitment_is_remembered(node: Site) -> None:
    with commitment_peer(sop_classes=()) as peer:
        config = node.config(peer.port)
        asker = node.asker(config)
        asker.tick()
        _finish(asker)
        assert node.states() == [("sent", "not_offered")] * 3
        assert node.ledger.commitments.not_offered_since("pacs") is not None
    node.ledger.commitments.leave([f"job-1:pacs:{n:02d}" for n in (1, 2, 3)], "wanted")
    # The archive is gone: a new process marks without asking.
    overdue(node)
    node.asker(config).tick()
    assert node.states() == [("sent", "not_offered")] * 3


def test_an_archive_without_the_required_commitment_never_counts_as_done(node: Site) -> None:
    with commitment_peer(sop_classes=()) as peer:
        asker = node.asker(node.config(peer.port, storage_commitment="required"))
        asker.tick()
        _finish(asker)
        assert {state for state, _ in node.states()} == {"sent"}
        asked_for_ago(node, timedelta(hours=97))
        asker._pauses["pacs"].until = datetime.now(UTC)
        asker.tick()
        asker.stop()
    assert node.has(DeliveryState.DEAD)
    assert set(node.reasons()) == {"commitment.not_offered"}


@pytest.mark.parametrize(
    ("status", "commitment"), [(0x0211, "not_offered"), (0x0110, "wanted"), (0xC000, "wanted")]
)
def test_a_refused_question_is_asked_again_where_that_may_help(
    node: Site, status: int, commitment: str
) -> None:
    with commitment_peer(status=status) as peer:
        ask(node.asker(node.config(peer.port)), peer)
    assert node.states() == [("sent", commitment)] * 3


def test_what_is_off_is_not_asked_for(node: Site) -> None:
    with commitment_peer() as peer:
        asker = node.asker(node.config(peer.port, storage_commitment="off"))
        asker.tick()
        asker.stop()
    assert (peer.asked, node.states()) == ([], [("sent", "off")] * 3)


def test_an_archive_that_is_away_leaves_nothing_behind_and_is_tried_later(node: Site) -> None:
    config = node.config(1)
    asker = node.asker(config)
    asker.tick()
    _finish(asker)
    assert node.states() == [("sent", "")] * 3
    assert asker._pauses["pacs"].until > datetime.now(UTC)
    assert node.ledger.commitments.overdue(datetime.now(UTC) + timedelta(days=9)) == []


def test_an_archive_that_hangs_holds_up_nobody_else(node: Site) -> None:
    with socket_peer() as silent:
        asker = node.asker(node.config(silent.port))
        asker.tick()
        (asking,) = asker._busy.values()
        assert asking.is_alive()
        # The round is over while the question still hangs; the next one leaves it alone.
        asker.tick()
        assert list(asker._busy.values()) == [asking]
        # Stopping does not wait for its answer either.
        asker.stop()
        assert not asking.is_alive()


def test_results_of_an_unfinished_shipment_wait_for_the_rest_a_while(tmp_path: Path) -> None:
    with site(tmp_path, listening=False) as node:
        node.sent(1, 2)
        now = datetime.now(UTC)
        assert node.ledger.commitments.wanting("pacs", now) == []
        later = node.ledger.commitments.wanting("pacs", now + timedelta(minutes=2))
        assert [one.delivery_id for one in later] == ["job-1:pacs:01", "job-1:pacs:02"]
