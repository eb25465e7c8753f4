"""No network while a model is loaded, whoever loads it.

An inference worker refuses sockets for its whole life. Models are also loaded elsewhere (by the
command that verifies a card), so that a back-end whose library may download asks here as well.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ai_models.types import ModelError

_REFUSED = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")
_state = threading.local()
_installing = threading.Lock()
_installed: list[bool] = []


@contextmanager
def no_network(what: str) -> Iterator[None]:
    """Refuse every socket that this thread opens inside of the block.

    Raises
    ------
    ModelError
        ``model.network_needed``: something in the block asked for the network; ``what`` is named.
    """
    _install()
    before = getattr(_state, "refuses", False)
    _state.refuses = True
    try:
        yield
    except Exception as error:  # a library wraps what the socket raised in types of its own
        if not wanted_network(error):
            raise
        raise ModelError(
            f"{what} wants to download something while it is loaded: put all it needs into its "
            "folder", reason="model.network_needed",
        ) from error
    finally:
        _state.refuses = before


def wanted_network(error: BaseException) -> bool:
    """Whether an error began with a socket that was refused, here or by the worker."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, PermissionError) and str(one).startswith("socket."):
            return True
        reason = getattr(one, "reason", None)  # urllib keeps the cause there
        waiting += [one.__cause__, one.__context__]
        waiting += [reason] if isinstance(reason, BaseException) else []
    return False


def _install() -> None:
    with _installing:
        if not _installed:
            sys.addaudithook(_refuse)  # there is no way to remove one: it is silent outside
            _installed.append(True)


def _refuse(event: str, _arguments: object) -> None:
    if event in _REFUSED and getattr(_state, "refuses", False):
        raise PermissionError(f"{event} is refused while a model is loaded")
