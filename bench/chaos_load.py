"""The load of a chaos run: small CT series, sent by DCMTK on several associations at once.

What counts is what the sender was told: a file is acknowledged when storescu or dcmsend printed
a C-STORE response with status 0x0000 and its SOP Instance UID, and is sent again until it is.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import generate_uid

from dicom_node.delivery.part10 import read_file_head
from tests import peers
from tests.dicom_samples import ct_series, write_instance

ASSOCIATIONS = 8
CALLING = "SCANNER1"
CALLED = "DICOMNODE"
_SHAPE = (6, 24, 32)
_RESPONSE = re.compile(
    r"Message Type\s+: C-STORE RSP.*?Affected SOP Instance UID\s+: (\S+)"
    r".*?DIMSE Status\s+: 0x([0-9a-fA-F]{4})",
    re.DOTALL,
)
_TIMEOUTS = ("-to", "5", "-ta", "15", "-td", "40")


def data_set_digest(path: Path) -> str:
    """SHA-256 of the data set of a Part 10 file, without its file meta information."""
    with path.open("rb") as file:
        offset = read_file_head(file).data_set_offset_bytes
        file.seek(offset)
        return hashlib.sha256(file.read()).hexdigest()


@dataclass
class Account:
    """What was made, what was acknowledged, and what the senders were told besides.

    ``series`` is Series Instance UID to the SOP Instance UIDs of the series, ``digests`` SOP
    Instance UID to the digest of its data set, ``acknowledged`` how often each got 0x0000.
    """

    series: dict[str, list[str]] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    acknowledged: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    sent_files: int = 0

    def open(self) -> list[str]:
        """SOP Instance UIDs that were never acknowledged, in the order of their series."""
        return [uid for uid in self.paths if not self.acknowledged[uid]]

    def add(self, series_instance_uid: str, files: Iterable[tuple[str, Path]]) -> None:
        """A new series of (SOP Instance UID, path)."""
        for uid, path in files:
            self.series.setdefault(series_instance_uid, []).append(uid)
            self.paths[uid] = path
            self.digests[uid] = data_set_digest(path)


def make_series(
    folder: Path, chance: random.Random, shape: tuple[int, int, int] = _SHAPE, **attributes: Any
) -> tuple[str, list[tuple[str, Path]]]:
    """A generated chest CT whose pixels and UIDs come from ``chance`` alone.

    ``shape`` has at least 24 rows and 32 columns; ``attributes`` are set on every image.
    """
    entropy = f"{chance.getrandbits(128):032x}"

    def uid(*what: str) -> str:
        return str(generate_uid(entropy_srcs=[entropy, *what]))

    values_hu = np.full(shape, -1000, np.int16)
    row, column = chance.randrange(2, 10), chance.randrange(2, 14)
    values_hu[1:5, row : row + 10, column : column + 14] = 40 + chance.randrange(400)
    series_uid = uid("series")
    datasets = ct_series(
        shape, (2.0, 2.0, 2.0), values_hu=values_hu, StudyInstanceUID=uid("study"),
        SeriesInstanceUID=series_uid, FrameOfReferenceUID=uid("frame"),
        PatientID=entropy[:12], **attributes,
    )  # fmt: skip
    folder.mkdir(parents=True)
    files = []
    for number, dataset in enumerate(datasets):
        dataset.SOPInstanceUID = uid("instance", str(number))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        files.append(
            (str(dataset.SOPInstanceUID), write_instance(dataset, folder / f"{number}.dcm"))
        )
    return series_uid, files


class Senders:
    """Eight associations side by side, each a DCMTK program of its own."""

    def __init__(self, account: Account, port: int) -> None:
        self._account = account
        self._port = port
        self._lock = threading.Lock()
        self._programs = [
            peers.need_program("dcmsend" if slot % 4 == 3 else "storescu")
            for slot in range(ASSOCIATIONS)
        ]
        self._pool = ThreadPoolExecutor(ASSOCIATIONS, thread_name_prefix="sender")
        self._running: list[Future[None]] = []
        self._next = 0

    def start(self, parcels: Sequence[Sequence[Path]], offsets_s: Sequence[float]) -> None:
        """Send every parcel in an association of its own, `ASSOCIATIONS` at a time.

        ``offsets_s`` is for each the seconds from now before it leaves.
        """
        now = time.monotonic()
        for offset_s, parcel in sorted(zip(offsets_s, parcels, strict=True)):
            program = self._programs[self._next % ASSOCIATIONS]
            self._next += 1
            self._running.append(
                self._pool.submit(self._send, program, list(parcel), now + offset_s)
            )

    def finish(self) -> None:
        """Wait for all that was started."""
        running, self._running = self._running, []
        for one in running:
            one.result()

    def close(self) -> None:
        """Wait, and end the threads."""
        self._pool.shutdown()

    def _send(self, program: str, paths: list[Path], not_before: float) -> None:
        time.sleep(max(0.0, not_before - time.monotonic()))
        arguments = ["-d", "-nh", "-aet", CALLING, "-aec", CALLED, *_TIMEOUTS]
        if program.endswith("storescu"):
            arguments.append("-R")
        done = subprocess.run(
            [program, *arguments, "127.0.0.1", str(self._port), *map(str, paths)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=300,
            env={**os.environ, "TCP_NODELAY": "1"},
            check=False,
        )
        answers = _RESPONSE.findall(done.stdout)
        with self._lock:
            self._account.sent_files += len(paths)
            for uid, status in answers:
                if int(status, 16) == 0:
                    self._account.acknowledged[uid] += 1
                else:
                    self._account.refusals[f"0x{status.upper()}"] += 1
            if len(answers) < len(paths):
                self._account.refusals["no answer"] += len(paths) - len(answers)


def parcels_of(files: Sequence[Path], chance: random.Random) -> list[list[Path]]:
    """A series as one association's parcel or, one time in three, as two of any cut."""
    if chance.random() < 1 / 3:
        cut = chance.randrange(1, len(files))
        return [list(files[:cut]), list(files[cut:])]
    return [list(files)]


def plan_round(
    account: Account, folder: Path, new_series: int, chance: random.Random
) -> list[list[Path]]:
    """Parcels of one round: new series, what was not acknowledged yet, and some sent before."""
    parcels: list[list[Path]] = []
    unanswered: dict[str, list[Path]] = {}
    missing = set(account.open())
    for series_uid, uids in account.series.items():
        if again := [account.paths[uid] for uid in uids if uid in missing]:
            unanswered[series_uid] = again
    parcels.extend(unanswered.values())
    known = sorted(set(account.series) - set(unanswered))
    for _ in range(2 if known else 0):
        once_more = chance.choices(known, k=4)
        parcels.append([account.paths[uid] for one in once_more for uid in account.series[one]])
    for number in range(new_series):
        series_uid, files = make_series(folder / str(number), chance)
        account.add(series_uid, files)
        paths = [path for _, path in files]
        if chance.random() < 0.3:
            chance.shuffle(paths)
        parcels.extend(parcels_of(paths, chance))
    chance.shuffle(parcels)
    return parcels
