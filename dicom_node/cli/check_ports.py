"""What `check` says of the ports: free, taken by somebody else, or answered by the node."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from dicom_node.cli.opened import running_roles
from dicom_node.operations.doctor import Finding, failed, ok, warning
from dicom_node.operations.liveness import DoorWatch

if TYPE_CHECKING:
    from dicom_node.config import Config

TODO = "see who has it: ss -ltnp"
_FIRST_FREE_FOR_ALL = 1024


def listeners(config: Config) -> list[Finding]:
    """One finding for each port of the settings that is to be listened on."""
    running = running_roles(config)
    has_the_page = "web" in running_roles(config, ("web",))
    doors = [("port", "node.port", config.node.host, config.node.port, "intake")]
    tls = config.security.tls
    if tls is not None and tls.port:
        doors.append(("TLS port", "security.tls.port", config.node.host, tls.port, "intake"))
    if config.web.enabled:
        doors.append(("web port", "web.port", config.web.host, config.web.port, "web"))
    found = []
    for name, key, host, port, role in doors:
        if port == 0:
            found.append(ok(f"{name} 0", "any free one"))
        elif role == "web" and running and not has_the_page:
            found.append(ok(f"{name} {port}", "what runs here does not have the role web"))
        elif role in running or (role == "web" and has_the_page):
            found.append(_answered(f"{name} {port}", host, port))
        else:
            found.append(_free(f"{name} {port}", key, host, port))
    return found


def _answered(name: str, host: str, port: int) -> Finding:
    if DoorWatch(lambda: [(host, port)]).are_open():
        return ok(name, f"the node that runs here takes connections on {host}")
    return failed(name, f"the node runs, and takes no connection on {host}",
                  "journalctl -u dicom-node; systemctl restart dicom-node")


def _free(name: str, key: str, host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except OSError as error:
        if error.errno == errno.EACCES and port < _FIRST_FREE_FOR_ALL:
            return warning(name, "this user may not take it, so that it cannot be tried",
                           "the unit gives CAP_NET_BIND_SERVICE; or a port from 1024 on")
        if error.errno == errno.EADDRINUSE:
            return failed(name, f"another program has it on {host}, and no node runs here",
                          f"ss -ltnp 'sport = :{port}' shows which one; or another {key}")
        return failed(name, f"{host} cannot be listened on: {error.strerror}",
                      f"an address of this machine, or 0.0.0.0: see {key}")
    return ok(name, f"is free on {host}")
