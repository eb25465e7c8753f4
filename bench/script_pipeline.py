"""What a developer writes around a model: read, run, build by highdicom, hand back. For comparison.

    python -m bench.script_pipeline orthanc URL
    python -m bench.script_pipeline folder DIRECTORY ARCHIVE_PORT QUIET_S

The process stays and keeps its model loaded, which favours it: most such scripts are started for
each series. The model is the shipped one of the lungs, run by this project's own predictor, so
that what is compared is everything around it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.types import Volume
from bench.child import ROOT

MODEL = ROOT / "ai_models" / "zoo" / "lungs-ct"
_SAID = {"manufacturer": "Script", "manufacturer_model_name": "Script",
         "software_versions": "1", "device_serial_number": "1"}  # fmt: skip


def loaded_predictor() -> Predictor:
    """The shipped model of the lungs, ready to run."""
    predictor = Predictor(load_card(MODEL))
    predictor.load()
    predictor.warm_up()
    return predictor


def volume_of(images: Sequence[Any]) -> Volume:
    """Sorted axial slices as a volume in HU."""
    array = np.stack([
        one.pixel_array.astype(np.int16) * int(one.RescaleSlope) + int(one.RescaleIntercept)
        for one in images
    ]).astype(np.int16)  # fmt: skip
    first = np.asarray(images[0].ImagePositionPatient, float)
    last = np.asarray(images[-1].ImagePositionPatient, float)
    row, column = np.asarray(images[0].ImageOrientationPatient, float).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0] = (last - first) / (len(images) - 1)
    affine[:3, 1] = column * float(images[0].PixelSpacing[0])
    affine[:3, 2] = row * float(images[0].PixelSpacing[1])
    affine[:3, 3] = first
    return Volume(array, affine)


def _code(code: Any) -> Any:
    import highdicom as hd

    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def segmentation_of(images: Sequence[Any], labels: Sequence[Any], label_map: Any) -> Any:
    """A BINARY Segmentation by highdicom alone."""
    import highdicom as hd

    algorithm = hd.AlgorithmIdentificationSequence(
        "lungs", hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"), "1"
    )
    return hd.seg.Segmentation(
        source_images=images, pixel_array=label_map, segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription(
                one.value, one.name, _code(one.category), _code(one.type), "AUTOMATIC", algorithm,
            )
            for one in labels
        ],
        series_instance_uid=hd.UID(), series_number=900, sop_instance_uid=hd.UID(),
        instance_number=1, **_SAID,
    )  # fmt: skip


def report_of(
    images: Sequence[Any], labels: Sequence[Any], numbers: Mapping[int, tuple[float, float]],
    segmentation: Any,
) -> Any:
    """A TID 1500 report by highdicom alone: volume (mL) and mean (HU) of each label."""
    import highdicom as hd

    sr = hd.sr
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            sr.CodedConcept("121007", "DCM", "Device"),
            sr.DeviceObserverIdentifyingAttributes(uid=hd.UID()),
        )
    )
    kinds = (
        (sr.CodedConcept("118565006", "SCT", "Volume"), sr.CodedConcept("mL", "UCUM", "mL")),
        (sr.CodedConcept("112031", "DCM", "Attenuation Coefficient"),
         sr.CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit")),
    )  # fmt: skip
    groups = [
        sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(hd.UID(), one.name),
            referenced_segment=sr.ReferencedSegment.from_segmentation(segmentation, one.value),
            finding_type=_code(one.type),
            measurements=[
                sr.Measurement(name=name, value=float(value), unit=unit)
                for (name, unit), value in zip(kinds, numbers[one.value], strict=True)
            ],
        )
        for one in labels
    ]
    content = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=sr.CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
    )
    return sr.Comprehensive3DSR(
        evidence=[segmentation, *images], content=content[0], series_number=901,
        series_instance_uid=hd.UID(), sop_instance_uid=hd.UID(), instance_number=1,
        manufacturer="Script",
    )


class Script:
    """One series after another: images in, two objects out."""

    def __init__(self) -> None:
        self._predictor = loaded_predictor()

    def process(self, images: list[Any]) -> list[Any]:
        """SEG and SR of these images, and how long the model took on stdout."""
        images.sort(key=lambda one: float(one.ImagePositionPatient[2]))
        volume = volume_of(images)
        begun = time.perf_counter()
        prediction: Any = self._predictor.predict(volume)
        model_s = time.perf_counter() - begun
        voxel_ml = abs(float(np.linalg.det(volume.affine_lps[:3, :3]))) / 1000
        numbers = {}
        for one in prediction.labels:
            found = volume.array[prediction.label_map == one.value]
            numbers[one.value] = (found.size * voxel_ml, float(found.mean()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = segmentation_of(images, prediction.labels, prediction.label_map)
            report = report_of(images, prediction.labels, numbers, segmentation)
        print(json.dumps({"model_s": model_s}), flush=True)
        return [segmentation, report]


def _part10(dataset: Any) -> bytes:
    held = io.BytesIO()
    dataset.save_as(held, enforce_file_format=True)
    return held.getvalue()


def from_orthanc(url: str) -> None:
    """Poll the changes of an archive; read what is stable by REST, post results back."""
    script, since = Script(), 0

    def get(path: str) -> bytes:
        with urllib.request.urlopen(url + path, timeout=60) as answer:
            body: bytes = answer.read()
            return body

    print(json.dumps({"ready": 1}), flush=True)
    while True:
        changes = json.loads(get(f"/changes?since={since}&limit=1000"))
        since = changes["Last"]
        for change in changes["Changes"]:
            if change["ChangeType"] != "StableSeries":
                continue
            series = json.loads(get(f"/series/{change['ID']}"))
            if series["MainDicomTags"]["Modality"] != "CT":
                continue
            images = [
                pydicom.dcmread(io.BytesIO(get(f"/instances/{one}/file")))
                for one in series["Instances"]
            ]
            for dataset in script.process(images):
                request = urllib.request.Request(f"{url}/instances", _part10(dataset))
                urllib.request.urlopen(request, timeout=60).read()
        if changes["Done"]:
            time.sleep(0.05)


def from_folder(directory: str, port: str, quiet_s: str) -> None:
    """Watch a folder for files beside which tags lie; a series is complete when it rests."""
    script, folder = Script(), Path(directory)
    results = folder.parent / "results"
    results.mkdir()
    print(json.dumps({"ready": 1}), flush=True)
    known: dict[str, str] = {}
    while True:
        series: dict[str, list[str]] = {}
        newest: dict[str, float] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.endswith(".tags"):
                    continue
                if entry.name not in known:
                    known[entry.name] = Path(entry.path).read_text()
                if not (uid := known[entry.name]):
                    # Its dcmdump has not written yet.
                    del known[entry.name]
                    continue
                series.setdefault(uid, []).append(entry.path)
                newest[uid] = max(newest.get(uid, 0.0), entry.stat().st_mtime)
        for uid, tags in series.items():
            if time.time() - newest[uid] < float(quiet_s):
                continue
            paths = [Path(one.removesuffix(".tags")) for one in tags]
            _hand_on(script.process([pydicom.dcmread(path) for path in paths]), results, port)
            for path in paths:
                path.unlink()
                path.with_name(path.name + ".tags").unlink()
        time.sleep(0.1)


def _hand_on(objects: Sequence[Any], results: Path, port: str) -> None:
    for number, dataset in enumerate(objects):
        (results / f"{number}.dcm").write_bytes(_part10(dataset))
    subprocess.run(
        ["dcmsend", "-ll", "fatal", "-aec", "ORTHANC", "--scan-directories", "127.0.0.1", port,
         str(results)], check=True, env={**os.environ, "TCP_NODELAY": "1"},
    )


if __name__ == "__main__":
    _ways: dict[str, Callable[..., None]] = {"orthanc": from_orthanc, "folder": from_folder}
    _ways[sys.argv[1]](*sys.argv[2:])
