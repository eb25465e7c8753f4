"""From a drafted card to a folder that a node takes: files copied, digests and card written."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ai_models.backends.huggingface_folder import check_folder
from ai_models.card import CARD_NAME, Card, load_card
from ai_models.scaffold.card_text import MARK, card_text
from ai_models.scaffold.draft import Draft
from ai_models.scaffold.report_text import THRESHOLDS
from ai_models.trust import Site
from ai_models.types import CardError, ModelError
from ai_models.weights import folder_sha256, verify_weights

_HEAD = """\
A first card, written by `dicom-node models new` from what the files say. What was assumed, and what
nobody has stated yet, is marked by a comment that begins with "check:". Keys: docs/model-card.md"""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ToCheck:
    """One marked line of a card: its number, its key path, and what a person must look at."""

    line: int
    key_path: str
    why: str


def write_folder(draft: Draft, folder: Path, report: tuple[str, str] | None = None) -> Card:
    """Make a model folder; it is there whole or not at all.

    Parameters
    ----------
    report
        Name and text of a report template that goes beside the card.

    Raises
    ------
    ModelError
        ``model.folder_exists``; ``model.weights_missing``: a file cannot be copied;
        ``card.invalid``: what the source says of itself makes no card; ``model.pickle``,
        ``model.remote_code``: of Hugging Face, what would need more trust.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(
            f"{folder} is there already: name another one with --output",
            reason="model.folder_exists",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A node that watches the folder above sees no card before all its files are there.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as scratch:
        made = Path(scratch) / "model"
        made.mkdir(mode=0o755)
        _copy(draft, made)
        _put_digest(draft, made)
        if report is not None:
            name, text = report
            draft.put("report", name, f"{name}.yaml beside this card: {_what_in(text)}")
            (made / f"{name}.yaml").write_text(text, encoding="utf-8")
        (made / CARD_NAME).write_text(card_text(draft, _HEAD), encoding="utf-8")
        _refuse_unfit(_card_of(made))
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    return load_card(folder)


def to_check(card: Card, draft: Draft) -> list[ToCheck]:
    """The marked lines of a card that was written from a draft, in their order."""
    numbers = [
        (number, line.partition(MARK)[2].strip())
        for number, line in enumerate(card.content.decode().splitlines(), start=1)
        if MARK in line and not line.startswith("#")
    ]
    left = dict(draft.checks)
    found = []
    for number, why in numbers:
        key_path = next((one for one, text in left.items() if text == why), "")
        left.pop(key_path, None)
        found.append(ToCheck(number, key_path, why))
    return found


def _card_of(made: Path) -> Card:
    try:
        return load_card(made)
    except CardError as error:
        # The file is gone when this is read: its line says nothing.
        told = str(error).removeprefix(f"{error.file}:").partition(": ")[2]
        raise ModelError(
            f"no card can be made of what the source says of itself: {told}", reason=error.reason
        ) from error


def _refuse_unfit(card: Card) -> None:
    verify_weights(card)
    if card.runtime.backend == "huggingface":
        check_folder(card, Site())


def _what_in(report: str) -> str:
    return f"its words, codes and thresholds ({THRESHOLDS})" if "at_least" in report else (
        "its words and codes"
    )


def _copy(draft: Draft, made: Path) -> None:
    for one in draft.copies:
        target = made / one.to
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(one.source, target)
        except OSError as error:
            raise ModelError(
                f"{one.source} cannot be copied: {error.strerror}", reason="model.weights_missing"
            ) from error


def _put_digest(draft: Draft, made: Path) -> None:
    path = draft.get("weights.path")
    if path is None:
        draft.values["weights"].pop("sha256", None)
        return
    if (made / path).is_dir():
        draft.values["weights"]["sha256"] = folder_sha256(made / path)
        return
    digest = hashlib.sha256()
    with (made / path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    draft.values["weights"]["sha256"] = digest.hexdigest()
