"""TLS contexts of DICOM connections, in and out, made of the files of ``security.tls``.

    Renewed(server_context, settings).get()    for callers of the node
    outgoing(peer)                             for the peers that it calls

Profiles (PS3.15 B.12 and B.13, which rest on BCP 195): TLS 1.2 and 1.3, nothing older (RFC 8996);
authenticated encryption and ephemeral keys only; the node's order of suites counts. Security
level 2 of OpenSSL refuses RSA and DH keys below 2048 bits and elliptic curves below 224. Sessions
are not resumed: each connection shows its certificate anew.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from dicom_node.config_peers import PeerSettings
    from dicom_node.config_security import TlsSettings

# Suites of TLS 1.2 in OpenSSL's words; those of TLS 1.3 are OpenSSL's own three in every profile.
CIPHERS = {
    # RFC 7525 section 4.2, which B.12 named until 2024 and most devices know, and its like.
    "bcp195": "ECDHE+AESGCM:DHE+AESGCM:ECDHE+CHACHA20",
    # RFC 9325 section 4.2.
    "bcp195_rfc9325": "ECDHE+AESGCM",
    # B.13 as far as OpenSSL has its suites: it lacks Camellia in GCM.
    "bcp195_extended": "ECDHE+AESGCM+AES256:ECDHE+CHACHA20:ECDHE+AESGCM",
}
_ALWAYS = ":!aNULL:!eNULL:!PSK:!DSS:!SRP@SECLEVEL=2"
_LONGEST_PASSWORD_BYTES = 1024
_LONGEST_FILE_BYTES = 1 << 20

Made = TypeVar("Made")


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """The context in which callers are answered.

    Raises
    ------
    ConfigurationError
        A file is missing, broken or does not fit the others; the message names its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_up(context, settings)
    context.num_tickets = 0
    if settings.client_certificates == "required":
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class PeerContext(ssl.SSLContext):
    """A client's context whose sockets end their handshake only with a certificate of the peer's.

    With ``names`` the certificate must be of one of them, whatever address was called; without,
    of the host as OpenSSL checks it: a DNS name (the common name where there is none), or the
    address among the certificate's IP addresses.
    """

    names: frozenset[str] = frozenset()


class PeerSocket(ssl.SSLSocket):
    """Checks the names of a `PeerContext`."""

    def do_handshake(self, block: bool = False) -> None:
        """See `ssl.SSLSocket.do_handshake`; a wrong name raises `ssl.SSLCertVerificationError`."""
        super().do_handshake(block)
        context = self.context
        names = context.names if isinstance(context, PeerContext) else frozenset()
        if names and names.isdisjoint(names_of(self.getpeercert())):
            raise ssl.SSLCertVerificationError(
                "the certificate is of none of the peer's certificate_names"
            )


def client_context(settings: TlsSettings, names: Iterable[str] = ()) -> PeerContext:
    """The context in which the node calls a peer; raises as `server_context`."""
    context = PeerContext(ssl.PROTOCOL_TLS_CLIENT)
    context.names = normalised(names)
    context.check_hostname = not context.names
    context.verify_mode = ssl.CERT_REQUIRED
    context.sslsocket_class = PeerSocket
    _set_up(context, settings)
    return context


def _set_up(context: ssl.SSLContext, settings: TlsSettings) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS[settings.profile] + _ALWAYS)
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE | ssl.OP_SINGLE_DH_USE
    )
    password = _password(settings.key_password_file)
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(
            settings.certificate_file, settings.key_file, lambda: password or b""
        )
    except (OSError, ValueError) as error:
        raise _problem("certificate_file", settings.certificate_file, error,
                       f" with the key {settings.key_file}") from error
    try:
        context.load_verify_locations(settings.ca_file)
        if b"-----BEGIN X509 CRL-----" in _content(settings.ca_file):
            # Certificates withdrawn before their end: a list of each issuer stands in the file.
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (OSError, ValueError) as error:
        raise _problem("ca_file", settings.ca_file, error) from error


def _password(file: Path | None) -> bytes:
    if file is None:
        return b""
    try:
        return _content(file)[:_LONGEST_PASSWORD_BYTES].strip()
    except OSError as error:
        raise _problem("key_password_file", file, error) from error


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_LONGEST_FILE_BYTES)


def _problem(
    key: str, file: Path, error: OSError | ValueError, also: str = ""
) -> ConfigurationError:
    if isinstance(error, ssl.SSLError):
        why = (error.reason or "not PEM").replace("_", " ").lower()
    else:
        why = getattr(error, "strerror", None) or type(error).__name__
    return ConfigurationError(f"cannot use {file}{also}: {why}", key_path=f"security.tls.{key}")


