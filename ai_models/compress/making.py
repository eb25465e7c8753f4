"""Make smaller versions of a model, measure all of them in one run, and say which may be used."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ai_models.adapt.inputs import windows
from ai_models.card import Card, load_card
from ai_models.card_compression import Compression
from ai_models.card_runtime import Network
from ai_models.compress.exporting import export
from ai_models.compress.judging import (
    AGREEMENT,
    Answers,
    agreement,
    answers_of,
    drops,
    is_empty,
)
from ai_models.compress.quantising import (
    parameter_count,
    to_fp16,
    to_int8_dynamic,
    to_int8_static,
)
from ai_models.compress.slimming import distilled, slimmer
from ai_models.compress.versions import left_out, version_of, written
from ai_models.folder_copy import check_beside
from ai_models.prediction.cropping import Cropper
from ai_models.prediction.preparing import prepare
from ai_models.training.cases import Case, DicomReader, find_cases, split_by_patient
from ai_models.training.prepared import CaseStore
from ai_models.training.settings import TrainingError
from ai_models.trust import Site
from ai_models.types import FloatArray, ModelError, ModelInput

VARIANTS = ("onnx", "fp16", "int8-static", "int8-dynamic", "slim")
"""``onnx``: the same numbers for ONNX Runtime, of a model that PyTorch runs."""
_MOST_SHOWN = 24


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes
    ----------
    steps
        Of the distillation of ``slim``.
    runs
        How often something drawn is shown where there are no cases.
    """

    variants: tuple[str, ...] = VARIANTS
    steps: int = 400
    runs: int = 3
    device: str = "cpu"
    output: Path | None = None
    drawn: tuple[ModelInput, ...] = ()
    what: str = ""


@dataclass
class Row:
    """One version: what it is, how it did, and why it may not be used (empty: it may)."""

    variant: str
    parameters: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    drop: float = 0.0
    fell: str = ""
    refused: str = ""
    was_made: bool = False
    folder: str = ""


@dataclass(frozen=True)
class _Version:
    """Weights with how they are run."""

    path: Path
    network: Network | None


@dataclass
class Comparison:
    """All rows, the model itself first; ``measured_on`` in words."""

    card: Card
    measured_on: str
    max_drop: float
    device: str
    rows: list[Row] = field(default_factory=list)

    @property
    def document(self) -> dict[str, Any]:
        """For ``--json``, and for the record of each version."""
        return {
            "model": self.card.id, "version": self.card.version, "measured_on": self.measured_on,
            "max_drop": self.max_drop, "device": self.device,
            "versions": [asdict(row) for row in self.rows],
        }


