"""Whoever reads the folder of a model while it is trained finds weights that are its card's."""

from __future__ import annotations

import threading
from pathlib import Path

import torch

from ai_models.card import load_card
from ai_models.training.recipe import read_recipe
from ai_models.training.release import built_network, remove_others, write_model
from ai_models.types import ModelError
from ai_models.weights import verify_weights
from tests.ai_models.training.tiny_cases import recipe

TOLD = {"validated_on": "three balls"}


def test_no_reader_ever_sees_a_card_beside_weights_of_another_one(tmp_path: Path) -> None:
    made = read_recipe(recipe(tmp_path / "recipe.yaml", steps=1))
    network, folder = built_network(made, tmp_path), tmp_path / "model"
    write_model(made, network, folder, tmp_path)
    seen: list[str] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            try:
                verify_weights(load_card(folder))
                seen.append("")
            except ModelError as error:
                seen.append(error.reason)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(12):
            with torch.no_grad():
                next(network.parameters()).add_(1.0)
            # Untrained at first, as a run begins; then trained, measured, and begun anew.
            write_model(made, network, folder, tmp_path, evidence=TOLD if number % 3 else None)
    finally:
        is_over.set()
        reader.join()
    assert set(seen) == {""}


def test_the_same_weights_are_not_written_twice(tmp_path: Path) -> None:
    made = read_recipe(recipe(tmp_path / "recipe.yaml", steps=1))
    network, folder = built_network(made, tmp_path), tmp_path / "model"
    first = write_model(made, network, folder, tmp_path, evidence=TOLD).weights_path.stat()
    again = write_model(made, network, folder, tmp_path, evidence=TOLD).weights_path.stat()
    assert (first.st_ino, first.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)


def test_of_a_trained_model_the_weights_of_its_beginning_are_removed(tmp_path: Path) -> None:
    made = read_recipe(recipe(tmp_path / "recipe.yaml", steps=1))
    network, folder = built_network(made, tmp_path), tmp_path / "model"
    assert write_model(made, network, folder, tmp_path).weights.path == "untrained.safetensors"
    write_model(made, network, folder, tmp_path, evidence=TOLD)
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    card = write_model(made, network, folder, tmp_path, evidence=TOLD)
    remove_others(folder, card)
    left = sorted(one.name for one in folder.iterdir())
    assert left == ["model.yaml", f"weights-{card.weights_sha256[:12]}.safetensors"]
