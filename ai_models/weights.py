"""The one door through which weights come in: nothing is loaded whose SHA-256 is not the card's.

A file is read once: the very bytes that were compared are the ones loaded. A folder is compared
file by file and then read again by the library that knows its layout (nnU-Net, MONAI,
transformers, a program), so whoever can write to it meanwhile can load something else. The folders
of models must therefore belong to people whom the node's account trusts, and be writable to
nobody else: the digest finds what was damaged, exchanged or forgotten, not who may write.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ai_models.card import CARD_NAME, Card
from ai_models.types import CardError, ModelError
from ai_models.yaml_lines import read_yaml

_CHUNK_BYTES = 1 << 20
# What editors, Python and this node's tools leave in a folder; no back-end reads any of it.
_NOT_WEIGHTS = frozenset({CARD_NAME, "README.md", "__pycache__"})


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
    _check_plain(where)
    try:
        content = where.read_bytes()
    except OSError as error:
        raise _unreadable(where, error) from error
    _compare(card, where, hashlib.sha256(content).hexdigest(), sha256 or card.weights.sha256 or "")
    return content


def verify_folder(card: Card) -> Path:
    """The weights folder of a card, compared with the card's SHA-256 before anything is loaded.

    What is read of it afterwards is not compared again: see the head of this module.

    Raises
    ------
    ModelError
        ``model.weights_missing`` or ``model.hash_mismatch``.
    """
    if not card.weights_path.is_dir():
        raise ModelError(f"no folder of weights at {card.weights_path}", reason=_MISSING)
    _compare(card, card.weights_path, folder_sha256(card.weights_path), card.weights.sha256 or "")
    return card.weights_path


def verified_folders(card: Card) -> dict[str, Path]:
    """Where the folders lie that the card's network is built on, by name, each compared with its
    SHA-256. ModelError as `verify_folder`."""
    network = card.runtime.network
    found: dict[str, Path] = {}
    for name, part in (network.folders if network is not None else {}).items():
        where = card.folder / part.path
        if not where.is_dir():
            raise ModelError(f"no folder of weights at {where}", reason=_MISSING)
        key = f"runtime.network.folders.{name}.sha256"
        _compare(card, where, folder_sha256(where), part.sha256, key)
        found[name] = where
    return found


def verify_weights(card: Card) -> None:
    """Compare everything that a card names with its SHA-256; weights elsewhere are not seen.

    With them the references of ``monitor`` and ``input.quality``: a model that cannot be
    loaded for that is not used.

    Files are read in pieces: they may be larger than the memory.

    Raises
    ------
    ModelError
        ``model.weights_missing`` or ``model.hash_mismatch``.
    """
    if card.monitor is not None and card.monitor.reference is not None:
        seen = card.folder / card.monitor.reference
        _compare(card, seen, file_sha256(seen), card.monitor.sha256 or "", "monitor.sha256")
    if card.input.quality is not None and card.input.quality.likeness is not None:
        likeness = card.input.quality.likeness
        seen = card.folder / likeness.reference
        key = "input.quality.likeness.sha256"
        _compare(card, seen, file_sha256(seen), likeness.sha256, key)
    if card.weights.path is None:
        return
    if card.weights_path.is_dir():
        verify_folder(card)
    else:
        digest = file_sha256(card.weights_path)
        _compare(card, card.weights_path, digest, card.weights.sha256 or "")
    for member in card.weights.ensemble:
        path = card.folder / member.path
        _compare(card, path, file_sha256(path), member.sha256)
    verified_folders(card)
    if card.input.crop is not None:
        from ai_models.prediction.cropping import crop_card

        if (outlining := crop_card(card)) is not None:
            verify_weights(outlining)


def file_sha256(path: Path) -> str:
    """What ``sha256sum`` prints of a file.

    Raises
    ------
    ModelError
        ``model.weights_missing``: it is no plain file, or cannot be read.
    """
    _check_plain(path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def folder_sha256(folder: Path) -> str:
    """One digest of all files in a folder: SHA-256 of lines ``<sha256>  <path>``, sorted by path.

    ``find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`` in a folder without cards,
    read-me's, links and hidden files says the same; docs/model-card.md has the command for any.

    Raises
    ------
    ModelError
        ``model.weights_missing``: as `folder_files`, or a file cannot be read.
    """
    names = {os.fsencode(path.relative_to(folder)): path for path in folder_files(folder)}
    lines = hashlib.sha256()
    for name in sorted(names):
        lines.update(f"{file_sha256(names[name])}  ".encode() + name + b"\n")
    return lines.hexdigest()


def folder_files(folder: Path) -> Iterator[Path]:
    """The files of which `folder_sha256` is made, in no order; links to files in the folder too.

    Raises
    ------
    ModelError
        ``model.weights_missing``: a link leads out of the folder or to another folder, a line
        could end within a name, or a folder cannot be read.
    """
    yield from _files(folder, folder.resolve())


def _files(folder: Path, top: Path) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error
    for path in entries:
        if path.name in _NOT_WEIGHTS or path.name.startswith("."):
            continue
        if "\n" in path.name or "\\" in path.name:
            raise ModelError(
                f"{path!r}: no line break and no backslash in a name", reason=_MISSING
            )
        if path.is_symlink() and not path.resolve().is_relative_to(top):
            raise ModelError(f"{path} leads out of the folder of the weights", reason=_MISSING)
        if not path.is_dir():
            yield path
        elif path.is_symlink():
            # One that leads to a folder above it would be followed without end.
            raise ModelError(f"{path} is a link to a folder: put the folder here", reason=_MISSING)
        else:
            yield from _files(path, top)


def _check_plain(path: Path) -> None:
    """Refuse a pipe or a device: it would be waited for without end."""
    if path.exists() and not path.is_file():
        raise ModelError(f"the weights {path} are not a plain file", reason=_MISSING)


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"the weights {path} cannot be read: {error.strerror}", reason=_MISSING)


def _compare(
    card: Card, where: Path, found: str, expected: str, key: str = "weights.sha256"
) -> None:
    if found != expected:
        raise ModelError(
            f"the weights {where} have SHA-256 {found}, the card says {expected or 'nothing'}: "
            "restore them, or check the model anew and then write that digest at "
            f"{_place_of(card, expected, key)}", reason="model.hash_mismatch",
        )


def _place_of(card: Card, digest: str, key: str) -> str:
    """File, line and key of a digest in a card."""
    members = [one.sha256 for one in card.weights.ensemble]
    if key == "weights.sha256" and digest != card.weights.sha256 and digest in members:
        key = f"weights.ensemble[{members.index(digest)}].sha256"
    path = card.folder / CARD_NAME
    try:
        line = read_yaml(card.content, path)[1].get(key)
    except CardError:  # a card that was made and not read
        line = None
    return f"{path}{f':{line}' if line else ''} {key}"


_MISSING = "model.weights_missing"