def compress(
    card: Card, cases: Path | None, wish: Wish, scratch: Path, *,
    reader: DicomReader | None = None, site: Site | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Make, measure and, where ``wish.output`` is given, write the versions that may be used.

    Parameters
    ----------
    cases
        With their truth; without it what is drawn is shown, and answers are compared.
    scratch
        An empty folder: it holds images of patients for a while.
    told
        Is told what is being done.

    Raises
    ------
    ModelError
        ``model.cannot_compress``, or whatever is wrong with the model.
    TrainingError
        The cases cannot be read.
    """
    return _Run(card, cases, wish, scratch, reader, site, told).compared()


class _Run:
    def __init__(
        self, card: Card, cases: Path | None, wish: Wish, scratch: Path,
        reader: DicomReader | None, site: Site | None, told: Callable[[str], None],
    ) -> None:
        if card.runtime.backend not in ("onnx", "state_dict"):
            raise ModelError(
                f"{card.id} is run by {card.runtime.backend}: onnx and state_dict are made "
                "smaller", reason=_REASON,
            )
        if card.weights.ensemble:
            raise ModelError("an ensemble is made smaller member by member", reason=_REASON)
        check_beside(card.folder, left_out(card), _REASON)
        self.card, self.wish, self.scratch = card, wish, scratch
        self.reader, self.site, self.told = reader, site, told
        scratch.mkdir(parents=True, exist_ok=True)
        self.learn, self.judge = _parts(cases, card, reader)
        self.bound = card.compression or Compression()
        self.store = CaseStore(card, scratch / "cases", reader)
        self.first = Answers()

    def compared(self) -> Comparison:
        on = f"{len(self.judge)} cases" if self.judge else self.wish.what or "something drawn"
        comparison = Comparison(self.card, on, self.bound.max_drop, self.wish.device)
        made: dict[str, _Version] = {}
        try:
            self._itself(comparison)
            for variant in self.wish.variants:
                if variant == "onnx" and self.card.runtime.backend == "onnx":
                    continue
                self.told(variant)
                row = Row(variant)
                comparison.rows.append(row)
                try:
                    made[variant] = self._made(variant)
                    row.was_made = True
                    self._measured(row, made[variant])
                except (ModelError, TrainingError) as error:
                    row.refused = str(error)
        finally:
            self.store.remove()
        self._write(comparison, made)
        return comparison

    def _itself(self, comparison: Comparison) -> None:
        """The model as it is, and beside it for PyTorch where its card has that."""
        card, backend = self.card, self.card.runtime.backend
        self.told(f"{card.id} {card.version} as it is")
        self.first = self._answers(card)
        self._check_says_something()
        figures = self.first.figures or {AGREEMENT: 1.0}
        network = card.runtime.network
        comparison.rows.append(Row(
            f"{'torch' if backend == 'state_dict' else 'onnx'} (this version)",
            self._parameters(_Version(card.weights_path, network)),
            card.weights_path.stat().st_size, self.first.seconds, self.first.cpu_seconds, figures,
            was_made=True,
        ))
        twin = self._twin()
        if twin is None:
            return
        self.told("the same for torch")
        row = Row("torch")
        comparison.rows.append(row)
        row.was_made = True
        self._measured(row, twin)

    def _check_says_something(self) -> None:
        """Beside a model that finds nothing every version looks as good as it."""
        found = self.first
        is_blind = max(found.figures.values(), default=1.0) <= 0.0
        if is_blind or (not found.figures and all(map(is_empty, found.predictions))):
            raise ModelError(
                "the model itself finds nothing of what it is shown, so that no version could be "
                "worse: other cases expected (--cases)", reason=_REASON,
            )

    def _twin(self) -> _Version | None:
        twin = self.bound.torch
        if twin is None:
            return None
        path = self.card.folder / twin.path
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != twin.sha256:
            raise ModelError(f"{path} is not what compression.torch says", reason=_REASON)
        return _Version(path, twin.network)

    def _made(self, variant: str) -> _Version:
        target = self.scratch / f"{variant}.onnx"
        if variant == "slim":
            return self._slim()
        if variant == "onnx":
            shutil.copyfile(self._exported(), target)
        elif variant == "fp16":
            to_fp16(self._exported(), target)
        elif variant == "int8-static":
            to_int8_static(self._exported(), target, self._shown())
        elif variant == "int8-dynamic":
            to_int8_dynamic(self._exported(), target)
        else:
            raise ModelError(f"{variant}: one of {', '.join(VARIANTS)}", reason=_REASON)
        return _Version(target, None)

    def _exported(self) -> Path:
        """The model as an ONNX file."""
        if self.card.runtime.backend == "onnx":
            return self.card.weights_path
        path = self.scratch / "exported.onnx"
        if not path.exists():
            export(self._module(_Version(self.card.weights_path, self.card.runtime.network)),
                   self.card, path)
        return path

    def _slim(self) -> _Version:
        original = _Version(self.card.weights_path, self.card.runtime.network)
        if original.network is None:
            twin = self._twin()
            if twin is None or twin.network is None:
                raise ModelError(
                    "slim: an ONNX file does not say how to make it narrower: compression.torch "
                    "in the card", reason=_REASON,
                )
            original = twin
        if not self.learn:
            raise ModelError("slim needs cases to learn from", reason=_REASON)
        if original.network is None:
            raise ModelError("slim: of what architecture?", reason=_REASON)
        student, teacher = slimmer(original.network), self._module(original)

        def answer(image: torch.Tensor) -> torch.Tensor:
            from ai_models.training.losses import first_logits

            return first_logits(teacher(image))

        module = distilled(
            student, answer, self.card, self.learn, self.store, self.scratch / "slim",
            self.wish.steps,
        )
        if self.card.runtime.backend == "onnx":
            path = self.scratch / "slim.onnx"
            export(module, self.card, path)
            return _Version(path, None)
        from safetensors.torch import save_file

        path = self.scratch / "slim.safetensors"
        save_file({name: one.contiguous() for name, one in module.state_dict().items()}, str(path))
        return _Version(path, student)

    def _module(self, version: _Version) -> Any:
        from ai_models.backends.torch_network import TorchNetwork

        network = TorchNetwork(self._card_of(version, "module"), "cpu", self.site or Site())
        network.load()
        return network.module

    def _shown(self) -> Iterator[FloatArray]:
        """Inputs as the network sees them, some of all the cases."""
        if not self.learn:
            cropper = Cropper(self.card, site=self.site)
            cropper.load()
            for one in self.wish.drawn:
                yield prepare(one, self.card, cropper.find(one).window).image.array[None]
            cropper.close()
            return
        each = max(1, _MOST_SHOWN // len(self.learn))
        for case in self.learn[:_MOST_SHOWN]:
            batches = list(windows([case], self.store, self.card, 1))
            # What varies most has most in it: air says nothing of the range of the rest.
            batches.sort(key=lambda one: -float(one.std()))
            yield from (np.asarray(one.numpy()) for one in islice(batches, each))

    def _measured(self, row: Row, version: _Version) -> None:
        answers = self._answers(self._card_of(version, row.variant))
        row.parameters = self._parameters(version)
        row.bytes = version.path.stat().st_size
        row.seconds, row.cpu_seconds = answers.seconds, answers.cpu_seconds
        alike = agreement(self.card, self.first.predictions, answers.predictions)
        row.figures = {**answers.figures, AGREEMENT: alike}
        row.fell, row.drop = drops(self.first.figures or {AGREEMENT: 1.0}, row.figures)
        if row.drop > self.bound.max_drop:
            row.refused = (
                f"{row.fell} falls by {row.drop:.4f}, {self.bound.max_drop:g} is allowed "
                "(compression.max_drop)"
            )

    def _answers(self, card: Card) -> Answers:
        return answers_of(
            card, self.judge, self.wish.drawn, self.reader, self.site, self.wish.device,
            self.wish.runs,
        )

    def _parameters(self, version: _Version) -> int:
        if version.network is None:
            return parameter_count(version.path)
        from ai_models.backends.architectures import build

        return sum(one.numel() for one in build(
            version.network.name, version.network.arguments).parameters())

    def _card_of(self, version: _Version, name: str) -> Card:
        """The model's card with these weights, for this run only."""
        if version.path == self.card.weights_path:
            return self.card
        folder = self.scratch / f"card-{name}"
        record: Mapping[str, Any] = {
            "measured_on": "nothing", "versions": [{"variant": name, "figures": {}}],
        }
        if not folder.exists():
            written(self.card, name, version.path, folder, record, version.network)
        return load_card(folder)

    def _write(self, comparison: Comparison, made: Mapping[str, _Version]) -> None:
        if self.wish.output is None:
            return
        for row in comparison.rows:
            version = made.get(row.variant)
            if version is None or row.refused:
                continue
            name = f"{self.card.id}-{version_of(self.card, row.variant)}"
            row.folder = str(self.wish.output / name)
        for row in comparison.rows:
            if row.folder:
                written(
                    self.card, row.variant, made[row.variant].path, Path(row.folder),
                    comparison.document, made[row.variant].network,
                )


def _parts(
    cases: Path | None, card: Card, reader: DicomReader | None
) -> tuple[list[Case], list[Case]]:
    """Cases to learn from and cases to judge by: of other patients wherever there are several."""
    if cases is None and card.compression is not None and card.compression.reference is not None:
        cases = card.folder / card.compression.reference
    if cases is None:
        return [], []
    found = find_cases(cases, card, reader)
    if len({one.patient for one in found}) == 1:
        return found, found
    parts = split_by_patient(found, validation=0.0, test=0.5)
    return [*parts["training"], *parts["validation"]], parts["test"]


_REASON = "model.cannot_compress"
