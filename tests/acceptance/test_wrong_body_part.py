"""A hand that is sent to the model of chests comes back as not analysed, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import yaml

from ai_models.training.phantoms.bones import random_unit
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.hands import hand_radiograph, random_hand
from ai_models.training.phantoms.radiograph_files import CHEST, write_radiograph
from tests import peers
from tests.acceptance.running_node import RunningNode, settings, wait_until

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]
# What the header of the hand says, and the reason that must be told.
STATED = {"HAND": "input.body_part", "": "input.unlike", "CHEST": "input.unlike"}
RULE = {
    "name": "chests", "when": {"Modality": ["CR", "DX"]}, "model": "pneumonia-dx",
    "send_to": ["pacs"],
}


def texts_of(report: pydicom.Dataset) -> str:
    return " ".join(
        str(one.value) for one in report.iterall() if one.keyword in ("TextValue", "CodeValue")
    )


def test_a_hand_sent_to_the_model_of_chests_is_declined_whatever_its_header_says(
    tmp_path: Path, storescp: peers.DcmtkStorescp
) -> None:
    rng = np.random.default_rng(7)
    hand = hand_radiograph(7, random_hand(rng), random_unit(rng), 1.0)
    files = {
        stated: write_radiograph(
            tmp_path / f"hand-{number}", PhantomStudy(f"hand-{number}", age_y=6),
            replace(CHEST, body_part=stated), hand,
        )
        for number, stated in enumerate(STATED)
    }
    node = RunningNode(tmp_path / "node", storescp.peer, database=None)
    document = settings(node.data_dir, storescp.peer, node.port, None) | {"rules": [RULE]}
    node.config.write_text(yaml.safe_dump(document))
    with node:
        node.send(list(files.values()))
        for stated, path in files.items():
            uid = str(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID)
            reason = node.wait_for_decline(uid)
            assert reason.startswith(STATED[stated]), stated
        # Of the last one, which says that it is a chest.
        for command in ("show", "explain"):
            assert "input.unlike" in node.command(command, uid).stdout, command
        wait_until(lambda: len(storescp.files()) == len(STATED), "three reports arrive")
    reports = [pydicom.dcmread(path) for path in storescp.files()]
    assert {one.Modality for one in reports} == {"SR"}
    for one in reports:
        told = texts_of(one)
        assert "THESE IMAGES WERE NOT ANALYSED" in told and "pneumonia 0" not in told
        assert "NOT_ANALYSED_WHY" in told and "110522" in told
    assert sum("input.body_part" in texts_of(one) for one in reports) == 1
