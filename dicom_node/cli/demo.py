"""``dicom-node demo``: the whole way on this machine, without any setting.

A node and a stand-in for a PACS listen on free loopback ports; a CT series is sent to the node by
C-STORE, and what the node stores back in the stand-in is written out and shown.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.output import tell_skipped
from dicom_node.config import Config
from dicom_node.errors import NodeError, PeerRefused

if TYPE_CHECKING:
    from dicom_node.events import Events
    from dicom_node.node import Node
    from dicom_node.records import Association, Instance

_RESULTS = (
    "segmentation.dcm", "volumetric-report.dcm", "planar-report.dcm", "negative-report.dcm",
    "overlay_axial.png", "overlay_coronal.png", "overlay_sagittal.png",
)
_IMAGES = "images"
_PATIENCE_S = 900.0
_SEED = 20
_LOOPBACK = "127.0.0.1"


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("demo", help="the main job on an embedded default")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH",
                        help="CT files or folders (default: a generated chest)")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), metavar="DIR",
                        help="where objects and pictures go (default: demo-output)")
    parser.add_argument("--keep-running", action="store_true",
                        help="leave the node running until Ctrl-C")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send a series through an embedded node; exit 1 when no result came back."""
    from dicom_node.events import Events, configure_logging

    configure_logging("warning", "console")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dicom-node-demo-") as folder:
        work = Path(folder)
        files = _series(arguments.paths, arguments.output)
        archive = _Archive(work / "archive", _quiet_events())
        try:
            return _with_node(arguments, files, archive, work, Events())
        finally:
            archive.close()


def _with_node(
    arguments: argparse.Namespace,
    files: list[Path],
    archive: _Archive,
    work: Path,
    events: Events,
) -> int:
    from dicom_node.node import Node

    tokens = work / "tokens" if arguments.keep_running else None
    token = _token(tokens) if tokens is not None else ""
    node = Node(_settings(work, archive.port, tokens), events)
    stop = threading.Event()
    loop = threading.Thread(target=node.run, args=(stop,), name="node")
    try:
        node.start()
        loop.start()
        _say(f"node {node.config.node.ae_title} listens on {_LOOPBACK}:{node.port}, "
             f"the stand-in PACS on {_LOOPBACK}:{archive.port}")
        done = _send_and_wait(node, archive, files)
        _show(node, archive, done, arguments.output)
        if arguments.keep_running:
            _say(f"the page: http://{_LOOPBACK}:{node.config.web.port}/, token {token}")
            _say("running until Ctrl-C")
            while True:
                time.sleep(1)
        return 0
    finally:
        stop.set()
        if loop.is_alive():
            loop.join()
        node.close()


def _token(path: Path) -> str:
    """What signs in to the web page of the demonstration, and may act there."""
    from dicom_node.operations.web.tokens import Role, add_token

    return add_token(path, "demo", Role.OPERATOR)


def _quiet_events() -> Events:
    """Of the stand-in PACS: what the node keeps open for a next result it cuts off as it stops."""
    from dicom_node.events import Events

    class Quiet(Events):
        def association_ended(self, *_: Any, **__: Any) -> None:
            """Told of nobody: every way to end is the demonstration's own."""

    return Quiet()


class _Archive:
    """The stand-in PACS: the node's own listener, keeping what it gets in a folder."""

    listener_id = "demo-archive"

    def __init__(self, root: Path, events: Events) -> None:
        from dicom_node.intake.listener import Listener
        from dicom_node.spool import Spool

        self.spool = Spool(root)
        self.received: list[Instance] = []
        config = Config.model_validate(
            {
                "node": {"ae_title": "DEMOPACS", "host": _LOOPBACK, "port": 0},
                "access": {"accept_unknown_callers": True},
            }
        )
        self._listener = Listener(config, self.spool, self, events)
        self.port = self._listener.start()

    def stored(self, instance: Instance, association: Association) -> None:
        """An object of the node has arrived."""
        self.received.append(instance)

    def ended(self, association: Association) -> None:
        """The node has finished sending; nothing to do."""

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def _series(paths: list[Path], output: Path) -> list[Path]:
    """The files to send: those named, or a generated chest, kept for other viewers and nodes."""
    if not paths:
        from dicom_node.cli.demo_series import write_phantom_series

        _say("drawing a chest CT phantom")
        return write_phantom_series(output / _IMAGES, _SEED)
    from dicom_node.imaging.scan import scan

    series, skipped = scan(paths)
    tell_skipped(skipped)
    if not series:
        raise NodeError("no DICOM series was found in what was named", reason="input.no_dicom")
    if len(series) > 1:
        _say(f"{len(series)} series were found; the demonstration takes the one with most images")
    return max(series.values(), key=len)


