from __future__ import annotations

import socket
import threading
import urllib.request

import pytest

from ai_models.backends.offline import no_network, wanted_network
from ai_models.types import ModelError


def _fetch(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/weights.pt", timeout=5) as answer:
        return bytes(answer.read())


def test_a_download_while_loading_says_that_the_network_is_needed() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ModelError) as raised,
        no_network("lungs"),
    ):
        _fetch(server.getsockname()[1])
    assert raised.value.reason == "model.network_needed"
    assert "lungs" in str(raised.value)


def test_the_network_is_there_again_afterwards() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ModelError), no_network("lungs"):
            _fetch(server.getsockname()[1])
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_another_thread_keeps_its_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, no_network("lungs"):
        failed: list[BaseException] = []

        def connect() -> None:
            try:
                socket.create_connection(server.getsockname(), timeout=5).close()
            except PermissionError as error:
                failed.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
    assert failed == []


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(PermissionError, match="disk"), no_network("lungs"):
        raise PermissionError("disk")
    assert not wanted_network(PermissionError("disk"))
