"""The Storage and Verification SCP of one process."""

from __future__ import annotations

import gc
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from dicom_node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.events import Events
from dicom_node.intake.active import ActiveAssociations
from dicom_node.intake.association import (
    IntakeAssociation,
    StreamedAssociation,
    Surroundings,
    wait_until,
)
from dicom_node.intake.contexts import SupportedContexts
from dicom_node.intake.normalised import NormalisedServices
from dicom_node.intake.pressure import Room, StudyBytes
from dicom_node.intake.settings import ListenerSettings
from dicom_node.intake.stock import handle_echo, handle_store
from dicom_node.intake.store import Index
from dicom_node.intake.upper_layer import IntakeSocket
from dicom_node.spool import Spool

if TYPE_CHECKING:
    from dicom_node.config import Config

DRAIN_S = 10.0
_COLLECT_EVERY = 200


class _Requests(RequestHandler):
    """Makes our kind of association of an accepted connection."""

    server: _Server

    def _create_association(self) -> IntakeAssociation:
        server = self.server
        association = server.make(server.ae, server.surroundings)
        association._server = server
        association.name = f"AcceptorThread@{server.surroundings.index.listener_id}"
        if isinstance(association, StreamedAssociation):
            self.request.setblocking(False)
            wrapped = IntakeSocket(association, client_socket=self.request)
            wrapped.send_timeout_s = server.surroundings.settings.dimse_timeout_s
            association.set_socket(wrapped)
        else:
            self.request.settimeout(server.surroundings.settings.network_timeout_s)
            association.set_socket(AssociationSocket(association, client_socket=self.request))
        association.acceptor.maximum_length = server.ae.maximum_pdu_size
        association.acceptor.ae_title = server.ae_title
        association.acceptor.address_info = self.local
        association.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        association.acceptor.implementation_version_name = server.ae.implementation_version_name
        association.requestor.address_info = self.remote
        association.bind(evt.EVT_C_ECHO, handle_echo)
        association.bind(evt.EVT_C_STORE, handle_store)
        server.associations.add(association)
        return association


class _Associations:
    """The associations whose threads run."""

    def __init__(self) -> None:
        self._alive: list[IntakeAssociation] = []
        self._lock = threading.Lock()
        self._added = 0

    def add(self, association: IntakeAssociation) -> None:
        with self._lock:
            self._alive = [one for one in self._alive if one.is_alive()]
            self._alive.append(association)
            self._added += 1
            if self._added % _COLLECT_EVERY == 0:
                # pynetdicom's associations are reference cycles with sockets in them.
                gc.collect()

    def alive(self) -> list[IntakeAssociation]:
        with self._lock:
            return [one for one in self._alive if one.is_alive()]


class _Server(AssociationServer):
    """The listening socket, shared by port with the other listener processes."""

    def __init__(
        self,
        ae: ApplicationEntity,
        address: tuple[str, int],
        surroundings: Surroundings,
        make: Callable[[ApplicationEntity, Surroundings], IntakeAssociation],
    ) -> None:
        self.surroundings = surroundings
        self.make = make
        self.associations = _Associations()
        self.request_queue_size = max(128, 2 * surroundings.settings.max_associations)
        super().__init__(ae, address, ae.ae_title, [], request_handler=_Requests)

    def server_bind(self) -> None:
        listening = cast(socket.socket, self.socket)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
        listening.settimeout(None)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, request: object, client_address: object) -> bool:
        # Connections that never ask for an association hold threads until the ACSE time-out.
        limit = 2 * self.surroundings.settings.max_associations + 16
        return len(self.associations.alive()) < limit

    def service_actions(self) -> None:
        """Without pynetdicom's full garbage collection twice a minute."""

    def handle_error(self, request: object, client_address: object) -> None:
        self.surroundings.events.unexpected("intake.accept")


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
    ) -> None:
        self.settings = (
            config if isinstance(config, ListenerSettings) else ListenerSettings.of(config)
        )
        contexts = SupportedContexts(
            self.settings.private_sop_classes, services.sop_classes if services else ()
        )
        active = active or ActiveAssociations()
        room = Room(
            active, spool.free_bytes, self.settings.refuse_below_free_bytes, study_bytes
        )
        self._surroundings = Surroundings(
            self.settings, contexts, spool, index, events, active, services, room
        )
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen; returns the port (chosen by the system when configured as 0).

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
        is_stock = settings.receive_path == "stock"
        if is_stock:
            _config.STORE_RECV_CHUNKED_DATASET = True
        make = IntakeAssociation if is_stock else StreamedAssociation
        address = (settings.host, settings.port)
        self._server = _Server(entity, address, self._surroundings, make)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="intake-accept", daemon=True
        )
        self._thread.start()
        return int(self._server.server_address[1])

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Accept no more; let half-received messages finish, at most `drain_s` seconds."""
        server, self._server = self._server, None
        if server is None:
            return
        socketserver.TCPServer.shutdown(server)
        server.server_close()
        for association in server.associations.alive():
            association.request_close()
        if not wait_until(lambda: not server.associations.alive(), drain_s):
            for association in server.associations.alive():
                association.close_hard()
            wait_until(lambda: not server.associations.alive(), DRAIN_S)
        if self.settings.receive_path == "stock":
            _config.STORE_RECV_CHUNKED_DATASET = False
        if self._thread is not None:
            self._thread.join()
