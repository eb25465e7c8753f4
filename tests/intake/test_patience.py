"""A peer that stops, or all but stops, in the middle of a message holds nobody up."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from dicom_node.errors import PeerUnavailable
from dicom_node.intake.query import Limits, QueryAssociation
from tests.intake.query_peer import FIND, MOVE, QueryPeer, query_peer, series_answer

LIMITS = Limits(
    connect_s=5, associate_s=1, answer_s=1, query_s=600, retrieve_answer_s=1, retrieve_s=600
)


class Between:
    """Passes on what both say; of the peer's so many bytes at once, the rest one by one."""

    def __init__(self, port: int, whole_messages: int, each_s: float) -> None:
        self._port, self._whole, self._each_s = port, whole_messages, each_s
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            here, _ = self._listener.accept()
            with here, socket.create_connection(("127.0.0.1", self._port)) as peer:
                up = threading.Thread(target=self._up, args=(here, peer))
                up.start()
                with contextlib.suppress(OSError):
                    for _ in range(self._whole):
                        here.sendall(peer.recv(65_536))
                    here.sendall(peer.recv(3))
                    while (byte := peer.recv(1)) and not self._ended.wait(self._each_s):
                        here.sendall(byte)
                peer.shutdown(socket.SHUT_RDWR)
                up.join()

    @staticmethod
    def _up(here: socket.socket, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while said := here.recv(65_536):
                peer.sendall(said)

    def close(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextlib.contextmanager
def slow_peer(whole_messages: int, each_s: float) -> Iterator[QueryPeer]:
    with query_peer((FIND, MOVE), series=[series_answer(4)]) as peer:
        between = Between(peer.port, whole_messages, each_s)
        peer.port = between.port
        try:
            yield peer
        finally:
            between.close()


@pytest.mark.parametrize("each_s", [0.2, 600.0])
@pytest.mark.parametrize("whole_messages", [0, 1])
def test_part_of_a_message_is_not_waited_for_longer_than_a_message(
    whole_messages: int, each_s: float
) -> None:
    with slow_peer(whole_messages, each_s) as peer, pytest.raises(
        PeerUnavailable, match="did not a"
    ), QueryAssociation("NODE", peer.settings(), LIMITS) as association:
        association.count_instances("1.2", "1.2.3")
    assert "patience" not in {thread.name for thread in threading.enumerate()}


def test_a_retrieval_of_which_part_of_an_answer_comes_is_given_up_as_well() -> None:
    with slow_peer(1, 600.0) as peer, pytest.raises(
        PeerUnavailable
    ), QueryAssociation("NODE", peer.settings(), LIMITS) as association:
        association.move("NODE", "1.2", "1.2.3")


def test_a_query_that_waits_for_the_rest_of_a_message_can_be_broken_off() -> None:
    patient = Limits(connect_s=5, associate_s=600, answer_s=600, query_s=600)
    with slow_peer(1, 600.0) as peer, contextlib.suppress(PeerUnavailable):
        association = QueryAssociation("NODE", peer.settings(), patient)
        ender = threading.Timer(0.5, association.abort)
        with pytest.raises(PeerUnavailable), association:
            ender.start()
            association.count_instances("1.2", "1.2.3")
        ender.join()
