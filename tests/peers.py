"""Real peers for tests: Orthanc and DCMTK, run as a hospital would run them.

Their servers listen on every interface of the machine, so they are started only where there is
no interface but loopback: ``make test`` runs pytest in a network namespace of its own. Elsewhere
their tests are skipped and say why. A program that is not installed is a skip that names its
Debian package.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from dicom_node.config import PeerSettings
from tests.ports import free_port

_PACKAGES = {
    "Orthanc": "orthanc",
    "storescp": "dcmtk",
    "storescu": "dcmtk",
    "dcmsend": "dcmtk",
    "dcmcjpls": "dcmtk",
    "dcmcjpeg": "dcmtk",
    "dcmcrle": "dcmtk",
    "gdcmconv": "libgdcm-tools",
    "dciodvfy": "dicom3tools",
}
_DICOMWEB_PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/lib/orthanc/libOrthancDicomWeb.so"),
)
_READY_WITHIN_S = 60.0
_STOPPED_WITHIN_S = 20.0
_SIOCGIFFLAGS = 0x8913
_IFF_UP = 0x1
# Without it DCMTK waits 40 ms for a delayed ACK after each instance.
_ENVIRONMENT = {"TCP_NODELAY": "1"}


def in_private_network() -> bool:
    """Whether loopback is up and no other interface is, so that nobody outside can connect."""
    up = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFFLAGS, request)
            if struct.unpack_from("H", answer, 16)[0] & _IFF_UP:
                up.add(name)
    return up == {"lo"}


def need_private_network() -> None:
    """Skip the test where a server of another maker would be reachable from outside."""
    if not in_private_network():
        pytest.skip(
            "Orthanc and DCMTK servers listen on every interface: run in a network namespace "
            "with only loopback (`make test`, or `unshare -rn sh -c 'ip link set lo up; pytest'`)"
        )


def need_program(name: str) -> str:
    """The program's path; skips the test, naming the Debian package, where it is missing."""
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian package {_PACKAGES.get(name, name)})")
    return path


class _Server:
    """A child process that is ready when its port answers and is ended by its own handle."""

    def __init__(self, name: str, directory: Path) -> None:
        need_private_network()
        self._program = need_program(name)
        self.directory = directory
        self.log_path = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _spawn(self, arguments: Sequence[str], ready: Callable[[], bool]) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                env={**os.environ, **_ENVIRONMENT},
            )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._program} did not start:\n{self.log_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process in order, so that it can be started again, and wait for it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log_text(self) -> str:
        """What the server has printed."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _kill(self) -> None:
        """End the process at once: Orthanc takes seconds to end in order."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._kill()
        if kind is not None:
            # pytest shows captured stderr of a failed test.
            print(f"--- {self.log_path.name}\n{self.log_text()[-4000:]}", file=sys.stderr)


class Orthanc(_Server):
    """An Orthanc archive with DICOM, REST and (where the plugin is installed) DICOMweb.

    Parameters
    ----------
    directory
        Where its configuration, index, storage and log go.
    modalities
        Peers that it may move to and call back (storage commitment):
        name -> (AE title, host, port).
    configuration
        Merged over the configuration file, for example ``{"UnknownSopClassAccepted": True}``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ae_title: str = "ORTHANC",
        modalities: Mapping[str, tuple[str, str, int]] | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        directory = directory / "orthanc"
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__("Orthanc", directory)
        self.ae_title = ae_title
        self.port = free_port()
        self.http_port = free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._modalities = {name: list(peer) for name, peer in (modalities or {}).items()}
        self._configuration = dict(configuration or {})

    @property
    def peer(self) -> PeerSettings:
        """This archive as a configured peer of the node."""
        return PeerSettings(
            name="orthanc", ae_title=self.ae_title, host="127.0.0.1", port=self.port
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start; after :meth:`stop` it comes back on the same ports with the same storage."""
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(self._settings()))
        self._spawn([str(path)], self._is_ready)

    def get(self, path: str, accept: str = "application/json") -> bytes:
        """The body of a GET below the archive's root."""
        request = urllib.request.Request(self.url + path, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=30) as response:
            body: bytes = response.read()
            return body

    def post(self, path: str, document: object) -> Any:
        """The JSON answer to a JSON document posted below the archive's root."""
        return self._post(path, json.dumps(document))

    def find_instances(self, study_instance_uid: str = "") -> list[str]:
        """SOP Instance UIDs that the archive holds, of one study or of all."""
        found = self.post(
            "/tools/find",
            {
                "Level": "Instance",
                "Expand": True,
                "Query": {"StudyInstanceUID": study_instance_uid} if study_instance_uid else {},
            },
        )
        return [instance["MainDicomTags"]["SOPInstanceUID"] for instance in found]

    def count(self, study_instance_uid: str = "") -> int:
        """How many instances the archive holds, of one study or of all."""
        return len(self.find_instances(study_instance_uid))

    def download(self, sop_instance_uid: str) -> bytes:
        """The Part 10 file of one instance."""
        identifier = self._identifier(sop_instance_uid)
        return self.get(f"/instances/{identifier}/file", "application/dicom")

    def qido_series(self, study_instance_uid: str) -> list[dict[str, Any]]:
        """The QIDO-RS answer (DICOM JSON) for the series of a study."""
        self._need_dicomweb()
        answer = self.get(f"/dicom-web/studies/{study_instance_uid}/series")
        series: list[dict[str, Any]] = json.loads(answer)
        return series

    def send(self, modality: str, sop_instance_uids: Sequence[str]) -> Any:
        """Let the archive C-STORE instances to one of its ``modalities``, in one association."""
        identifiers = [self._identifier(uid) for uid in sop_instance_uids]
        return self.post(f"/modalities/{modality}/store", identifiers)

    def _post(self, path: str, body: str) -> Any:
        request = urllib.request.Request(self.url + path, body.encode())
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def _identifier(self, sop_instance_uid: str) -> str:
        found = self._post("/tools/lookup", sop_instance_uid)
        identifiers = [entry["ID"] for entry in found if entry["Type"] == "Instance"]
        assert identifiers, "the archive does not hold the instance"
        return str(identifiers[0])

    def _is_ready(self) -> bool:
        try:
            self.get("/system")
        except (urllib.error.URLError, OSError):
            return False
        return _answers(self.port)

    def _need_dicomweb(self) -> None:
        if _dicomweb_plugin() is None:
            pytest.skip("Orthanc has no DICOMweb plugin (Debian package orthanc-dicomweb)")

    def _settings(self) -> dict[str, Any]:
        storage = str(self.directory / "storage")
        plugin = _dicomweb_plugin()
        return {
            "Name": "Tests",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": self.http_port,
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "AuthenticationEnabled": False,
            "RemoteAccessAllowed": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomModalities": self._modalities,
            "Plugins": [str(plugin)] if plugin else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **self._configuration,
        }


