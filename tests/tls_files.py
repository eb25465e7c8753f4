"""Certificates for tests, made with openssl as `docs/security.md` shows it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dicom_node.config_security import TlsSettings
from tests.peers import need_program

_EXPIRED = ("-not_before", "20200101000000Z", "-not_after", "20210101000000Z")
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certification authority in a folder of its own."""

    def __init__(self, folder: Path, name: str = "Hospital") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            "req", "-x509", *_CURVE, "-nodes", "-days", "30", "-subj", f"/CN={name} test CA",
            "-keyout", str(self._key), "-out", str(self.certificate),
        )

    def issue(
        self, file: str, common_name: str, names: Sequence[str] = (), *, expired: bool = False,
        password: str = "",
    ) -> Pair:
        """A certificate; ``names`` are alternative ones, such as DNS:localhost or IP:127.0.0.1."""
        pair = Pair(self.folder / f"{file}.pem", self.folder / f"{file}.key")
        request, extensions = self.folder / f"{file}.csr", self.folder / f"{file}.ext"
        secret = ("-passout", f"pass:{password}") if password else ("-nodes",)
        _openssl(
            "req", *_CURVE, *secret, "-subj", f"/CN={common_name}", "-keyout", str(pair.key),
            "-out", str(request),
        )
        extensions.write_text(f"subjectAltName={','.join(names)}\n" if names else "")
        database = self.folder / f"{file}.index"
        database.write_text("")
        settings = self.folder / f"{file}.cnf"
        settings.write_text(
            "[ca]\ndefault_ca=x\n[x]\npolicy=p\ndefault_md=sha256\nunique_subject=no\n"
            f"database={database}\nnew_certs_dir={self.folder}\nrand_serial=yes\n"
            "[p]\ncommonName=supplied\n"
        )
        period = ("-startdate", _EXPIRED[1], "-enddate", _EXPIRED[3]) if expired else (
            "-days", "30"
        )
        _openssl(
            "ca", "-batch", "-notext", "-config", str(settings), "-cert", str(self.certificate),
            "-keyfile", str(self._key), "-in", str(request), "-out", str(pair.certificate),
            "-extfile", str(extensions), *period,
        )
        return pair


    def withdraw(self, pair: Pair) -> None:
        """Put a list of withdrawn certificates, with this one, behind the authority's own."""
        settings = pair.certificate.with_suffix(".cnf")
        arguments = ("-config", str(settings), "-cert", str(self.certificate), "-keyfile",
                     str(self._key))
        withdrawn = self.folder / "withdrawn.pem"
        _openssl("ca", *arguments, "-revoke", str(pair.certificate))
        _openssl("ca", *arguments, "-gencrl", "-crldays", "30", "-out", str(withdrawn))
        with self.certificate.open("ab") as file:
            file.write(withdrawn.read_bytes())


@dataclass(frozen=True)
class Site:
    """The certificates of a hospital in which everything is right, and of some that are not."""

    authority: Authority
    node: Pair
    scanner: Pair
    other: Pair
    expired: Pair
    stranger: Pair

    @property
    def ca(self) -> Path:
        """The file that vouches for them."""
        return self.authority.certificate

    def settings(self, **more: Any) -> TlsSettings:
        """``security.tls`` of the node."""
        return TlsSettings(
            certificate_file=self.node.certificate, key_file=self.node.key, ca_file=self.ca,
            **more,
        )


@cache
def site(folder: Path) -> Site:
    """Certificates in a folder; made once for it."""
    need_program("openssl")
    hospital, elsewhere = Authority(folder / "hospital"), Authority(folder / "elsewhere", "Other")
    return Site(
        hospital,
        hospital.issue("node", "node.hospital", ["DNS:localhost", "IP:127.0.0.1"]),
        hospital.issue("scanner", "ct1.hospital", ["DNS:ct1.hospital", "DNS:localhost"]),
        hospital.issue("other", "mr1.hospital", ["DNS:mr1.hospital"]),
        hospital.issue("expired", "ct1.hospital", ["DNS:ct1.hospital"], expired=True),
        elsewhere.issue("stranger", "ct1.hospital", ["DNS:ct1.hospital"]),
    )


def renew(pair: Pair, by: Pair) -> None:
    """Put another certificate and its key in the place of a pair."""
    shutil.copy(by.key, pair.key)
    shutil.copy(by.certificate, pair.certificate)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True)
