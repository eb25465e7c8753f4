"""The Storage and Verification SCP of one process."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.transport import AddressInformation

from dicom_node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.events import Events
from dicom_node.intake.accepted_socket import AcceptedSocket, IntakeSocket
from dicom_node.intake.active import ActiveAssociations
from dicom_node.intake.association import (
    IntakeAssociation,
    StreamedAssociation,
    Surroundings,
    wait_until,
)
from dicom_node.intake.contexts import SupportedContexts
from dicom_node.intake.door import Door, Visitor, listening_socket
from dicom_node.intake.normalised import NormalisedServices
from dicom_node.intake.pressure import Room, StudyBytes
from dicom_node.intake.quota import Quotas
from dicom_node.intake.refusals import Refusals
from dicom_node.intake.settings import ListenerSettings
from dicom_node.intake.stock import handle_echo, handle_store
from dicom_node.intake.store import Index
from dicom_node.spool import Spool
from dicom_node.tls_context import Renewed, server_context

if TYPE_CHECKING:
    from dicom_node.config import Config

DRAIN_S = 10.0
_COLLECT_EVERY = 200


class _Associations:
    """The associations whose threads run."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._alive: list[IntakeAssociation] = []
        self._lock = threading.Lock()
        self._added = 0

    def add(self, association: IntakeAssociation) -> None:
        """Keep an eye on one more; when they are too many, cut off who has not asked for long."""
        with self._lock:
            self._alive = [one for one in self._alive if one.is_alive()]
            unasked = [one for one in self._alive if one.received is None and not one.is_cut]
            if len(self._alive) >= self._most and unasked:
                unasked[0].close_hard()
            self._alive.append(association)
            self._added += 1
            if self._added % _COLLECT_EVERY == 0:
                # pynetdicom's associations are reference cycles with sockets in them.
                gc.collect()

    def alive(self) -> list[IntakeAssociation]:
        with self._lock:
            return [one for one in self._alive if one.is_alive()]


