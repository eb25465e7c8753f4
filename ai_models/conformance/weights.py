"""Weights that are not those of the card are refused, by the gate and by the back-end itself."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from ai_models.card import Card, load_card
from ai_models.conformance.check import Check, not_applicable, refused
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.weights import folder_files, verify_weights

CHANGED_WEIGHTS = "changed weights"
_MISMATCH = "model.hash_mismatch"


def check_changed_weights(card: Card, device: str, site: Site, scratch: Path) -> Check:
    """A copy of the model's folder with one byte changed; ``scratch`` holds it and is kept."""
    if card.weights.path is None:
        return not_applicable(CHANGED_WEIGHTS, "another host has the weights")
    copy = scratch / "changed"
    # Links cost nothing, and the changed file is no link.
    shutil.copytree(
        card.folder, copy, copy_function=_link, ignore=shutil.ignore_patterns(".git"),
    )
    changed = load_card(copy, card.content)
    _change_a_byte(changed)
    gate = refused(CHANGED_WEIGHTS, lambda: verify_weights(changed), (_MISMATCH,))
    if gate.outcome != "passed":
        return gate
    # The copy is trusted as its original is: it is its bytes that must be refused.
    trusting = replace(site, trusted_folders=(*site.trusted_folders, copy))
    return refused(
        CHANGED_WEIGHTS, Predictor(changed, device, trusting).load, (_MISMATCH,)
    )


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        return str(shutil.copy2(source, target))
    return target


def _change_a_byte(card: Card) -> None:
    files = folder_files(card.weights_path) if card.weights_path.is_dir() else [card.weights_path]
    path = max(files, key=lambda one: one.stat().st_size)
    own = path.with_name(path.name + ".own")
    shutil.copyfile(path, own)
    middle = own.stat().st_size // 2
    with own.open("r+b") as file:
        file.seek(middle)
        byte = file.read(1) or b"\0"
        file.seek(middle)
        file.write(bytes([byte[0] ^ 1]))
    own.replace(path)
