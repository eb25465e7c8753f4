"""The one door through which weights come in: nothing is loaded whose SHA-256 is not the card's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ai_models.card import CARD_NAME, Card
from ai_models.types import ModelError

_CHUNK_BYTES = 1 << 20
# What editors, Python and this node's tools leave in a folder; no back-end reads any of it.
_NOT_WEIGHTS = frozenset({CARD_NAME, "README.md", "__pycache__", ".git", ".DS_Store"})


def read_verified_weights(card: Card, path: Path | None = None, sha256: str = "") -> bytes:
    """A weights file of a card, read once and compared with the card's SHA-256.

    ``path`` and ``sha256`` name a member of an ensemble. The very bytes that were compared are the
    ones loaded.

    Raises
    ------
    ModelError
        ``model.weights_missing`` or ``model.hash_mismatch``.
    """
    where = path or card.weights_path
    if where.exists() and not where.is_file():
        raise ModelError(f"the weights {where} are not a plain file", reason=_MISSING)
    try:
        content = where.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the weights {where} cannot be read: {error.strerror}", reason=_MISSING
        ) from error
    _compare(where, hashlib.sha256(content).hexdigest(), sha256 or card.weights.sha256 or "")
    return content


def verify_folder(card: Card) -> Path:
    """The weights folder of a card, compared with the card's SHA-256 before anything is loaded.

    Raises
    ------
    ModelError
        ``model.weights_missing`` or ``model.hash_mismatch``.
    """
    if not card.weights_path.is_dir():
        raise ModelError(f"no folder of weights at {card.weights_path}", reason=_MISSING)
    _compare(card.weights_path, folder_sha256(card.weights_path), card.weights.sha256 or "")
    return card.weights_path


def verify_weights(card: Card) -> None:
    """Compare everything that a card names with its SHA-256; weights elsewhere are not seen.

    Raises
    ------
    ModelError
        ``model.weights_missing`` or ``model.hash_mismatch``.
    """
    if card.weights.path is None:
        return
    if card.weights_path.is_dir():
        verify_folder(card)
    else:
        read_verified_weights(card)
    for member in card.weights.ensemble:
        read_verified_weights(card, card.folder / member.path, member.sha256)


def folder_sha256(folder: Path) -> str:
    """One digest of all files in a folder: SHA-256 of lines ``<sha256>  <path>``, sorted by path.

    ``find . -type f | sort | xargs sha256sum | sha256sum`` on a folder without cards, read-me's
    and hidden files says the same, in the C locale and with ``./`` taken off the paths. Links are
    followed only to files inside of the folder.

    Raises
    ------
    ModelError
        ``model.weights_missing``: a file cannot be read, or a link leads out of the folder.
    """
    lines = hashlib.sha256()
    for path in sorted(folder_files(folder), key=lambda one: one.relative_to(folder).as_posix()):
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}", reason=_MISSING) from error
        name = path.relative_to(folder).as_posix()
        lines.update(f"{digest.hexdigest()}  {name}\n".encode())
    return lines.hexdigest()


def folder_files(folder: Path) -> Iterator[Path]:
    """The files of which `folder_sha256` is made.

    Raises
    ------
    ModelError
        ``model.weights_missing``: a link leads out of the folder.
    """
    for path in folder.iterdir():
        if path.name in _NOT_WEIGHTS or path.name.startswith("."):
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{path} leads out of the folder of the weights", reason=_MISSING)
        if path.is_dir():
            yield from folder_files(path)
        else:
            yield path


def _compare(where: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ModelError(
            f"the weights {where} have SHA-256 {found}, the card says {expected or 'nothing'}: "
            "restore them or check the model anew", reason="model.hash_mismatch",
        )


_MISSING = "model.weights_missing"
