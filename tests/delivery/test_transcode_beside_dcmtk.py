"""What another maker compressed, and what it makes of the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.delivery.sender import Sender
from dicom_node.delivery.transcode import transcoded
from tests.delivery.scripted_peer import EXPLICIT, IMPLICIT
from tests.delivery.test_transcode import read, sample
from tests.dicom_samples import ct_series, write_series
from tests.peers import DcmtkStorescp, run_program, transcode


@pytest.mark.network
@pytest.mark.parametrize("encoding", ["jpeg-ls", "jpeg-lossless", "rle", "jpeg-2000"])
def test_dcmtk_receiver_of_implicit_only_gets_what_another_maker_compressed(
    tmp_path: Path, encoding: str
) -> None:
    datasets = ct_series((2, 32, 40))
    paths = transcode(write_series(datasets, tmp_path / "ct"), tmp_path / "small", encoding)
    with DcmtkStorescp(tmp_path, options=("+xi",)) as storescp:
        outcomes = Sender("NODE").send(storescp.peer, paths)
        received = {d.SOPInstanceUID: d for d in map(dcmread, storescp.files())}
    assert all(outcome.stored for outcome in outcomes)
    for dataset in datasets:
        arrived = received[dataset.SOPInstanceUID]
        assert arrived.file_meta.TransferSyntaxUID == IMPLICIT
        assert arrived.PixelData == dataset.PixelData


@pytest.mark.network
def test_lossy_colour_decodes_as_with_another_maker(tmp_path: Path) -> None:
    path = sample("examples_ybr_color.dcm")
    run_program("dcmdjpeg", [str(path), str(tmp_path / "theirs.dcm")])
    theirs = dcmread(tmp_path / "theirs.dcm")
    ours = read(transcoded(path, EXPLICIT))
    assert ours.PhotometricInterpretation == theirs.PhotometricInterpretation == "RGB"
    difference = ours.pixel_array.astype(int) - theirs.pixel_array.astype(int)
    # Chroma is upsampled smoothly by one library and by repetition by the other.
    assert np.abs(difference).mean() < 1.0