class Renewed(Generic[Made]):
    """Something made of the files of ``security.tls``, made anew when one of them has changed.

    While the new files cannot be used (half copied, of two pairs, broken) the former stays.
    Safe for several threads.

    Parameters
    ----------
    make
        Makes it of the settings; raises `ConfigurationError`.
    settings
        Names the files.
    told
        Told in a word when the files were taken up (empty), or why they were not.
    """

    def __init__(
        self,
        make: Callable[[TlsSettings], Made],
        settings: TlsSettings,
        told: Callable[[str], None] = lambda problem: None,
    ) -> None:
        self._make = make
        self._settings = settings
        self._told = told
        self._lock = threading.Lock()
        self._files = _state(settings)
        self._made = make(settings)

    def get(self) -> Made:
        """What is made of the files as they are, or as they were when they last could be used."""
        with self._lock:
            files = _state(self._settings)
            if files == self._files:
                return self._made
            self._files = files
            try:
                self._made = self._make(self._settings)
                problem = ""
            except ConfigurationError as error:
                problem = str(error)
        self._told(problem)
        return self._made


def _state(settings: TlsSettings) -> tuple[tuple[int, int, int] | None, ...]:
    files = (settings.certificate_file, settings.key_file, settings.ca_file,
             settings.key_password_file)
    return tuple(_state_of(file) if file is not None else None for file in files)


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(frozen=True)
class Outgoing:
    """The context to call a peer in, and the name that its certificate is checked for."""

    context: ssl.SSLContext
    server_hostname: str


_contexts: dict[tuple[str, frozenset[str]], Renewed[PeerContext]] = {}
_contexts_lock = threading.Lock()


def outgoing(peer: PeerSettings) -> Outgoing | None:
    """How to call a peer; ``None``: without TLS. Contexts are made once and renewed with the files.

    Raises
    ------
    ConfigurationError
        It is to be called by TLS, and the files could not be used since the process began.
    """
    if not peer.tls:
        return None
    settings = peer.tls_settings
    if settings is None:
        raise ConfigurationError("is null", key_path="security.tls")
    wanted = normalised(peer.certificate_names)
    key = (settings.model_dump_json(), wanted)
    with _contexts_lock:
        renewed = _contexts.get(key)
        if renewed is None:
            renewed = Renewed(lambda files: client_context(files, wanted), settings)
            _contexts[key] = renewed
    return Outgoing(renewed.get(), peer.host.strip("[]"))


def complete_handshake(connection: ssl.SSLSocket, deadline: float) -> None:
    """Do the whole handshake; ``deadline`` (s, monotonic clock) holds however slowly bytes come.

    The connection does not block afterwards.

    Raises
    ------
    TimeoutError, ssl.SSLError, OSError
        `failure_reason` names the cause.
    """
    connection.setblocking(False)
    while True:
        try:
            connection.do_handshake()
            return
        except ssl.SSLWantReadError:
            wait_for(connection, select.POLLIN, deadline)
        except ssl.SSLWantWriteError:
            wait_for(connection, select.POLLOUT, deadline)


def wait_for(connection: socket.socket, events: int, deadline: float) -> None:
    """Until the system can read or write; raises TimeoutError at the deadline (monotonic, s)."""
    left_s = deadline - time.monotonic()
    poller = select.poll()
    poller.register(connection, events)
    if left_s <= 0 or not poller.poll(left_s * 1000):
        raise TimeoutError("the TLS handshake did not come to its end")


def normalised(names: Iterable[str]) -> frozenset[str]:
    """Names as they are compared: without regard to case, and without a dot at the end."""
    return frozenset(name.strip().rstrip(".").lower() for name in names)


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """DNS names and common names of a certificate as `ssl.SSLSocket.getpeercert` gives it."""
    if not certificate:
        return frozenset()
    found = [str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    for part in certificate.get("subject", ()):
        found += [str(value) for name, value in part if name == "commonName"]
    return normalised(found)


def failure_reason(error: OSError) -> str:
    """A stable code of what kept a handshake from its end, such as ``tls.unsupported_protocol``."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _code(getattr(error, "verify_message", "") or "certificate_of_another_name")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "tls.connection_lost"
    if isinstance(error, ssl.SSLError):
        return _code(error.reason or "failed")
    return "tls.timeout" if isinstance(error, TimeoutError) else "tls.connection_lost"


def _code(text: str) -> str:
    # Some messages of OpenSSL quote what they looked for.
    plain = text.split("'", maxsplit=1)[0].lower()
    words = "".join(one if one.isalnum() else " " for one in plain).split()
    return "tls." + "_".join(words)[:60]
