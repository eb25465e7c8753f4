"""The load of a soak: what a small hospital sends all day, from threads that sleep most of it."""

from __future__ import annotations

import random
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from ai_models.array.phantom_radiograph import radiograph_phantom
from bench.raw_scu import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Closed,
    RawScu,
    Rejected,
    bare_data_set,
)
from tests.dicom_samples import ct_series, mr_series, radiograph, write_instance

CALLING, CALLED = "SCANNER1", "DICOMNODE"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
SLICES, SIDE = 24, 128
_LATE = 2


@dataclass
class Pace:
    """Seconds from one to the next of each kind of load."""

    series_s: float = 20.0
    radiograph_s: float = 15.0
    small_s: float = 30.0
    query_s: float = 10.0
    late_every: int = 6
    late_after_s: float = 12.0
    away_every_s: float = 360.0
    away_for_s: float = 90.0


@dataclass
class Told:
    """What the senders were told; series by UID: when its last slice was acknowledged."""

    acknowledged: int = 0
    refused: int = 0
    broken: int = 0
    queries: int = 0
    failed_queries: int = 0
    late_series: int = 0
    absences: int = 0
    series: dict[str, float] = field(default_factory=dict)
    store_s: list[tuple[float, float]] = field(default_factory=list)


class Load:
    """Senders and askers of one node until :meth:`close`.

    ``away`` stops a destination and starts it again: two functions.
    """

    def __init__(
        self,
        port: int,
        web_url: str,
        pace: Pace,
        away: tuple[Callable[[], None], Callable[[], None]],
    ) -> None:
        self._port, self._web_url, self._pace, self._away = port, web_url, pace, away
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.told = Told()
        self._chance = np.random.default_rng(5)
        self._sent_series = 0
        self._threads = [
            threading.Thread(target=self._repeat, args=(what, every_s), daemon=True)
            for what, every_s in (
                (self._send_series, pace.series_s),
                (self._send_radiograph, pace.radiograph_s),
                (self._send_small, pace.small_s),
                (self._ask, pace.query_s),
            )
        ]
        self._threads.append(threading.Thread(target=self._go_away, daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Send nothing new, and wait for what is on its way; whoever is away comes back."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def take_store_s(self) -> list[tuple[float, float]]:
        """(time, seconds) of each C-STORE since the last call."""
        with self._lock:
            taken, self.told.store_s = self.told.store_s, []
        return taken

    def _repeat(self, what: Callable[[], None], every_s: float) -> None:
        self._ended.wait(random.uniform(0, every_s))
        while not self._ended.is_set():
            begun = time.monotonic()
            try:
                what()
            except (OSError, Closed, Rejected):
                self.told.broken += 1
            self._ended.wait(max(0.0, begun + every_s - time.monotonic()))

    def _store(self, sop_class: str, datasets: list[Dataset]) -> None:
        with tempfile.TemporaryDirectory() as name:
            found = [
                bare_data_set(write_instance(one, Path(name) / "one.dcm")) for one in datasets
            ]
        scu = RawScu(
            self._port, [(1, sop_class, [EXPLICIT])], calling=CALLING, called=CALLED, timeout_s=120
        )
        for _, uid, _, data in found:
            begun = time.monotonic()
            status = scu.store(sop_class, uid, data)
            taken_s = time.monotonic() - begun
            with self._lock:
                self.told.store_s.append((time.time(), taken_s))
                self.told.acknowledged += status == 0
                self.told.refused += status != 0
        self.told.series[str(datasets[0].SeriesInstanceUID)] = time.time()
        scu.release()

    def _send_series(self) -> None:
        values_hu = np.full((SLICES, SIDE, SIDE), -1000, np.int16)
        row, column = self._chance.integers(8, 56, 2)
        body = values_hu[4:20, row : row + 64, column : column + 64]
        body[:] = 40 + self._chance.integers(0, 400, body.shape)
        datasets = ct_series((SLICES, SIDE, SIDE), (2.0, 2.0, 2.0), values_hu=values_hu)
        self._sent_series += 1
        if self._sent_series % self._pace.late_every:
            self._store(CT, datasets)
            return
        # The last slices come when a job of the others has begun.
        self._store(CT, datasets[:-_LATE])
        self._ended.wait(self._pace.late_after_s)
        self._store(CT, datasets[-_LATE:])
        self.told.late_series += 1

    def _send_radiograph(self) -> None:
        pixels = 4000 * radiograph_phantom((768, 640)).array
        pixels += self._chance.integers(0, 90, pixels.shape)
        born = {"PatientAge": "008Y", "PatientBirthDate": "20180101"}
        self._store(DX, [radiograph(pixels.astype(np.uint16), **born)])

    def _send_small(self) -> None:
        self._store(str(MRImageStorage), mr_series((12, 96, 96)))

    def _ask(self) -> None:
        scu = RawScu(
            self._port, [(1, VERIFICATION, [IMPLICIT])], calling=CALLING, called=CALLED
        )
        scu.echo(1)
        scu.release()
        for path in ("/healthz", "/metrics", "/", "/api/jobs", "/api/studies"):
            self.told.queries += 1
            try:
                with urllib.request.urlopen(self._web_url + path, timeout=30) as answer:
                    answer.read()
            except urllib.error.URLError:
                self.told.failed_queries += 1

    def _go_away(self) -> None:
        leave, come_back = self._away
        while not self._ended.wait(self._pace.away_every_s - self._pace.away_for_s):
            leave()
            self._ended.wait(self._pace.away_for_s)
            come_back()
            self.told.absences += 1
