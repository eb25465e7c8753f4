"""Settings of a peer that is reached by DICOMweb."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node import config
from dicom_node.errors import ConfigurationError


def test_a_dicomweb_server_is_a_peer_without_host_and_port(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "peers:\n  cloud: {dicomweb: {url: 'https://pacs.example.org/dicom-web/', "
        "token_file: secret.txt}}\n"
    )
    loaded = config.load(path, {})
    peer = loaded.peer("cloud")
    assert not peer.speaks_dimse
    assert peer.dicomweb is not None
    assert peer.dicomweb.url == "https://pacs.example.org/dicom-web"
    assert peer.dicomweb.token_file == tmp_path / "secret.txt"
    again = tmp_path / "again.yaml"
    again.write_text(config.describe(loaded))
    assert config.load(again, {}) == loaded


@pytest.mark.parametrize(
    "text",
    [
        "peers:\n  cloud: {dicomweb: {url: 'https://user:pw@pacs.example.org/'}}\n",
        "peers:\n  cloud: {dicomweb: {url: 'file:///etc/passwd'}}\n",
        "peers:\n  cloud: {dicomweb: {url: 'https://h/', port: 1}}\n",
        "peers:\n  cloud: {dicomweb: {url: 'https://h/'}, storage_commitment: required}\n",
        "peers:\n  cloud: {dicomweb: {url: 'http://h.example.org/', token_file: t}}\n",
        "delivery: {storage_commitment: required}\npeers:\n  cloud: {dicomweb: {url: 'https://h/'}}\n",
        "peers:\n  cloud: {}\n",
    ],
)
def test_a_dicomweb_server_that_cannot_work_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"peers\.cloud"):
        config.load(path, {})