class DcmtkStorescp(_Server):
    """DCMTK's storescp; keeps every data set bit-preserving in ``received``.

    ``options`` are further options of the program, for example ``("+xa",)`` to accept every
    transfer syntax or ``("-pm",)`` for unknown SOP classes.
    """

    def __init__(
        self, directory: Path, *, ae_title: str = "STORESCP", options: Sequence[str] = ()
    ) -> None:
        directory = directory / "storescp"
        self.received = directory / "received"
        self.received.mkdir(parents=True, exist_ok=True)
        super().__init__("storescp", directory)
        self.ae_title = ae_title
        self.port = free_port()
        self._options = tuple(options)

    @property
    def peer(self) -> PeerSettings:
        """This receiver as a configured peer of the node."""
        return PeerSettings(
            name="storescp", ae_title=self.ae_title, host="127.0.0.1", port=self.port
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start, also again after :meth:`stop`."""
        self._spawn(
            [
                *("--output-directory", str(self.received), "--bit-preserving"),
                *("--aetitle", self.ae_title, *self._options, str(self.port)),
            ],
            lambda: _answers(self.port),
        )

    def files(self) -> list[Path]:
        """The files received so far."""
        return sorted(path for path in self.received.iterdir() if path.is_file())


def storescu(
    paths: Sequence[Path],
    *,
    port: int,
    called: str,
    calling: str = "STORESCU",
    options: Sequence[str] = (),
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Send files with DCMTK's storescu, one association; ``-R`` proposes what the files need."""
    arguments = ["-R", "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port)]
    return run_program("storescu", [*arguments, *map(str, paths)], check=check)


def dcmsend(
    paths: Sequence[Path],
    *,
    port: int,
    called: str,
    calling: str = "DCMSEND",
    options: Sequence[str] = (),
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Send files with DCMTK's dcmsend."""
    arguments = ["-aet", calling, "-aec", called, *options, "127.0.0.1", str(port)]
    return run_program("dcmsend", [*arguments, *map(str, paths)], check=check)


_TRANSCODERS: dict[str, tuple[str, ...]] = {
    "jpeg-ls": ("dcmcjpls", "+un"),
    "jpeg-lossless": ("dcmcjpeg", "+un"),
    "jpeg-baseline": ("dcmcjpeg", "+eb", "+un"),
    "rle": ("dcmcrle", "+un"),
    "jpeg-2000": ("gdcmconv", "--j2k", "-i"),
}


def transcode(paths: Sequence[Path], directory: Path, encoding: str) -> list[Path]:
    """Compress Part 10 files with another maker's codec, keeping their SOP Instance UIDs (+un).

    ``encoding``: jpeg-ls, jpeg-lossless, jpeg-baseline (lossy, 8 bits), rle, jpeg-2000.
    """
    program, *options = _TRANSCODERS[encoding]
    directory.mkdir(parents=True, exist_ok=True)
    compressed: list[Path] = []
    for path in paths:
        target = directory / path.name
        output = ["-o", str(target)] if program == "gdcmconv" else [str(target)]
        run_program(program, [*options, str(path), *output])
        compressed.append(target)
    return compressed


def run_program(
    name: str, arguments: Sequence[str], *, check: bool = True, timeout_s: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run an installed program to its end; on failure the error shows what it printed."""
    done = subprocess.run(
        [need_program(name), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        env={**os.environ, **_ENVIRONMENT},
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def _dicomweb_plugin() -> Path | None:
    return next((path for path in _DICOMWEB_PLUGINS if path.exists()), None)
