"""What settings of TLS have to agree on, and how peers come to know them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config_files import load, refusal

TLS = "tls: {certificate_file: node.pem, key_file: keys/node.key, ca_file: /etc/ca.pem"
PACS = "pacs: {ae_title: PACS, host: pacs, port: 104"


def test_a_peer_with_tls_knows_the_files_with_their_folders(tmp_path: Path) -> None:
    text = f"peers:\n  {PACS}, tls: true}}\n  other: {{ae_title: X, host: x, port: 1}}\n"
    settings = load(tmp_path, f"{text}security:\n  {TLS}}}\n")
    tls = settings.peer("pacs").tls_settings
    assert tls is not None
    assert tls.certificate_file == tmp_path / "node.pem"
    assert tls.key_file == tmp_path / "keys" / "node.key"
    assert tls.ca_file == Path("/etc/ca.pem")
    assert settings.peer("other").tls_settings is None
    assert settings.peer("pacs").model_copy(update={"port": 105}).tls_settings == tls


@pytest.mark.parametrize(
    ("peer", "security", "key", "line"),
    [
        (f"{PACS}, tls: true}}", "tls: null", "peers.pacs.tls", 2),
        ("pacs: {dicomweb: {url: 'https://x/y'}, tls: true}", f"{TLS}}}", "peers.pacs.tls", 2),
        (f"{PACS}, certificate_names: [x]}}", "tls: null", "peers.pacs.certificate_names", 2),
        (f"{PACS}, certificate_names: [x]}}", f"{TLS}, client_certificates: 'off'}}",
         "peers.pacs.certificate_names", 2),
        (f"{PACS}}}", f"{TLS}, port: 11112}}", "security.tls.port", 4),
    ],
)  # fmt: skip
def test_what_cannot_work_is_a_mistake_of_its_line(
    tmp_path: Path, peer: str, security: str, key: str, line: int
) -> None:
    error = refusal(tmp_path, f"peers:\n  {peer}\nsecurity:\n  {security}\n")
    assert (error.key_path, error.line) == (key, line)


def test_names_may_stand_beside_tls_that_the_node_only_calls_with(tmp_path: Path) -> None:
    text = f"peers:\n  {PACS}, tls: true, certificate_names: [x]}}\n"
    settings = load(tmp_path, f"{text}security:\n  {TLS}, client_certificates: 'off'}}\n")
    assert settings.peer("pacs").certificate_names == ["x"]
