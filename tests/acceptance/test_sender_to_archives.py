"""Our sender beside the archives of others."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from dicom_node.delivery.sender import Sender
from tests import peers
from tests.acceptance.queries import c_find
from tests.dicom_samples import ct_series, write_series


def test_series_sent_to_orthanc_is_found_by_c_find_and_qido(
    orthanc: peers.Orthanc, tmp_path: Path
) -> None:
    datasets = ct_series((6, 32, 40))
    paths = write_series(datasets, tmp_path / "ct")

    outcomes = Sender("DICOMNODE").send(orthanc.peer, paths)

    uids = [dataset.SOPInstanceUID for dataset in datasets]
    assert [outcome.sop_instance_uid for outcome in outcomes] == uids
    assert all(outcome.stored and outcome.status == 0 for outcome in outcomes)
    assert sorted(orthanc.find_instances(datasets[0].StudyInstanceUID)) == sorted(uids)
    found = c_find(orthanc, "SERIES", datasets[0].StudyInstanceUID, "SeriesInstanceUID")
    assert found == [(datasets[0].SeriesInstanceUID,)]
    series = orthanc.qido_series(datasets[0].StudyInstanceUID)
    assert [entry["0020000E"]["Value"] for entry in series] == [[datasets[0].SeriesInstanceUID]]


def test_object_comes_back_from_orthanc_with_the_same_pixels(
    orthanc: peers.Orthanc, tmp_path: Path
) -> None:
    dataset = ct_series((1, 32, 40))[0]

    Sender("DICOMNODE").send(orthanc.peer, write_series([dataset], tmp_path / "ct"))

    received = pydicom.dcmread(BytesIO(orthanc.download(dataset.SOPInstanceUID)))
    assert received.PixelData == dataset.PixelData


def test_data_set_reaches_storescp_byte_for_byte(
    storescp: peers.DcmtkStorescp, tmp_path: Path
) -> None:
    # 512 x 512 needs many fragments of storescp's 16 KB.
    paths = write_series(ct_series((2, 512, 512)), tmp_path / "ct")

    outcomes = Sender("DICOMNODE").send(storescp.peer, paths)

    assert all(outcome.stored for outcome in outcomes)
    sent = sorted(_data_set_bytes(path) for path in paths)
    assert sorted(_data_set_bytes(path) for path in storescp.files()) == sent


@pytest.mark.parametrize("encoding", ["jpeg-ls", "jpeg-lossless", "rle", "jpeg-2000"])
def test_compressed_data_set_reaches_storescp_byte_for_byte(
    storescp: peers.DcmtkStorescp, tmp_path: Path, encoding: str
) -> None:
    plain = write_series(ct_series((2, 64, 64)), tmp_path / "plain")
    paths = peers.transcode(plain, tmp_path / "compressed", encoding)
    uncompressed = pydicom.dcmread(plain[0], stop_before_pixels=True)
    assert pydicom.dcmread(paths[0]).SOPInstanceUID == uncompressed.SOPInstanceUID

    outcomes = Sender("DICOMNODE").send(storescp.peer, paths)

    assert all(outcome.stored for outcome in outcomes)
    sent = sorted(_data_set_bytes(path) for path in paths)
    assert sorted(_data_set_bytes(path) for path in storescp.files()) == sent


def test_storescp_that_takes_implicit_little_endian_only_gets_it_re_encoded(tmp_path: Path) -> None:
    dataset = ct_series((1, 32, 40))[0]
    with peers.DcmtkStorescp(tmp_path, options=("+xi",)) as storescp:
        outcomes = Sender("DICOMNODE").send(storescp.peer, write_series([dataset], tmp_path / "ct"))
        assert outcomes[0].stored
        received = pydicom.dcmread(storescp.files()[0])

    assert received.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert received.PixelData == dataset.PixelData
    assert received.ImagePositionPatient == dataset.ImagePositionPatient


def test_compressed_object_comes_uncompressed_to_a_storescp_that_takes_nothing_else(
    tmp_path: Path,
) -> None:
    plain = write_series(ct_series((1, 64, 64)), tmp_path / "plain")
    paths = peers.transcode(plain, tmp_path / "compressed", "rle")
    with peers.DcmtkStorescp(tmp_path) as storescp:
        (outcome,) = Sender("DICOMNODE").send(storescp.peer, paths)
        (stored,) = storescp.files()

    assert outcome.stored
    sent, kept = pydicom.dcmread(plain[0]), pydicom.dcmread(stored)
    assert kept.SOPInstanceUID == sent.SOPInstanceUID
    assert not kept.file_meta.TransferSyntaxUID.is_compressed
    assert kept.PixelData == sent.PixelData


def test_archives_answer_an_echo(orthanc: peers.Orthanc, storescp: peers.DcmtkStorescp) -> None:
    for peer in (orthanc.peer, storescp.peer):
        assert Sender("DICOMNODE").echo(peer) >= 0.0


def _data_set_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        return file.read()
