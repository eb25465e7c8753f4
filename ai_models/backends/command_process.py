"""One run of a foreign program, in a folder of its own that outlives nothing.

The program sees its own environment only, no network where the system allows to take it, and
nothing on stdin. It and all its children are gone, and the folder with the images is removed, when
the run is over: also when this process is killed meanwhile (see `command_keeper`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ai_models.types import ModelError

LARGEST_FILE_BYTES = 4 << 30
LAST_WORDS_CHARACTERS = 2000
_KEEPER = Path(__file__).with_name("command_keeper.py")
_FAREWELL_S = 30.0


@dataclass(frozen=True)
class Ending:
    """How a program ended: with ``how`` a sentence, ``last_words`` the end of what it printed."""

    succeeded: bool
    how: str
    last_words: str
    had_network: bool


class KeptProgram:
    """Folders ``input`` and ``output`` for one program, which is then run there.

    Raises
    ------
    ModelError
        ``model.failed``: it cannot be started, or its folder cannot be removed.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="model-program-"))
        for name in ("input", "output", "work", "home", "temporary"):
            (self.folder / name).mkdir()
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd="/",
            env={"LANG": "C.UTF-8"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        try:
            code = self._keeper.wait(timeout=_FAREWELL_S)
        except subprocess.TimeoutExpired:
            # The program hangs in the kernel (a device that does not answer) and cannot be ended.
            self._keeper.kill()
            code = self._keeper.wait()
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()
        if code != 0 and error is None:
            raise ModelError("the program cannot be ended, or what it left be removed")

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> Ending:
        """Run the words to their end. ``environment`` is added to PATH, HOME, LANG and TMPDIR."""
        document = {
            "words": list(words), "file_bytes": LARGEST_FILE_BYTES,
            "environment": {
                "PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8",
                "HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "temporary"),
                **environment,
            },
        }
        answer = self._ask(json.dumps(document).encode() + b"\n")
        if "error" in answer:
            raise ModelError(f"{words[0]} cannot be started: {answer['error']}")
        code = int(answer["exit"])
        how = f"ended with exit status {code}"
        if code < 0:
            how = f"was ended by signal {-code} ({signal.strsignal(-code)})"
        return Ending(code == 0, how, self._last_words(), bool(answer["network"]))

    def _ask(self, line: bytes) -> dict[str, Any]:
        if self._keeper.stdin is None or self._keeper.stdout is None:
            raise ModelError("the keeper of the program was started without pipes")
        try:
            self._keeper.stdin.write(line)
            self._keeper.stdin.flush()
            answer: dict[str, Any] = json.loads(self._keeper.stdout.readline())
        except (OSError, ValueError) as error:
            raise ModelError("the keeper of the program was lost, and the program too") from error
        return answer

    def _last_words(self) -> str:
        """The end of stderr, or of stdout if there is none; the folder's name is left out."""
        for name in ("stderr", "stdout"):
            path = self.folder / name
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 4 * LAST_WORDS_CHARACTERS))
                text = file.read().decode(errors="replace").replace(str(self.folder), "...")
            lines = [
                "".join(letter for letter in line if letter.isprintable() or letter == "\t").strip()
                for line in text.splitlines()
            ]
            said = "\n".join(line for line in lines if line)
            if said:
                return said[-LAST_WORDS_CHARACTERS:]
        return ""
