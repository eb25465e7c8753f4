"""The daily self-test: models answer a phantom, and are held against what they gave before.

    data_dir/selftest/<model>.json    first answers by version and kind of device; the last result

A driver, a library or a disk can change what a model says without any error. The same version on
the same kind of device gives the same volumes and scores; one that has left the band of one per
cent is told as an event, in the health report, and by ``dicom-node check``.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dicom_node.durable import write_durably
from dicom_node.errors import NodeError, StorageFailed, WorkerLost
from dicom_node.events import Events

BAND = 0.01
# What is nearly nothing, in ml, may double without a meaning.
_FLOOR = 1.0
_MOST_BASELINES = 20
# What made way for a job is tried again after this time.
_AGAIN_AFTER = timedelta(minutes=10)


class PutOff(WorkerLost):
    """A test was given up because a job waited for its device: it says nothing of the model."""

    reason = "worker.put_off"


@dataclass(frozen=True)
class Measured:
    """What one model said of a phantom.

    Attributes
    ----------
    version
        Of the model, with what tells its weights from others.
    device
        The make of what computed it.
    values
        Volumes in ml, scores, quantities, counts, by name.
    wrong
        What is not as the phantom is drawn, in words; empty where nothing is, or nothing is known.
    """

    model_id: str
    version: str
    device: str
    values: dict[str, float]
    wrong: str = ""


@dataclass(frozen=True)
class SelftestResult:
    """How one model did: ``problem`` is empty where all is well; ``at`` is ISO 8601."""

    model_id: str
    version: str
    at: str
    problem: str
    is_first: bool = False
    values: dict[str, float] | None = None


class SelftestBook:
    """What models gave the first time, and how they did last; one small file for each model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def judge(self, measured: Measured, *, keep: bool = True) -> SelftestResult:
        """Compare with the first answer of this version on this kind of device.

        The first time the answer itself is the measure, if the phantom's truth does not speak
        against it. With ``keep`` the result, and a first answer, are written.

        Raises
        ------
        StorageFailed
        """
        book = self._read(measured.model_id)
        key = f"{measured.version} on {measured.device}"
        before = book["first"].get(key)
        problem = measured.wrong or ("" if before is None else _apart(before, measured.values))
        result = SelftestResult(
            measured.model_id, measured.version, _now().isoformat(timespec="seconds"), problem,
            before is None, measured.values,
        )
        if before is None and not problem:
            book["first"][key] = measured.values
            for old in list(book["first"])[:-_MOST_BASELINES]:
                del book["first"][old]
        if keep:
            self._write(measured.model_id, book, result)
        return result

    def failed(self, model_id: str, problem: str, *, keep: bool = True) -> SelftestResult:
        """A model that gave no answer at all; raises as `judge`."""
        result = SelftestResult(model_id, "", _now().isoformat(timespec="seconds"), problem)
        if keep:
            self._write(model_id, self._read(model_id), result)
        return result

    def last(self, model_id: str) -> SelftestResult | None:
        """How a model did when it was last tested."""
        last = self._read(model_id)["last"]
        try:
            return SelftestResult(**last) if last else None
        except TypeError:
            return None

    def _read(self, model_id: str) -> dict[str, Any]:
        book: dict[str, Any] = {}
        # A file that is not there or damaged is begun anew: the next answer is the measure then.
        with contextlib.suppress(OSError, ValueError):
            book = json.loads(self._path(model_id).read_text("utf-8"))
        is_book = isinstance(book, dict) and isinstance(book.get("first"), dict)
        return {"first": {}, "last": None, **book} if is_book else {"first": {}, "last": None}

    def _write(self, model_id: str, book: dict[str, Any], result: SelftestResult) -> None:
        book["last"] = asdict(result)
        try:
            self._folder.mkdir(mode=0o750, exist_ok=True)
            text = json.dumps(book, indent=1).encode()
            write_durably(str(self._path(model_id)), lambda file: file.write(text))
        except OSError as error:
            raise StorageFailed(f"{self._folder} cannot be written: {error.strerror}") from error

    def _path(self, model_id: str) -> Path:
        name = "".join(one if one.isalnum() or one in "-_." else "_" for one in model_id)
        return self._folder / f"{name.lstrip('.') or '_'}.json"


