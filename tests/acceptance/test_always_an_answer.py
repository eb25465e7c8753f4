"""Every routed series ends in an answer at the archive: a result, or why there is none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset

from tests import peers
from tests.acceptance.running_node import RunningNode, wait_until
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.databases import NodeDatabase
from tests.dicom_samples import ct_series, with_attributes, write_series
from tests.results.samples import items

pytestmark = [
    pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.long_on_postgresql,
]

NOT_ANALYSED = ("111245", "No algorithms succeeded; without findings")
NEGATIVE = ("111241", "All algorithms succeeded; without findings")
MODELS: dict[str, tuple[bytes, dict[str, object]]] = {
    "finds": (threshold_onnx(0.5), {}),
    "empty": (threshold_onnx(5.0), {}),
    "nan": (threshold_onnx(0.5, gain=float("nan")), {}),
    "fails": (threshold_onnx(0.5, channels=3), {}),
    "late": (threshold_onnx(0.5), {"runtime__deadline_s": 0.01}),
    "picky": (threshold_onnx(0.5), {"input__min_slices": 100}),
}


# Verification, Secondary Capture, Comprehensive SR and Basic Text SR: no Segmentation, no 3D SR.
_OLD_ARCHIVE = r"""
[[TransferSyntaxes]]
[Plain]
TransferSyntax1 = LocalEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Old]
PresentationContext1 = 1.2.840.10008.1.1\Plain
PresentationContext2 = 1.2.840.10008.5.1.4.1.1.7\Plain
PresentationContext3 = 1.2.840.10008.5.1.4.1.1.88.33\Plain
PresentationContext4 = 1.2.840.10008.5.1.4.1.1.88.11\Plain
[[Profiles]]
[Default]
PresentationContexts = Old
"""


class Trouble(NamedTuple):
    """A node with a model for every kind of trouble, its archive, and one of former times."""

    archive: peers.Orthanc
    old_archive: peers.DcmtkStorescp
    node: RunningNode


@pytest.fixture(scope="module")
def trouble(
    tmp_path_factory: pytest.TempPathFactory, node_database: NodeDatabase
) -> Iterator[Trouble]:
    """Which model a series goes to is its Series Description."""
    peers.need_private_network()
    folder = tmp_path_factory.mktemp("trouble")
    for name, (weights, changes) in MODELS.items():
        write_model(folder / "models" / name, weights, id=name, **changes)
    classes = folder / "classes.cfg"
    classes.write_text(_OLD_ARCHIVE)
    options = ("-xf", str(classes), "Default")
    with (
        peers.Orthanc(folder) as archive,
        peers.DcmtkStorescp(folder, ae_title="OLD", options=options) as old_archive,
    ):
        node = RunningNode(folder / "node", archive.peer, database=node_database())
        settings = yaml.safe_load(node.config.read_text())
        settings["models"]["directories"] = [str(folder / "models")]
        settings["jobs"] = {"max_attempts": 1}
        settings["peers"]["pacs"]["results"] = {"rejection_notes": True}
        settings["rules"] = [
            {"name": name, "when": {"SeriesDescription": name}, "model": name, "send_to": ["pacs"]}
            for name in MODELS
        ]
        settings["peers"]["old"] = {
            "ae_title": "OLD", "host": "127.0.0.1", "port": old_archive.port,
        }
        settings["rules"].append({
            "name": "old archive", "when": {"SeriesDescription": "old"}, "model": "finds",
            "send_to": ["old"],
        })
        node.config.write_text(yaml.safe_dump(settings))
        with node:
            yield Trouble(archive, old_archive, node)


def series_for(model: str, seed: int, folder: Path, **changes: Any) -> list[Path]:
    datasets = ct_series((12, 32, 40))
    uids = {"StudyInstanceUID": f"2.25.77{seed}", "SeriesInstanceUID": f"2.25.77{seed}.1"}
    for number, dataset in enumerate(datasets, start=1):
        with_attributes(
            [dataset], SeriesDescription=model, SOPInstanceUID=f"2.25.77{seed}.1.{number}",
            **uids, **changes,
        )
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return write_series(datasets, folder)


def at_archive(trouble: Trouble, study: str) -> list[Dataset]:
    """What the archive holds of a study."""
    uids = trouble.archive.find_instances(study)
    return [pydicom.dcmread(io.BytesIO(trouble.archive.download(uid))) for uid in uids]


def answered(trouble: Trouble, seed: int, count: int) -> list[Dataset]:
    """The study's objects, as soon as there are ``count`` and nothing more is owed."""
    study = f"2.25.77{seed}"

    def there() -> list[Dataset]:
        ledger = trouble.node.ledger
        quiet = not ledger.duties.waiting() and not ledger.deliveries.open_shipments()
        return at_archive(trouble, study) if quiet and len(
            trouble.archive.find_instances(study)) >= count else []

    found: list[Dataset] = wait_until(there, f"{count} objects of study {study}")
    assert len(found) == count, [str(one.SOPClassUID.name) for one in found]
    return found


def coded(report: Dataset) -> list[tuple[str, str]]:
    """Every coded value of a report."""
    return [
        (str(code.CodeValue), str(code.CodeMeaning))
        for item in items(report)
        for code in item.get("ConceptCodeSequence", [])
    ]