class _Reception:
    """Makes associations of those who have begun to speak."""

    def __init__(self, entity: ApplicationEntity, surroundings: Surroundings) -> None:
        settings = surroundings.settings
        self._entity = entity
        self._surroundings = surroundings
        self._streamed = settings.receive_path != "stock"
        self.associations = _Associations(2 * settings.max_associations + 16)

    def admit(self, visitor: Visitor) -> None:
        """Start an association; it decides by itself whether it is one."""
        association = self._associate(visitor)
        association._server = cast(Any, self)
        self.associations.add(association)
        association.start()

    def shutdown_request(self, connection: socket.socket) -> None:
        """What pynetdicom's associations call at their end."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_WR)
        connection.close()

    def _associate(self, visitor: Visitor) -> IntakeAssociation:
        entity, surroundings = self._entity, self._surroundings
        settings = surroundings.settings
        make = StreamedAssociation if self._streamed else IntakeAssociation
        association = make(entity, surroundings)
        association.visitor = visitor
        association.name = f"AcceptorThread@{surroundings.index.listener_id}"
        if self._streamed:
            wrapped: AcceptedSocket = IntakeSocket(association, client_socket=visitor.connection)
            cast(IntakeSocket, wrapped).send_timeout_s = settings.dimse_timeout_s
        else:
            visitor.connection.settimeout(settings.network_timeout_s)
            wrapped = AcceptedSocket(association, client_socket=visitor.connection)
        association.set_socket(wrapped)
        association.acceptor.maximum_length = entity.maximum_pdu_size
        association.acceptor.ae_title = settings.ae_title
        association.acceptor.address_info = AddressInformation(settings.host, settings.port)
        association.acceptor.implementation_class_uid = entity.implementation_class_uid
        association.acceptor.implementation_version_name = entity.implementation_version_name
        association.requestor.address_info = AddressInformation(*visitor.address)
        association.bind(evt.EVT_C_ECHO, handle_echo)
        association.bind(evt.EVT_C_STORE, handle_store)
        return association


class Listener:
    """An in-process SCP.

    Parameters
    ----------
    config
        The node's `Config`, or the `ListenerSettings` of it.
    spool
        Where files go.
    index
        Who is told what was stored (`Indexer`).
    events
        Log and metrics.
    active
        Places for associations, when several processes share them.
    services
        What is done with DIMSE-N requests; None: their SOP classes are not offered.
    study_bytes
        Caller and size of the last studies, for what the next may need (`Room`).
    quotas
        What callers have taken, when several processes count together.
    """

    def __init__(
        self,
        config: Config | ListenerSettings,
        spool: Spool,
        index: Index,
        events: Events,
        active: ActiveAssociations | None = None,
        services: NormalisedServices | None = None,
        study_bytes: StudyBytes = tuple,
        quotas: Quotas | None = None,
    ) -> None:
        self.settings = (
            config if isinstance(config, ListenerSettings) else ListenerSettings.of(config)
        )
        contexts = SupportedContexts(
            self.settings.private_sop_classes, services.sop_classes if services else ()
        )
        active = active or ActiveAssociations()
        room = Room(
            active, spool.free_bytes, self.settings.spool.refuse_below_free_bytes, study_bytes
        )
        tls = self.settings.tls
        self._surroundings = Surroundings(
            self.settings, contexts, spool, index, events, Refusals(events), active, services,
            room, quotas or Quotas(self.settings),
            Renewed(server_context, tls) if tls is not None else None,
        )
        self._door: Door | None = None
        self._reception: _Reception | None = None
        self.tls_port = 0

    def start(self) -> int:
        """Listen; returns the port (chosen by the system when configured as 0).

        ``tls_port`` is then the one that speaks TLS, 0 where none does.

        Raises
        ------
        OSError
            The port is taken, or the host is not one of this machine's addresses.
        """
        settings = self.settings
        entity = ApplicationEntity(settings.ae_title)
        entity.maximum_pdu_size = settings.max_pdu_bytes
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.acse_timeout = settings.acse_timeout_s
        entity.dimse_timeout = settings.dimse_timeout_s
        entity.network_timeout = settings.network_timeout_s
        # The limit over all processes is ours (`ActiveAssociations`).
        entity.maximum_associations = 1_000_000
        if settings.receive_path == "stock":
            _config.STORE_RECV_CHUNKED_DATASET = True
        reception = self._reception = _Reception(entity, self._surroundings)
        sockets = self._listen()
        self._door = Door(
            sockets, settings.allowed_networks, settings.acse_timeout_s, reception.admit,
            self._surroundings.refusals.tell,
            lambda: self._surroundings.events.unexpected("intake.accept"),
            proxies=settings.proxies,
        )
        self._door.open()
        return int(sockets[0][0].getsockname()[1])

    def _listen(self) -> list[tuple[socket.socket, bool]]:
        settings = self.settings
        is_apart = settings.tls is not None and settings.tls_port is not None
        first = listening_socket(settings.host, settings.port)
        sockets = [(first, settings.tls is not None and not is_apart)]
        if is_apart:
            try:
                second = listening_socket(settings.host, settings.tls_port or 0)
            except OSError:
                first.close()
                raise
            sockets.append((second, True))
        self.tls_port = next((int(one.getsockname()[1]) for one, tls in sockets if tls), 0)
        return sockets

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Accept no more; let half-received messages finish, at most `drain_s` seconds."""
        door, self._door = self._door, None
        if door is None or self._reception is None:
            return
        door.close()
        associations = self._reception.associations
        for association in associations.alive():
            association.request_close()
        if not wait_until(lambda: not associations.alive(), drain_s):
            for association in associations.alive():
                association.close_hard()
            wait_until(lambda: not associations.alive(), DRAIN_S)
        if self.settings.receive_path == "stock":
            _config.STORE_RECV_CHUNKED_DATASET = False
