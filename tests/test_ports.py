from __future__ import annotations

import socket

from tests.ports import _ports_of, free_port


def test_no_two_workers_are_given_the_same_port() -> None:
    given = [set(_ports_of(f"gw{number}")) for number in range(8)]
    assert len(set().union(*given)) == sum(map(len, given))


def test_port_that_somebody_listens_on_is_passed_over_and_none_is_given_twice() -> None:
    first = free_port()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", first + 1))
        listening.listen()
        second = free_port()
    assert second not in (first, first + 1)


def test_ports_given_are_none_that_the_system_hands_out() -> None:
    with socket.socket() as anybody:
        anybody.bind(("127.0.0.1", 0))
        assert free_port() < 32_768 <= anybody.getsockname()[1]
