"""A program as a model: started anew for each input, in an environment of its own.

What it reads and writes is said in docs/command-models.md. The node's own Python and its packages
are out of its reach, so that it may bring whatever versions it needs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ai_models.backends.command_answer import read_answer
from ai_models.backends.command_files import write_input
from ai_models.backends.command_process import KeptProgram
from ai_models.backends.protocol import Answer, NetworkInput, check_device, is_out_of_memory
from ai_models.card import Card, ClassificationCard
from ai_models.card_entries import Calibration, CommandOptions
from ai_models.trust import Site
from ai_models.types import ModelError
from ai_models.weights import verify_weights


class CommandBackend:
    """Runs the program that a card names."""

    def __init__(self, card: Card, device: str, site: Site) -> None:
        self._card = card
        self._device = device
        self._site = site
        self._is_loaded = False
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Program and device, and what could not be taken from it."""
        return self._notes

    def probe(self) -> None:
        """See `Backend.probe`; a program runs only where card and site both trust it."""
        check_device(self._device)
        self._check_trust()
        self._check_card()
        self._program()

    def load(self) -> None:
        """See `Backend.load`: the weights are compared; the program itself loads them each time."""
        self.probe()
        verify_weights(self._card)
        self._is_loaded = True
        self._notes = (self._what_runs(self._device),)

    def warm_up(self) -> None:
        """Nothing: a program keeps nothing warm from one input to the next."""

    def predict(self, image: NetworkInput) -> Answer:
        """See `Backend.predict`.

        Raises
        ------
        ModelError
            ``model.failed``: the program failed, with the last lines that it printed
            (`is_out_of_memory` sees there whether it lacked memory); and as
            `ai_models.backends.command_answer.read_answer` says.
        """
        if not self._is_loaded:
            raise ModelError("predict before load", reason="model.not_loaded")
        try:
            return self._predict(image, self._device)
        except ModelError as error:
            may_go_on = self._device != "cpu" and "cpu" in self._card.runtime.fallbacks
            if not (may_go_on and is_out_of_memory(error)):
                raise
        answer = self._predict(image, "cpu")
        note = f"memory of {self._device} did not suffice: ran on the CPU"
        return Answer(
            answer.scores, answer.label_map, answer.boxes, answer.text,
            (*answer.notes, note), {"fall_back": "cpu"},
        )

    def close(self) -> None:
        """See `Backend.close`."""
        self._is_loaded = False

    def _check_trust(self) -> None:
        card = self._card
        if not card.trust.program:
            raise ModelError(
                f"{card.id} is a program, and its card does not ask for trust.program",
                reason="model.program_untrusted",
            )
        if not self._site.trusts(card.folder):
            raise ModelError(
                f"{card.id} is a program, and its folder is not in models.trusted_folders",
                reason="model.program_untrusted",
            )

    def _check_card(self) -> None:
        card = self._card
        if isinstance(card, ClassificationCard) and any(
            entry.calibration != Calibration() for entry in card.output.scores
        ):
            raise ModelError(
                f"{card.id}: a program answers probabilities, output.scores.calibration is for "
                "logits", reason="model.wrong_output",
            )

    def _options(self) -> CommandOptions:
        if self._card.runtime.command is None:
            raise ModelError(f"{self._card.id} names no runtime.command", reason=_MISSING)
        return self._card.runtime.command

    def _program(self) -> str:
        """The program's full path: in the card's folder if it has a slash, otherwise in PATH."""
        first = self._options().run[0].replace("{folder}", str(self._card.folder.resolve()))
        if "/" in first:
            # Not resolved: Python finds its virtual environment by the link that it is started by.
            path = self._card.folder.resolve() / first
            found = str(path) if path.is_file() and os.access(path, os.X_OK) else None
        else:
            found = shutil.which(first)
        if found is None:
            raise ModelError(f"no program {first!r} that can be run", reason=_MISSING)
        return found

    def _predict(self, image: NetworkInput, device: str) -> Answer:
        with KeptProgram() as program:
            write_input(program.folder / "input", image, self._card)
            values = {
                "{input}": str(program.folder / "input"),
                "{output}": str(program.folder / "output"),
                "{folder}": str(self._card.folder.resolve()),
                # Of all devices the program sees this one, which then is the first.
                "{device}": "cpu" if device == "cpu" else "cuda:0",
            }
            words = [self._program(), *(_filled(w, values) for w in self._options().run[1:])]
            environment = {
                name: _filled(value, values) for name, value in self._options().environment.items()
            }
            ending = program.run(words, environment | _devices(device))
            if not ending.succeeded:
                said = ending.last_words or "it said nothing"
                raise ModelError(f"the program of {self._card.id} {ending.how}: {said}")
            answer = read_answer(program.folder / "output", image, self._card)
        notes = [self._what_runs(device)]
        if ending.had_network:
            notes.append("the system did not allow to take the network from the program")
        return Answer(
            answer.scores, answer.label_map, answer.boxes, answer.text, tuple(notes)
        )

    def _what_runs(self, device: str) -> str:
        return f"program {Path(self._options().run[0]).name}, {device}"


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _devices(device: str) -> dict[str, str]:
    """What leaves this device only; ours may be restricted and numbered anew already."""
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    number = int(device.partition(":")[2])
    ours = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    if ours and number >= len(ours):
        raise ModelError(f"there is no {device}", reason="model.device_unknown")
    order = os.environ.get("CUDA_DEVICE_ORDER")
    return {"CUDA_VISIBLE_DEVICES": ours[number] if ours else str(number)} | (
        {"CUDA_DEVICE_ORDER": order} if order else {}
    )


_MISSING = "model.program_missing"
