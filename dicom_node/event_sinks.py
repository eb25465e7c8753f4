"""Who is told what happens besides the log: metrics, audit trail, tracing, another process.

Part of `dicom_node.events`: its `Events` is the one `Told` that there is.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

Sink = Callable[[str, Mapping[str, object]], None]

_log = logging.getLogger("dicom_node")


class Told:
    """Every public method of a subclass that answers nothing is an event, which sinks get too.

    Once it has returned, they get its name and its arguments, by name and as they came: not yet
    hashed. Sinks are called in the thread of whom it happened to, and must not block; one that
    raises is told of once for each kind of event, and disturbs neither the caller nor the others.
    """

    # Here too, for those that are made without them.
    _sinks: tuple[Sink, ...] = ()
    _failed: frozenset[tuple[Sink, str]] = frozenset()

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def __init_subclass__(cls) -> None:
        known = set(dir(cls.__base__))
        for name, method in list(vars(cls).items()):
            # What only says anew what an event does is told by what it calls.
            if name.startswith("_") or name in known or not inspect.isfunction(method):
                continue
            if inspect.get_annotations(method).get("return") in (None, "None"):
                setattr(cls, name, _told(method))

    def add_sink(self, sink: Sink) -> None:
        """Tell this one too from now on."""
        self._sinks = (*self._sinks, sink)

    def tell(self, event: str, arguments: Mapping[str, object]) -> None:
        """Give the sinks, and not the log, what another process has logged by itself."""
        for sink in self._sinks:
            try:
                sink(event, arguments)
            # A boundary: no bookkeeping may end what it keeps the books of.
            except Exception:  # noqa: BLE001
                if (sink, event) not in self._failed:
                    self._failed |= {(sink, event)}
                    _log.error("unexpected error", extra={"fields": {"where": f"sink of {event}"}},
                               exc_info=True)


def _told(method: Callable[..., None]) -> Callable[..., None]:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    names = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD]
    left_out = {one.name: one.default for one in parameters if one.default is not one.empty}

    @functools.wraps(method)
    def event(self: Told, *values: Any, **named: Any) -> None:
        method(self, *values, **named)
        if self._sinks:
            # More values than names: the method has raised.
            self.tell(method.__name__, {**left_out, **dict(zip(names, values, strict=False)),
                                        **named})

    return event
