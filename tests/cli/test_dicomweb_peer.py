"""Commands on a peer that is a DICOMweb service: echo, send, check."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.cli.running import Site
from tests.delivery.scripted_peer import IMPLICIT, scripted_peer
from tests.delivery.scripted_service import ScriptedService, answer, failed, scripted_service
from tests.dicom_samples import ct_series, write_series

JPEG_LS = "1.2.840.10008.1.2.4.80"


def settle(site: Site, service: ScriptedService) -> None:
    """Make the service the destination of the site's rules."""
    site.settings()
    written = site.config.read_text()
    dimse = "{ae_title: SCRIPTED, host: 127.0.0.1, port: 1}"
    assert dimse in written
    url = f"http://127.0.0.1:{service.port}/dicom-web"
    site.config.write_text(written.replace(dimse, f"{{dicomweb: {{url: '{url}'}}}}"))


def test_echo_names_the_service_and_fails_when_it_is_away(site: Site) -> None:
    with scripted_service() as service:
        settle(site, service)
        said = site("echo", "pacs")
    assert said.code == 0
    assert f"pacs (http://127.0.0.1:{service.port}/dicom-web) answered in" in said.out
    assert site("echo", "pacs").code == 1


def test_send_stores_files_at_a_service(site: Site) -> None:
    paths = write_series(ct_series((3, 16, 16)), site.folder / "images")
    with scripted_service() as service:
        settle(site, service)
        said = site("send", "pacs", site.folder / "images")
    assert (said.code, said.out) == (0, "3 of 3 stored by pacs\n")
    sent = sorted(request.parts[0] for request in service.requests)
    assert sent == sorted(path.read_bytes() for path in paths)


def test_send_tells_what_a_service_refused(site: Site) -> None:
    write_series(ct_series((1, 16, 16)), site.folder / "images")
    with scripted_service(failed(0xA900)) as service:
        settle(site, service)
        said = site("send", "pacs", site.folder / "images")
    assert said.code == 1
    assert "status 0xA900, peer.refused.does_not_match_sop_class" in said.out


@pytest.mark.parametrize("status", [200, 503])
def test_check_asks_a_service_as_it_asks_a_peer(site: Site, status: int) -> None:
    with scripted_service(answer(status)) as service:
        settle(site, service)
        found = {one["check"]: one for one in site("check", "--json").json()["checks"]}
    assert found["peer pacs"]["ok"] is (status == 200)


def test_send_of_compressed_images_reaches_a_peer_of_implicit_little_endian_only(
    site: Site, tmp_path: Path
) -> None:
    datasets = ct_series((3, 16, 16))
    paths = write_series(datasets, site.folder / "images", transfer_syntax_uid=JPEG_LS)
    assert dcmread(paths[0]).file_meta.TransferSyntaxUID == JPEG_LS
    with scripted_peer(transfer_syntaxes=[IMPLICIT]) as script:
        site.settings(script.port)
        said = site("send", "pacs", site.folder / "images")
    assert (said.code, said.out) == (0, "3 of 3 stored by pacs\n")
    assert script.transfer_syntaxes == [IMPLICIT] * 3
    assert all(any(d.PixelData in sent for sent in script.data_sets) for d in datasets)
