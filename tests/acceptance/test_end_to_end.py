"""A CT from DCMTK's sender through the node into Orthanc, and read back by others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_node.imaging.volume import LoadedVolume
from tests import peers
from tests.acceptance import masks, series
from tests.acceptance.conftest import Site
from tests.acceptance.queries import c_find
from tests.acceptance.running_node import RunningNode
from tests.conformance import validators
from tests.shared_data import shared

KINDS = ("segmentation", "volumetric report", "planar report")
pytestmark = [
    pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.long_on_postgresql,
]


@dataclass(frozen=True)
class Journey:
    """One series that went all the way, and what the archive then held."""

    sent: series.Sent
    node: RunningNode
    archive: peers.Orthanc
    folder: Path
    loaded: LoadedVolume
    model: masks.LabelMap
    by_kind: dict[str, str]

    def downloaded(self, kind: str) -> Path:
        """The object of a kind as the archive gives it back."""
        path = self.folder / f"downloaded-{kind.replace(' ', '-')}.dcm"
        if not path.exists():
            path.write_bytes(self.archive.download(self.by_kind[kind]))
        return path


@pytest.fixture(scope="module", params=["generated chest", "shared chest CT"])
def journey(
    request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Journey:
    """A series sent by storescu, and the node and archive that it went through."""
    if request.param == "shared chest CT" and not shared(*series.RIDER).exists():
        pytest.skip(f"shared data not found: {shared(*series.RIDER)}")
    folder = tmp_path_factory.mktemp("journey")
    real = request.param == "shared chest CT"
    sent = series.rider() if real else series.thin_phantom(folder / "ct", seed=31)
    site.node.send(sent.paths)
    (job,) = site.node.wait_for_series(sent.series_instance_uid)
    assert (job.state, job.reason) == ("succeeded", "result")
    loaded = masks.load(sent.paths)
    results = site.node.ledger.jobs.results(job.job_id)
    return Journey(
        sent,
        site.node,
        site.archive,
        folder,
        loaded,
        masks.by_model(loaded),
        {result.kind: result.sop_instance_uid for result in results},
    )


def test_archive_holds_the_segmentation_and_both_reports_and_nothing_else(
    journey: Journey,
) -> None:
    assert tuple(journey.by_kind) == KINDS
    held = journey.archive.find_instances(journey.sent.study_instance_uid)
    assert sorted(held) == sorted(journey.by_kind.values())
    assert set(journey.node.times_sent(journey.sent.series_instance_uid).values()) == {1}


def test_results_are_found_by_c_find_and_by_qido(journey: Journey) -> None:
    study = journey.sent.study_instance_uid
    expected = sorted(
        (str(header.SeriesInstanceUID), str(header.Modality))
        for kind in KINDS
        for header in [pydicom.dcmread(journey.downloaded(kind), stop_before_pixels=True)]
    )
    assert [modality for _, modality in sorted(expected, key=lambda one: one[1])] == [
        "SEG",
        "SR",
        "SR",
    ]
    found = c_find(journey.archive, "SERIES", study, "SeriesInstanceUID", "Modality")
    assert sorted(found) == expected
    qido = journey.archive.qido_series(study)
    assert sorted((e["0020000E"]["Value"][0], e["00080060"]["Value"][0]) for e in qido) == expected


def test_model_finds_both_lungs_on_their_own_side(journey: Journey) -> None:
    affine = masks.source_affine(journey.loaded.source_images)
    right, left = (
        (affine @ [*np.argwhere(journey.model == value).mean(axis=0), 1.0])[0] for value in (1, 2)
    )
    assert right < left, "the patient's right is at the lower x of LPS"


def test_segmentation_is_the_models_mask_voxel_for_voxel_by_highdicom(journey: Journey) -> None:
    read = masks.by_highdicom(journey.downloaded("segmentation"), journey.loaded.source_images)
    assert read.shape == journey.model.shape == (len(journey.sent.paths), *read.shape[1:])
    np.testing.assert_array_equal(read, journey.model)


def test_segmentation_is_the_models_mask_voxel_for_voxel_by_dcmqi(journey: Journey) -> None:
    read = masks.by_dcmqi(
        journey.downloaded("segmentation"),
        journey.loaded.source_images,
        journey.folder / "dcmqi",
    )
    np.testing.assert_array_equal(read, journey.model)


def test_run_on_the_same_files_makes_the_same_objects(journey: Journey) -> None:
    output = journey.folder / "run"
    letter = journey.folder / "letter.txt"
    letter.write_text("Dear colleague")
    inputs = (*journey.sent.paths, letter)
    done = journey.node.command("run", "lungs-ct", *inputs, "--output", output)
    assert done.returncode == 0, done.stderr
    assert f"skipped {letter}" in done.stderr
    written = {
        kind: pydicom.dcmread(output / f"{kind.replace(' ', '-')}.dcm") for kind in KINDS
    }
    uids = {kind: str(dataset.SOPInstanceUID) for kind, dataset in written.items()}
    assert uids == journey.by_kind
    delivered = pydicom.dcmread(journey.downloaded("segmentation"))
    assert delivered.PixelData == written["segmentation"].PixelData
    assert delivered.SeriesInstanceUID == written["segmentation"].SeriesInstanceUID
    assert len(list(output.glob("overlay_*.png"))) == 3
    predictions = json.loads((output / "predictions.json").read_text())
    assert [skipped["path"] for skipped in predictions["skipped"]] == [str(letter)]
    (entry,) = predictions["series"]
    volume_ml = abs(np.linalg.det(masks.source_affine(journey.loaded.source_images)[:3, :3])) / 1e3
    for label in entry["labels"]:
        expected_ml = int((journey.model == label["value"]).sum()) * volume_ml
        assert label["volume_ml"] == pytest.approx(expected_ml, rel=1e-3)


def test_validators_find_nothing_unexplained_in_what_the_archive_gives_back(
    journey: Journey,
) -> None:
    complaints: list[validators.Complaint] = []
    try:
        for kind in KINDS:
            path = journey.downloaded(kind)
            complaints += validators.dciodvfy(path)
            complaints += validators.dcmdump(path)
            complaints += validators.dcentvfy(journey.sent.paths[0], path)
        for kind in KINDS[1:]:
            complaints += validators.dsrdump(journey.downloaded(kind))
    except validators.ToolMissing as error:
        pytest.skip(str(error))
    assert validators.unexplained(complaints) == []


def test_show_tells_the_whole_way_of_the_series(journey: Journey) -> None:
    (shown,) = journey.node.read("show", journey.sent.study_instance_uid)["series"]
    assert [t["to_state"] for t in shown["history"]] == ["receiving", "complete", "routed"]
    (job,) = shown["jobs"]
    assert [t["to_state"] for t in job["history"]] == ["queued", "running", "succeeded"]
    assert [result["kind"] for result in job["results"]] == list(KINDS)
    assert [d["state"] for d in job["deliveries"]] == ["sent"] * 3