def _settings(work: Path, archive_port: int, tokens: Path | None = None) -> Config:
    """One peer, one rule, everything on loopback, and no wait that a person would notice.

    With a file of tokens also the web page.
    """
    return Config.model_validate(
        {
            "node": {"ae_title": "DICOMNODE", "host": _LOOPBACK, "port": 0,
                     "data_dir": work / "node"},
            "peers": {"pacs": {"ae_title": "DEMOPACS", "host": _LOOPBACK, "port": archive_port},
                      "scanner": {"ae_title": "DEMOSCANNER", "host": _LOOPBACK, "port": 11113}},
            "completeness": {"after_release_s": 0.5, "quiet_period_s": 5, "give_up_after_s": 10},
            "storage": {"refuse_below_free_bytes": 0},
            "logging": {"level": "warning"},
            "intake": {"listener_processes": 1},
            "web": {"enabled": tokens is not None, "tokens_file": tokens},
            "rules": [{"name": "lungs on CT", "when": {"Modality": "CT"}, "model": "lungs-ct",
                       "send_to": ["pacs"]}],
        }
    )


def _send_and_wait(node: Node, archive: _Archive, files: list[Path]) -> dict[str, float]:
    """Send the series and wait for all results; returns seconds by stage of the whole way."""
    from dicom_node.config import PeerSettings
    from dicom_node.delivery.sender import Sender

    peer = PeerSettings(name="node", ae_title="DICOMNODE", host=_LOOPBACK, port=node.port)
    _say(f"sending {len(files)} images by C-STORE")
    started = time.monotonic()
    outcomes = Sender("DEMOSCANNER").send(peer, files)
    refused = [outcome for outcome in outcomes if not outcome.stored]
    if refused:
        raise PeerRefused(f"the node refused {len(refused)} images: {refused[0].reason}")
    seconds = {"send": time.monotonic() - started}
    waiting = time.monotonic()
    _wait_for_end(node)
    seconds["complete, route, model, results, delivery"] = time.monotonic() - waiting
    return seconds


def _wait_for_end(node: Node) -> None:
    """Follow the series through its states until nothing is open.

    Raises
    ------
    NodeError
        When the series is declined, the job dies, or nothing happens for 15 minutes.
    """
    from dicom_node.records import JobState, SeriesState

    said: set[str] = set()
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        lines = [f"series {s.state}: {s.reason}" for s in node.ledger.receipts.recent_series(1)]
        jobs = node.ledger.jobs.latest()
        lines += [f"job {job.model_id} {job.state}: {job.reason}" for job in jobs]
        for line in lines:
            if line not in said:
                said.add(line)
                _say(line)
        for series in node.ledger.receipts.series_in(SeriesState.DECLINED):
            raise NodeError(f"the series was declined: {series.reason}", reason="series.declined")
        for job in jobs:
            if job.state is JobState.DEAD:
                raise NodeError(f"the job failed: {job.reason}", reason="job.dead")
        is_sent = not node.ledger.deliveries.open_shipments()
        if jobs and jobs[0].state is JobState.SUCCEEDED and is_sent:
            return
        time.sleep(0.1)
    raise NodeError("nothing came back within 15 minutes", reason="demo.timeout")


def _show(node: Node, archive: _Archive, seconds: dict[str, float], output: Path) -> None:
    """Write what the stand-in received, draw it over the images, and print the measurements."""
    import pydicom

    from dicom_node.cli.demo_pictures import draw

    output.mkdir(parents=True, exist_ok=True)
    _forget_earlier(output)
    job = node.ledger.jobs.latest()[0]
    kinds = {r.sop_instance_uid: r.kind for r in node.ledger.jobs.results(job.job_id)}
    print("\nobjects stored in the PACS")
    for instance in archive.received:
        kind = kinds[instance.sop_instance_uid]
        target = output / f"{kind.replace(' ', '-')}.dcm"
        shutil.copyfile(archive.spool.resolve(instance.path), target)
        description = pydicom.dcmread(target, stop_before_pixels=True).get("SeriesDescription", "")
        size_kb = instance.size_bytes / 1000
        print(f"  {instance.modality:4} {size_kb:8.0f} kB  {kind:18} {description}")
    draw(node, job.series_instance_uid, output)
    print("\nseconds by stage")
    inner = {f"  {stage}": s for stage, s in node.ledger.jobs.seconds_by_stage(job.job_id).items()}
    for stage, value in {**seconds, **inner}.items():
        print(f"  {stage:42} {value:6.2f}")
    print(f"\nDICOM objects and overlay pictures are in {output}/")
    if (output / _IMAGES).is_dir():
        print(f"the generated CT is in {output / _IMAGES}/")


def _forget_earlier(output: Path) -> None:
    """Take away what an earlier demo left, and nothing else: the folder may hold images."""
    for name in _RESULTS:
        (output / name).unlink(missing_ok=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
