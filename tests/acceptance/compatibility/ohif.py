"""The OHIF viewer in a headless Chromium: what it loads, counts and offers to measure."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests import peers
from tests.acceptance.compatibility import downloads, ohif_site
from tests.acceptance.compatibility.answer import Answer, Answers, difference, error, voxels_answer
from tests.acceptance.compatibility.specimen import Filed
from tests.conformance.validators import Complaint, ToolMissing
from tests.results import samples

_SCRIPT = Path(__file__).with_name("ohif_probe.js")
# The machine may have other work.
_PATIENCE_MS = 120_000.0
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # WebGL without a GPU; the viewer draws nothing without it.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
_SHOWS_STUDY = "(n) => window.services?.displaySetService.getActiveDisplaySets().length >= n"
_WITHIN_MS = 90_000
_MEASUREMENT_GROUP = "125007"


def chromium() -> str:
    """Path of the browser."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise ToolMissing("chromium is not installed")
    return path


def by_ohif(files: Sequence[Filed], directory: Path) -> Answers:
    """Each object beside its source images, in a page of its own."""
    viewer = downloads.ohif()
    answers = {}
    with (
        peers.Orthanc(directory, configuration={"UnknownSopClassAccepted": True}) as archive,
        ohif_site.served(viewer, archive.url) as address,
        _browser() as browser,
    ):
        for filed in files:
            kept = [_post(archive, path) for path in (*filed.sources, filed.path)]
            seen = _look(browser, address, filed)
            answers[filed.specimen.name] = _answer(filed, seen)
            for identifier in kept:
                _delete(archive, identifier)
    return answers


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as missing:
        raise ToolMissing("playwright is not installed: make compatibility") from missing
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium(), headless=True, args=list(_FLAGS)
        )
        context.set_default_navigation_timeout(_PATIENCE_MS)
        try:
            yield context
        finally:
            context.close()


def _look(browser: Any, address: str, filed: Filed) -> dict[str, Any]:
    from playwright.sync_api import Error

    dataset = filed.specimen.dataset
    page = browser.new_page()
    try:
        page.goto(f"{address}/viewer?StudyInstanceUIDs={dataset.StudyInstanceUID}")
        page.wait_for_function(_SHOWS_STUDY, arg=2, timeout=_WITHIN_MS)
        page.wait_for_timeout(4000)
        seen: dict[str, Any] = page.evaluate(_SCRIPT.read_text(), str(dataset.SeriesInstanceUID))
    except Error as failure:
        seen = {"error": failure.message.splitlines()[0]}
    finally:
        page.close()
    return seen


def _answer(filed: Filed, seen: dict[str, Any]) -> Answer:
    complaints = (error("OHIF", filed, seen["error"]),) if "error" in seen else ()
    if complaints:
        return Answer(complaints=complaints)
    if "voxels" in seen:
        return voxels_answer("OHIF", filed, {int(k): v for k, v in seen["voxels"].items()})
    if "drawn" in seen:
        return _drawn(filed, seen)
    dataset = filed.specimen.dataset
    if "structures" in seen:
        names = [item.ROIName for item in dataset.StructureSetROISequence]
        found = f"{len(names)} structures"
        return Answer(found, difference("OHIF", filed, "structures", seen["structures"], names))
    if "rows" in seen:
        size, written = (seen["rows"], seen["columns"]), (dataset.Rows, dataset.Columns)
        found = f"{seen['rows']} x {seen['columns']} pixels"
        return Answer(found, difference("OHIF", filed, "size", size, written))
    return Answer(f"shown by {seen['handler']}")


def _drawn(filed: Filed, seen: dict[str, Any]) -> Answer:
    """Measurements on the images; taking them over for editing (hydrating) is one step more."""
    numbers = [float(text.split()[-2]) for group in seen["groups"] for text in group]
    complaints = (
        *difference("OHIF", filed, "drawn", seen["drawn"], filed.specimen.measurements),
        *difference("OHIF", filed, "numbers", sorted(numbers), _numbers(filed)),
    )
    if seen["hydrated"] < seen["drawn"]:
        text = f"Warning - {seen['hydrated']} of {seen['drawn']} drawn measurements hydrated"
        complaints = (*complaints, Complaint("OHIF", filed.path, text))
    values = "; ".join(", ".join(group) for group in seen["groups"])
    return Answer(f"{seen['drawn']} drawn" + (f": {values}" if values else ""), complaints)


def _numbers(filed: Filed) -> list[float]:
    """What a report measures, to the two decimals that the viewer shows."""
    numbers = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for group in samples.named(filed.specimen.dataset, _MEASUREMENT_GROUP)
        for item in samples.items(group)
        if item.ValueType == "NUM" and item.get("MeasuredValueSequence")
    ]
    return sorted(round(number, 2) for number in numbers)


def _post(archive: peers.Orthanc, path: Path) -> str:
    request = urllib.request.Request(f"{archive.url}/instances", path.read_bytes())
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["ID"])


def _delete(archive: peers.Orthanc, identifier: str) -> None:
    request = urllib.request.Request(f"{archive.url}/instances/{identifier}", method="DELETE")
    with urllib.request.urlopen(request, timeout=60):
        pass
