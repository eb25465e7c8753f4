"""What is told of what happens, and what never is: names, IDs, dates and UIDs of patients."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from dicom_node.events import Events, about_study, configure_logging, hash_uid
from tests.dicom_samples import ct_series, write_series

UID = "1.2.840.99.12345"


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging and warnings are put back as they were."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.mark.parametrize("form", ["console", "json"])
def test_every_event_is_one_line_without_a_uid(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    configure_logging("debug", form)
    events = Events()
    events.association_accepted("a", "CT01")
    events.association_refused("CT01", "NODE", "192.0.2.7", "access.unknown_caller")
    events.association_ended("a", "aborted", 3)
    events.instance_stored(UID, 5, "new")
    events.instance_refused(0xA700, "storage.out_of_space", quarantined=False,
                            calling_ae_title="CT01", address="192.0.2.7")
    events.series_changed(UID, "complete", "quiet_period")
    events.job_changed("job-1", "dead", "model.failed", 2)
    events.delivery_changed("job-1:pacs:00", "pacs", "sent", "")
    events.worker_changed("cpu", "started")
    events.node_changed("listening", port=11112)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 10
    assert UID not in said and hash_uid(UID) in said
    if form == "json":
        documents = [json.loads(line) for line in said.splitlines()]
        assert documents[4]["status"] == "0xA700" and documents[4]["level"] == "warning"
        assert documents[4]["calling_ae_title"] == "CT01"


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_tells_where_and_what_type_and_no_text(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    configure_logging("info", form)
    try:
        try:
            raise ValueError("invalid literal: 'DOE^JOHN'")
        except ValueError as error:
            raise RuntimeError("could not read DOE^JOHN") from error
    except RuntimeError:
        Events().unexpected("job 1")
    said = capsys.readouterr().err
    assert "DOE^JOHN" not in said.replace('raise ValueError("invalid literal: \'DOE^JOHN\'")', "") \
        .replace('raise RuntimeError("could not read DOE^JOHN")', "") \
        .replace('raise ValueError(\\"invalid literal: \'DOE^JOHN\'\\")', "") \
        .replace('raise RuntimeError(\\"could not read DOE^JOHN\\")', "")
    for word in ("builtins.ValueError", "builtins.RuntimeError", "caused by", "test_events.py"):
        assert word in said


@pytest.mark.parametrize("library", ["pynetdicom.transport", "pynetdicom.acse"])
def test_a_peer_that_does_not_answer_is_told_by_the_node_alone(
    capsys: pytest.CaptureFixture[str], library: str
) -> None:
    log = logging.getLogger(library)
    configure_logging("info", "console")
    log.error("Association request failed: unable to connect to remote")
    assert capsys.readouterr().err == ""
    try:
        raise ValueError("DOE^JOHN")
    except ValueError:
        log.exception("Exception in a handler")
    assert "reported something" in capsys.readouterr().err, "an exception is no refusal"
    configure_logging("debug", "console")
    log.error("Association request failed: unable to connect to remote")
    assert "reported something" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["pydicom", "pynetdicom.acse", "highdicom", "py.warnings"])
def test_a_library_that_quotes_values_says_only_where(
    capsys: pytest.CaptureFixture[str], library: str
) -> None:
    configure_logging("debug", "console")
    logging.getLogger(library).error("Invalid value for VR DA: '%s'", "DOE^JOHN")
    said = capsys.readouterr().err
    assert "DOE" not in said and "reported something at test_events" in said


def test_other_libraries_speak_from_warning_up(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "console")
    logging.getLogger("dbos").info("quiet")
    logging.getLogger("sqlalchemy.pool").warning("the pool is full")
    said = capsys.readouterr().err
    assert "quiet" not in said and "the pool is full" in said


def test_the_level_holds_for_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "console")
    Events().node_changed("listening")
    Events().association_refused("CT01", "NODE", "192.0.2.7", "access.unknown_caller")
    assert "listening" not in (said := capsys.readouterr().err) and "refused" in said


def test_a_warning_is_told_by_type_and_place_only(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "console")
    # As Python itself shows one; pytest records warnings in its place.
    warnings.showwarning("The value 'DOE^JOHN' is odd", UserWarning, "reading.py", 7)
    said = capsys.readouterr().err
    assert "category=UserWarning" in said and "reading.py:7" in said and "DOE" not in said


_READ = """
import sys
from dicom_node.events import configure_logging
if sys.argv[1] == "discreet":
    configure_logging("debug", "console")
import pydicom
dataset = pydicom.dcmread(sys.argv[2])
for element in dataset.iterall():
    pass
try:
    dataset.SliceThickness
except ValueError:
    import logging
    logging.getLogger("elsewhere").error("unexpected", exc_info=True)
dataset.PatientBirthDate = "DOE^JOHN"
"""


@pytest.mark.parametrize(("how", "tells"), [("plain", True), ("discreet", False)])
def test_values_of_a_file_reach_stderr_only_without_the_nodes_logging(
    tmp_path: Path, how: str, tells: bool
) -> None:
    series = ct_series((1, 8, 8))
    (path,) = write_series(series, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"PN", b"DA", 1))
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", _READ, how, str(path)],
        capture_output=True, text=True, check=True, timeout=120,
    )
    assert ("DOE^JOHN" in done.stderr) is tells, done.stderr


def test_every_line_about_a_study_carries_its_hash_also_those_of_libraries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", "json")
    events = Events()
    with about_study(UID):
        events.job_changed("job-1", "running", "started", 1)
        logging.getLogger("somebody.else").warning("something")
        events.series_changed("1.2.3", "routed", "rules")
    with about_study(""):
        events.node_changed("listening")
    events.study_removed(UID, 3, 500, "retention.age")
    documents = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    study = hash_uid(UID)
    assert [document.get("study") for document in documents] == [study, study, study, None, study]


@pytest.mark.parametrize("form", ["console", "json"])
def test_in_the_journal_of_systemd_each_line_has_its_priority(tmp_path: Path, form: str) -> None:
    """And only there: with stderr elsewhere, whatever the variable says, there is none."""
    code = (
        "import os, sys\n"
        "from dicom_node.events import Events, configure_logging\n"
        "if len(sys.argv) > 1:\n"
        "    found = os.fstat(2)\n"
        "    os.environ['JOURNAL_STREAM'] = f'{found.st_dev}:{found.st_ino}'\n"
        f"configure_logging('debug', {form!r})\n"
        "events = Events()\n"
        "events.association_accepted('a', 'CT01')\n"
        "events.node_changed('listening')\n"
        "events.space_changed(True)\n"
        "try:\n"
        "    raise ValueError\n"
        "except ValueError:\n"
        "    events.unexpected('here')\n"
    )
    root = Path(__file__).parents[1]
    for arguments, first in ((["journal"], "<"), ([], "")):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=root, text=True, capture_output=True,
            env={"JOURNAL_STREAM": "1:1", "PATH": ""},
        )
        lines = done.stderr.splitlines()
        assert all(line.startswith("<") == bool(first) for line in lines), done.stderr
        if first:
            assert [line[:3] for line in lines[:4]] == ["<7>", "<6>", "<4>", "<3>"]
            assert {line[:3] for line in lines[3:]} == {"<3>"}
