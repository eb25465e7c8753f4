"""Associations that outlive one list of files, so that what waits together goes out together.

An association that has done its work is kept for a moment. The next list for the same peer takes
it over where it knows the contexts that the list needs; otherwise it is released.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom_node.delivery.association import Association, Context, Timeouts
from dicom_node.delivery.open_sockets import STOPPING, OpenSockets
from dicom_node.errors import PeerUnavailable

if TYPE_CHECKING:
    from dicom_node.config import PeerSettings


class AssociationPool:
    """Opens associations, keeps idle ones for ``idle_s`` and ends them all when asked.

    Parameters
    ----------
    calling_ae_title
        The node's own AE title.
    timeouts
        How long to wait for a peer.
    idle_s
        How long an association is kept that has nothing to do; 0 releases it at once.
    """

    def __init__(self, calling_ae_title: str, timeouts: Timeouts, idle_s: float) -> None:
        self._calling_ae_title = calling_ae_title
        self._timeouts = timeouts
        self._idle_s = idle_s
        self._sockets = OpenSockets()
        self._lock = threading.Lock()
        self._idle: dict[Association, tuple[object, threading.Timer]] = {}
        self._stopping = False

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._stopping

    def open(self, peer: PeerSettings, contexts: Sequence[Context]) -> Association:
        """A new association; raises `PeerUnavailable`, with `STOPPING` when the node stops."""
        try:
            if not self._stopping:
                return Association(
                    peer, self._calling_ae_title, contexts, self._timeouts, self._sockets
                )
        except PeerUnavailable:
            # Cut off by `close`: that says nothing about the peer.
            if not self._stopping:
                raise
        raise PeerUnavailable("the node is stopping", reason=STOPPING)

    def take_idle(self, peer: PeerSettings, contexts: Sequence[Context]) -> Association | None:
        """An idle association with this peer that knows these contexts, if there is one."""
        with self._lock:
            fitting = (
                association for association, (key, _) in self._idle.items()
                if key == _key(peer) and association.knows(contexts) and association.is_quiet()
            )
            taken = next(fitting, None)
            if taken is not None:
                _, timer = self._idle.pop(taken)
                timer.cancel()
            return taken

    def give_back(self, peer: PeerSettings, association: Association) -> None:
        """Keep an association that has nothing to do, or release it."""
        with self._lock:
            if self._idle_s > 0 and not self._stopping:
                timer = threading.Timer(self._idle_s, self._release, [association])
                timer.daemon = True
                self._idle[association] = (_key(peer), timer)
                timer.start()
                return
        association.release()

    def _release(self, association: Association) -> None:
        with self._lock:
            if self._idle.pop(association, None) is None:
                return
        association.release()

    def close(self, grace_s: float) -> None:
        """Begin nothing new, let what runs have ``grace_s``, then cut the rest off."""
        with self._lock:
            self._stopping = True
            idle = list(self._idle)
            for _, timer in self._idle.values():
                timer.cancel()
            self._idle.clear()
        for association in idle:
            association.abort()
        self._sockets.wait_until_none(grace_s)
        self._sockets.cut_all()


def _key(peer: PeerSettings) -> object:
    return (peer.ae_title, peer.host, peer.port)
