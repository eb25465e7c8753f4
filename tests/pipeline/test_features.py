"""How an input looked to the model is kept by scanner, and the report tells of one out of range."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.monitoring.noticing import UNUSUAL
from ai_models.monitoring.reference import write_rows
from dicom_node.pipeline.process import process
from dicom_node.pipeline.workshop import Workshop
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.pipeline.conftest import started


def test_nothing_is_kept_of_a_model_that_watches_nothing(workshop: Workshop) -> None:
    process(started(workshop, "job-1"), workshop)
    assert workshop.ledger.features.counts() == {}


def test_features_are_kept_by_scanner_and_an_unusual_input_is_told_of(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workshop.catalog.get("tiny").folder
    rows = np.random.default_rng(1).normal(9, 0.1, (12, 12)).astype(np.float32)
    sha256 = write_rows(folder / "seen.npy", rows)
    write_model(
        folder, threshold_onnx(0.5), id="tiny", version="2", monitor__reference="seen.npy",
        monitor__sha256=sha256,
    )
    card = load_card(folder)
    monkeypatch.setattr(workshop.catalog, "card_for", lambda *_: card)
    done = process(started(workshop, "job-1"), workshop)
    assert workshop.ledger.features.counts() == {("tiny", "2"): 1}
    (seen,) = workshop.ledger.features.of("tiny", "2")
    assert len(seen.features) == 12 and seen.scanner
    header = done.loaded.source_images[0]
    for told in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "DeviceSerialNumber"):
        assert not header.get(told) or str(header.get(told)) not in seen.scanner
    reports = [dataset for kind, dataset in done.objects if "report" in kind]
    texts = [str(one.value) for report in reports for one in report.iterall() if one.VR == "UT"]
    assert [text for text in texts if UNUSUAL in text]
