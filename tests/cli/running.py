"""A ledger with one finished study, and the command line called as a person calls it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli.main import run_command
from dicom_node.ledger.ledger import Ledger
from dicom_node.records import SendOutcome, SeriesState
from tests.ledger.conftest import START, delivery, instance, job, result


@dataclass
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


class Site:
    """A folder with settings and data, and its command line."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.data_dir = folder / "node"
        self.config = folder / "config.yaml"
        self._capture = capture
        self.settings()

    def settings(self, port: int = 1, more: str = "") -> None:
        self.config.write_text(
            f"node: {{data_dir: {self.data_dir}}}\n"
            f"peers:\n  pacs: {{ae_title: SCRIPTED, host: 127.0.0.1, port: {port}}}\n"
            "storage: {refuse_below_free_bytes: 0}\n"
            "rules:\n"
            "  - {name: chest, when: {Modality: CT, SliceThickness: {max: 5}}, model: lungs-ct,"
            " send_to: [pacs]}\n"
            "  - {name: heads, when: {Modality: MR}, model: lungs-ct, send_to: [pacs]}\n" + more
        )

    def __call__(self, *arguments: str | Path) -> Answer:
        self._capture.readouterr()
        if "check" in arguments[:1] and "--selftest" not in arguments:
            # A model on a phantom takes seconds: `test_check` asks for it where it is meant.
            arguments = (*arguments, "--no-selftest")
        arguments = tuple(one for one in arguments if one != "--selftest")
        try:
            code = run_command(["--config", str(self.config), *map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = self._capture.readouterr()
        return Answer(code, out, err)

    def ledger(self) -> Ledger:
        self.data_dir.mkdir(exist_ok=True)
        return Ledger.open(self.data_dir / "ledger.db")

    def fill(self) -> None:
        """One series: one job with a sent and a dead delivery, and one dead job."""
        ledger = self.ledger()
        ledger.index([instance(1)])
        ledger.receipts.change("1.2.3", SeriesState.COMPLETE, "quiet_period")
        ledger.jobs.route("1.2.3", [job("job-1"), job("job-2")], "rules: lungs", seen=START)
        ledger.jobs.start("job-1", 1)
        ledger.jobs.succeed("job-1", [result(1), result(2)], [delivery(1), delivery(2)], "result",
                            {"model": 1.5})
        stored = SendOutcome("2.25.1", 0, stored=True, transient=False)
        refused = SendOutcome("2.25.2", 0xC000, stored=False, transient=False, reason="refused")
        ledger.deliveries.record("job-1:pacs:01", stored, retry_at=None)
        ledger.deliveries.record("job-1:pacs:02", refused, retry_at=None)
        ledger.jobs.start("job-2", 1)
        ledger.jobs.fail("job-2", "model.failed: no", retry_at=None)
        ledger.close()