def words(report: Dataset) -> str:
    return " ".join(str(item.get("TextValue", "")) for item in items(report))


@pytest.mark.parametrize(
    ("model", "seed", "summary", "reason"),
    [
        ("empty", 1, NEGATIVE, ""),
        ("nan", 2, NOT_ANALYSED, "model.not_finite"),
        ("fails", 3, NOT_ANALYSED, "model.wrong_output"),
        ("late", 4, NOT_ANALYSED, "worker.deadline_exceeded"),
        ("picky", 5, NOT_ANALYSED, "input.too_few_slices"),
    ],
)
def test_without_a_result_the_archive_gets_one_report_that_says_so(
    trouble: Trouble, tmp_path: Path, model: str, seed: int, summary: tuple[str, str], reason: str
) -> None:
    trouble.node.send(series_for(model, seed, tmp_path))
    (report,) = answered(trouble, seed, 1)
    assert report.Modality == "SR" and report.VerificationFlag == "UNVERIFIED"
    assert summary in coded(report)
    assert "DEMONSTRATION, NOT FOR CLINICAL USE" in words(report)
    assert report.StudyInstanceUID == f"2.25.77{seed}"
    evidence = {
        str(one.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert len(evidence) == 12
    (job,) = trouble.node.ledger.jobs.of_series(f"2.25.77{seed}.1")
    assert job.reason.startswith(reason or "no_finding")
    shown = trouble.node.command("show", f"2.25.77{seed}").stdout
    assert ("not analysed report" in shown) == bool(reason)


def test_a_late_slice_supersedes_and_the_same_study_again_makes_nothing(
    trouble: Trouble, tmp_path: Path
) -> None:
    paths = series_for("finds", 6, tmp_path)
    trouble.node.send(paths[:-1])
    first = answered(trouble, 6, 3)
    trouble.node.send(paths[-1:])
    second = answered(trouble, 6, 7)
    before = {str(one.SOPInstanceUID) for one in first}
    new = [one for one in second if str(one.SOPInstanceUID) not in before]
    reports = [one for one in new if "3D SR" in one.SOPClassUID.name]
    for report in reports:
        predecessors = {
            str(instance.ReferencedSOPInstanceUID)
            for study in report.PredecessorDocumentsSequence
            for series in study.ReferencedSeriesSequence
            for instance in series.ReferencedSOPSequence
        }
        assert predecessors == {
            str(one.SOPInstanceUID) for one in first if one.Modality == "SR"
        }
    (note,) = [one for one in new if one.Modality == "KO"]
    rejected = {
        str(instance.ReferencedSOPInstanceUID)
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert rejected == before
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    trouble.node.send(paths)
    wait_until(
        lambda: all(
            one.state == "routed"
            for one in trouble.node.ledger.receipts.series_of_study("2.25.776")
        ),
        "the series that was sent again is routed",
    )
    assert {str(one.SOPInstanceUID) for one in answered(trouble, 6, 7)} == {
        str(one.SOPInstanceUID) for one in second
    }


def test_what_is_retried_with_success_supersedes_the_answer(
    trouble: Trouble, tmp_path: Path
) -> None:
    folder = trouble.node.config.parent.parent / "models" / "fails"
    trouble.node.send(series_for("fails", 7, tmp_path))
    (answer,) = answered(trouble, 7, 1)
    write_model(folder, threshold_onnx(0.5), id="fails", version="2")
    try:
        (job,) = trouble.node.ledger.jobs.of_series("2.25.777.1")
        trouble.node.stop()
        trouble.node.start()
        # Of a version that came while no node looked on, somebody must say that it is the next one.
        assert trouble.node.command("models", "promote", "fails", "2").returncode == 0
        assert trouble.node.command("retry", job.job_id).returncode == 0
        found = answered(trouble, 7, 5)
    finally:
        write_model(folder, MODELS["fails"][0], id="fails")
    report = next(
        one for one in found
        if one.Modality == "SR" and one.SOPInstanceUID != answer.SOPInstanceUID
    )
    named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == answer.SOPInstanceUID


def test_an_archive_that_takes_no_segmentation_gets_pictures_and_reports(
    trouble: Trouble, tmp_path: Path
) -> None:
    trouble.node.send(series_for("old", 8, tmp_path))
    (job,) = trouble.node.wait_for_series("2.25.778.1")
    got = [pydicom.dcmread(path) for path in trouble.old_archive.files()]
    names = sorted(one.SOPClassUID.name for one in got)
    assert names[:2] == ["Comprehensive SR Storage"] * 2
    assert set(names[2:]) == {"Secondary Capture Image Storage"}
    kept = {r.sop_instance_uid: r for r in trouble.node.ledger.jobs.results(job.job_id)}
    segmentation = next(uid for uid, r in kept.items() if r.kind == "segmentation")
    for one in got:
        assert segmentation not in str(one)
        assert kept[str(one.SOPInstanceUID)].made_from in kept
    shown = trouble.node.command("show", job.job_id).stdout
    assert "destination takes no Segmentation (66.4)" in shown
    checked = trouble.node.command("check").stdout
    assert "Label Map Segmentation" in checked
