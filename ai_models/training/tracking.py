"""Where the figures of a running training go: the terminal, a file, TensorBoard, MLflow."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from ai_models.training.settings import TrainingError


class Tracker(Protocol):
    """Takes figures as they come."""

    def scalars(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Figures of ``step`` (from 1) of ``steps``, by name."""

    def rewind(self, step: int) -> None:
        """The run goes on after ``step``: what was said of later ones will be said again."""

    def close(self) -> None:
        """There is no more to come."""


class Terminal:
    """One line now and then: step, loss, the time that is left; every validation."""

    def __init__(self, stream: TextIO | None = None, every_s: float = 5.0) -> None:
        self.stream, self.every_s = stream or sys.stderr, every_s
        self.began: tuple[float, int] | None = None
        self.told_at = -float("inf")

    def scalars(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Figures of a step."""
        now = time.monotonic()
        if self.began is None:
            self.began = (now, step)
        is_validation = "loss" not in values
        if not is_validation and step != steps and now - self.told_at < self.every_s:
            return
        self.told_at = now
        started, first = self.began
        left = (now - started) / max(step - first, 1) * (steps - step)
        first_two = list(values.items())[:2]
        shown = "  ".join(f"{name} {value:.4g}" for name, value in first_two)
        wait = f"  {_minutes(left)} left" if step > first and step < steps else ""
        print(f"step {step} of {steps}  {shown}{wait}", file=self.stream, flush=True)

    def rewind(self, step: int) -> None:
        """Say from where it goes on."""
        print(f"goes on after step {step}", file=self.stream, flush=True)

    def close(self) -> None:
        """Nothing is open."""


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class LogFile:
    """``log.jsonl``: one JSON object for each step and each validation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream: TextIO | None = None

    def scalars(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Figures of a step."""
        if self.stream is None:
            self.stream = self.path.open("a")
        self.stream.write(json.dumps({"step": step, **values}) + "\n")
        self.stream.flush()

    def rewind(self, step: int) -> None:
        """Take out what was written after the checkpoint."""
        self.close()
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines()
        # The last line of a killed run may have been cut off.
        whole = [line for line in lines if line.endswith("}")]
        kept = [line + "\n" for line in whole if json.loads(line)["step"] <= step]
        self.path.write_text("".join(kept))

    def close(self) -> None:
        """Close the file."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None


class TensorBoard:
    """Event files of TensorBoard in a folder."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise TrainingError("TensorBoard is not installed: pip install tensorboard")
        self.folder = folder
        self.writer: Any = None

    def scalars(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Figures of a step."""
        if self.writer is None:
            self._open()
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        """Tell TensorBoard to forget the steps after."""
        self._open(purge_step=step + 1)

    def _open(self, **options: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), **options)

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self.writer.close()


class Mlflow:
    """A run of MLflow: in a local folder, or at the address that was given."""

    def __init__(self, address: str, name: str) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise TrainingError("MLflow is not installed: pip install mlflow")
        self.mlflow: Any = importlib.import_module("mlflow")
        # Never the one of the environment: nothing goes to a host that was not named here.
        self.mlflow.set_tracking_uri(address)
        self.mlflow.set_experiment(name)
        self.mlflow.start_run()

    def scalars(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Figures of a step."""
        self.mlflow.log_metrics(dict(values), step=step)

    def rewind(self, step: int) -> None:
        """A run that goes on is a new run of MLflow, from this step on."""

    def close(self) -> None:
        """End the run."""
        self.mlflow.end_run()
