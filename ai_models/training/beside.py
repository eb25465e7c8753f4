"""Folders that a model needs beside its weights: what its network is built on, what crops for it.

They are put into the model's folder as links to the same files where that is possible: a LLaMA
takes tens of gigabytes. Whoever changes a file of them in place changes it for both, and the
digest of the card says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ai_models.card import CARD_NAME
from ai_models.folder_copy import check_beside
from ai_models.training.settings import TrainingError
from ai_models.types import ModelError
from ai_models.weights import file_sha256, folder_sha256


def folders_beside(card: Mapping[str, Any], beside: Path) -> dict[str, Path]:
    """Folders of ``runtime.network.folders`` of a recipe's card, by name, from ``beside`` on.

    Raises
    ------
    TrainingError
        There is no such folder, or it is another one than ``sha256`` there says.
    """
    found = {}
    for name, part in _parts(card):
        place = f"card.runtime.network.folders.{name}"
        where = beside / _path(part, "path", place)
        if not where.is_dir():
            raise TrainingError(f"{place}.path: there is no folder {where}")
        said = part.get("sha256")
        if said is not None and (digest := folder_sha256(where)) != said:
            raise TrainingError(f"{place}.sha256: {where.name} has {digest}")
        found[name] = where
    return found


def put_folders(values: dict[str, Any], beside: Path, folder: Path) -> None:
    """Put the folders that a card names into ``folder`` under their last name, and write path and
    digest of each into ``values``, the card. What is there already stays.

    Raises
    ------
    TrainingError
        As `folders_beside`; there are links in one, or two have one name.
    """
    taken = folders_beside(values, beside)
    names = [where.name for where in taken.values()]
    if len(set(names)) != len(names):
        raise TrainingError(f"card.runtime.network.folders: two are called {names[0]}")
    for name, part in _parts(values):
        part["path"] = taken[name].name
        _put(taken[name], folder / taken[name].name)
        part["sha256"] = folder_sha256(folder / taken[name].name)
    crop = (values.get("input") or {}).get("crop")
    if isinstance(crop, dict):
        where = beside / _path(crop, "model", "card.input.crop")
        if not (where / CARD_NAME).is_file():
            raise TrainingError(f"card.input.crop.model: there is no {CARD_NAME} in {where}")
        crop["model"] = where.name
        _put(where, folder / where.name)
        crop["sha256"] = file_sha256(folder / where.name / CARD_NAME)


def _parts(card: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    network = (card.get("runtime") or {}).get("network") or {}
    folders = network.get("folders") or {}
    if not isinstance(folders, dict) or not all(isinstance(one, dict) for one in folders.values()):
        raise TrainingError("card.runtime.network.folders: a folder by name expected")
    yield from folders.items()


def _path(part: Mapping[str, Any], key: str, place: str) -> str:
    path = part.get(key)
    if not isinstance(path, str) or not PurePosixPath(path).name:
        raise TrainingError(f"{place}.{key}: a folder expected")
    return path


def _put(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        check_beside(source, (), "model.load_failed")
    except ModelError as error:
        raise TrainingError(str(error)) from error
    unfinished = target.with_name(f".{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished, copy_function=_linked)
    unfinished.replace(target)


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target
