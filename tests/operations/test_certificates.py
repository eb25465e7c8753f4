"""The certificate files of the node, as they are renewed, broken and about to end."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.events import Events
from dicom_node.operations.certificates import CertificateWatch, ends_at
from tests.tls_files import Site, renew, site


class Watched:
    """A watch whose clocks a test moves."""

    def __init__(self, own: Site) -> None:
        self.now = 0.0
        self.told: list[tuple[object, object]] = []
        events = Events(lambda _, one: self.told.append((one["what"], one["problem"])))
        self.watch = CertificateWatch(
            own.settings(), events, lambda: self.now, lambda: time.time() + self.now
        )

    def after(self, seconds: float) -> list[tuple[object, object]]:
        self.now += seconds
        self.told.clear()
        self.watch.tick()
        return list(self.told)


def test_the_end_of_a_certificate_is_that_which_openssl_says(certificates: Site) -> None:
    for pair in (certificates.node, certificates.expired):
        said = subprocess.run(
            ["openssl", "x509", "-enddate", "-noout", "-in", str(pair.certificate)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        expected = time.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y %Z")
        assert ends_at(pair.certificate) == time.mktime(expected) - time.timezone


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_has_no_end(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pem").write_text(text)
    with pytest.raises(ValueError, match="certificate"):
        ends_at(tmp_path / "x.pem")


def test_a_certificate_that_ends_within_a_month_is_told_once_a_day(certificates: Site) -> None:
    watched = Watched(certificates)
    assert watched.after(0) == [("end", "in 29 days")]
    assert watched.after(3600) == []
    assert watched.after(86_400) == [("end", "in 28 days")]
    assert watched.after(40 * 86_400) == [("end", "now")]


def test_renewed_and_broken_files_are_told_once(tmp_path: Path) -> None:
    own = site(tmp_path)
    watched = Watched(own)
    watched.after(0)
    own.node.key.write_text("broken\n")
    first = watched.after(11)
    assert first[0][0] == "are kept as they were"
    assert "security.tls.certificate_file" in str(first[0][1])
    assert watched.after(11) == []
    renew(own.node, own.scanner)
    assert watched.after(11)[0] == ("are renewed", "")


def test_a_node_does_not_start_with_files_that_it_cannot_use(
    certificates: Site, tmp_path: Path
) -> None:
    broken = certificates.settings().model_copy(update={"ca_file": tmp_path / "missing.pem"})
    with pytest.raises(ConfigurationError, match=r"security\.tls\.ca_file"):
        CertificateWatch(broken, Events())
