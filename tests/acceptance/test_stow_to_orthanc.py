"""STOW-RS to an Orthanc with its DICOMweb plugin, and what WADO-RS gives back."""

from __future__ import annotations

import re
from email import message_from_bytes
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.config import PeerSettings
from dicom_node.config_peers import DicomWebSettings
from dicom_node.delivery.dicomweb import StowSender
from dicom_node.errors import PeerUnavailable
from dicom_node.results.report import build_volumetric_report
from tests import peers
from tests.dicom_samples import ct_series, write_series
from tests.results import samples

pytestmark = pytest.mark.network


def service_of(orthanc: peers.Orthanc) -> PeerSettings:
    web = DicomWebSettings(url=f"{orthanc.url}/dicom-web")
    return PeerSettings(name="orthanc", dicomweb=web)


def retrieve(orthanc: peers.Orthanc, path: Path) -> bytes:
    """The Part 10 file that WADO-RS gives for a file's object."""
    dataset = dcmread(path, stop_before_pixels=True)
    url = f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    body = orthanc.get(
        f"{url}/instances/{dataset.SOPInstanceUID}",
        'multipart/related; type="application/dicom"; transfer-syntax=*',
    )
    (boundary,) = re.findall(rb"^--([^\r\n]+)\r\n", body)
    kind = b'Content-Type: multipart/related; boundary="' + boundary + b'"\r\n\r\n'
    (part,) = message_from_bytes(kind + body).get_payload()
    content: bytes = part.get_payload(decode=True)
    return content


def data_set_of(content: bytes) -> bytes:
    """What follows the file meta information."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


def test_segmentation_and_report_come_back_from_orthanc_byte_for_byte(
    orthanc: peers.Orthanc, tmp_path: Path
) -> None:
    images, mask = samples.ct(), samples.lungs()
    segmentation = samples.segmentation_of(images, mask)
    report = build_volumetric_report(
        samples.request_for(images), segmentation, mask, samples.MEASUREMENTS, series_number=9101
    )
    paths = [tmp_path / "seg.dcm", tmp_path / "sr.dcm"]
    for path, dataset in zip(paths, (segmentation, report), strict=True):
        dataset.save_as(path, enforce_file_format=True)

    outcomes = StowSender().send(service_of(orthanc), paths, in_order=True)

    assert [(one.stored, one.status, one.reason) for one in outcomes] == [(True, 0, "")] * 2
    assert [one.sop_instance_uid for one in outcomes] == [
        segmentation.SOPInstanceUID,
        report.SOPInstanceUID,
    ]
    for path in paths:
        assert data_set_of(retrieve(orthanc, path)) == data_set_of(path.read_bytes())


@pytest.mark.parametrize("encoding", ["jpeg-ls", "rle", "jpeg-2000"])
def test_compressed_series_comes_back_from_orthanc_as_it_was_sent(
    orthanc: peers.Orthanc, tmp_path: Path, encoding: str
) -> None:
    plain = write_series(ct_series((2, 32, 40)), tmp_path / "ct")
    paths = peers.transcode(plain, tmp_path / "small", encoding)

    outcomes = StowSender().send(service_of(orthanc), paths)

    assert all(outcome.stored for outcome in outcomes)
    for path in paths:
        assert dcmread(BytesIO(retrieve(orthanc, path))).PixelData == dcmread(path).PixelData


def test_object_sent_twice_is_there_once_and_stored_both_times(
    orthanc: peers.Orthanc, tmp_path: Path
) -> None:
    paths = write_series(ct_series((2, 32, 40)), tmp_path / "ct")
    for _ in range(2):
        assert all(outcome.stored for outcome in StowSender().send(service_of(orthanc), paths))
    assert orthanc.count() == 2


def test_object_that_orthanc_cannot_read_is_refused_for_good_and_the_next_is_stored(
    orthanc: peers.Orthanc, tmp_path: Path
) -> None:
    damaged, sound = write_series(ct_series((2, 32, 40)), tmp_path / "ct")
    content = damaged.read_bytes()
    head = content[: len(content) - len(data_set_of(content))]
    damaged.write_bytes(head + b"junk" * 50)
    outcomes = StowSender().send(service_of(orthanc), [damaged, sound], in_order=True)
    assert [(one.stored, one.transient) for one in outcomes] == [(False, False), (True, False)]


def test_echo_finds_orthanc_and_misses_it_when_it_is_stopped(orthanc: peers.Orthanc) -> None:
    peer = service_of(orthanc)
    assert StowSender().echo(peer) > 0.0
    orthanc.stop()
    with pytest.raises(PeerUnavailable) as raised:
        StowSender().echo(peer)
    assert raised.value.reason == "peer.unreachable"