class Selftest:
    """Tests models at a time of the day, in a thread that waits its turn for a device.

    Parameters
    ----------
    at
        ``HH:MM``, local time.
    models
        Which are to be tested now.
    measure
        What a model says of a phantom; raises `NodeError`, `PutOff` where it made way for a job.
        Asks whether to stop, now and then.
    """

    def __init__(
        self, at: str, models: Callable[[], Sequence[str]],
        measure: Callable[[str, Callable[[], bool]], Measured], book: SelftestBook, events: Events,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._at = (int(at[:2]), int(at[3:]))
        self._models = models
        self._measure = measure
        self._book = book
        self._events = events
        self._now = now or _now
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._next = self._next_time()
        self._problems: dict[str, str] = {}
        # Replaced by the thread, and read when it has ended.
        self._put_off: list[str] = []
        self._again = self._next

    def start(self) -> None:
        """Take up how models did last."""
        for model_id in self._models():
            last = self._book.last(model_id)
            if last is not None and last.problem:
                self._problems[model_id] = last.problem

    def tick(self) -> None:
        """Begin when it is time to, unless the last test is not over."""
        if self._thread is not None and self._thread.is_alive():
            return
        now = self._wall()
        if now >= self._next:
            self._next = self._next_time()
            models = list(self._models())
        elif self._put_off and now >= self._again:
            models = self._put_off
        else:
            return
        self._again = now + _AGAIN_AFTER
        self._thread = threading.Thread(
            target=self._run, args=(models,), name="self-test", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Give up what runs."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def problem(self) -> str:
        """Which models did not do well when they were last tested."""
        return "; ".join(f"{name}: {found}" for name, found in sorted(self._problems.items()))

    def _wall(self) -> datetime:
        # What the clock on the wall shows: an hour that it leaves out is over when it is later,
        # and one that it shows twice has come only once since the last time.
        return self._now().replace(tzinfo=None)

    def _next_time(self) -> datetime:
        now = self._wall()
        at = now.replace(hour=self._at[0], minute=self._at[1], second=0, microsecond=0)
        return at if at > now else at + timedelta(days=1)

    def _run(self, models: Sequence[str]) -> None:
        self._put_off = []
        for model_id in models:
            if self._stopping.is_set():
                return
            try:
                self._test(model_id)
            except PutOff:
                self._put_off.append(model_id)
                self._events.selftest_put_off(model_id)
            # A boundary: a thread that nobody waits for tells what it could not do.
            except Exception:  # noqa: BLE001
                self._events.unexpected("self-test")

    def _test(self, model_id: str) -> None:
        try:
            result = self._book.judge(self._measure(model_id, self._stopping.is_set))
        except PutOff:
            raise
        except NodeError as error:
            if self._stopping.is_set():
                return
            result = self._book.failed(model_id, f"{error.reason}: {error}")
        if result.problem:
            self._problems[model_id] = result.problem
            self._events.selftest_failed(model_id, result.version, result.problem)
        else:
            self._problems.pop(model_id, None)
            self._events.selftest_passed(model_id, result.version, result.is_first)


def _now() -> datetime:
    return datetime.now().astimezone()


def _apart(before: dict[str, Any], now: dict[str, float]) -> str:
    """What has left the band; the furthest first."""
    if before.keys() != now.keys():
        return f"gives {', '.join(sorted(now))}, and gave {', '.join(sorted(before))} before"
    far = []
    for name, value in now.items():
        was = float(before[name])
        share = abs(value - was) / max(abs(was), _FLOOR if name.endswith(" ml") else 1e-9)
        # A score is a share already.
        share = abs(value - was) if name.startswith("score ") else share
        if not share <= BAND:
            far.append((share, f"{name} is {value:.4g} and was {was:.4g}"))
    return "; ".join(text for _, text in sorted(far, reverse=True))
