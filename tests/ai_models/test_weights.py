"""Nothing is loaded that is not, byte for byte, what the card says."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from ai_models.card import Card, load_card
from ai_models.types import CardError, ModelError
from ai_models.weights import (
    file_sha256,
    folder_sha256,
    read_verified_weights,
    verify_folder,
    verify_weights,
)
from tests.ai_models.tiny_models import card_text, card_values, write_model

# As docs/model-card.md has it.
PIPELINE = (
    r"find . -type f ! -name model.yaml ! -name README.md ! -path '*/.*' ! -path '*/__pycache__/*'"
    r" -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
)
SHORT = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"


def filled(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def by_shell(folder: Path, command: str = PIPELINE) -> str:
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, check=True)
    return done.stdout.decode().split()[0]


def folder_card(folder: Path, **changes: object) -> Card:
    """A card of a folder of weights that is there already."""
    (folder / "model.yaml").write_text(card_text(card_values(
        runtime={"backend": "command", "command": {"run": ["program"]}}, trust={"program": True},
        weights__path="weights", weights__sha256=folder_sha256(folder / "weights"), **changes,
    )))
    return load_card(folder)


def reason_of(error: pytest.ExceptionInfo[ModelError]) -> str:
    return error.value.reason


def test_file_is_given_when_it_is_the_cards(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "m", b"weights"))
    assert read_verified_weights(card) == b"weights"
    verify_weights(card)


def test_changed_file_is_found(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "m", b"weights"))
    card.weights_path.write_bytes(b"weightz")
    for verify in (verify_weights, read_verified_weights):
        with pytest.raises(ModelError, match="the card says") as caught:
            verify(card)
        assert reason_of(caught) == "model.hash_mismatch"


def test_missing_file_is_not_taken_for_a_changed_one(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "m", b"weights"))
    card.weights_path.unlink()
    for verify in (verify_weights, read_verified_weights):
        with pytest.raises(ModelError, match="cannot be read") as caught:
            verify(card)
        assert reason_of(caught) == "model.weights_missing"


def test_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "m", b"weights"))
    card.weights_path.unlink()
    os.mkfifo(card.weights_path)
    for verify in (verify_weights, read_verified_weights):
        with pytest.raises(ModelError, match="not a plain file"):
            verify(card)


def test_members_of_an_ensemble_are_compared_each(tmp_path: Path) -> None:
    fold = {"path": "fold.onnx", "sha256": hashlib.sha256(b"fold").hexdigest()}
    card = load_card(write_model(tmp_path / "m", b"weights", weights__ensemble=[fold]))
    filled(card.folder, {"fold.onnx": b"fold"})
    verify_weights(card)
    assert read_verified_weights(card, card.folder / "fold.onnx", fold["sha256"]) == b"fold"
    filled(card.folder, {"fold.onnx": b"another"})
    with pytest.raises(ModelError, match=r"fold\.onnx have SHA-256"):
        verify_weights(card)


def test_weights_of_another_host_are_not_seen(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(card_text(card_values(
        weights={"licence": "MIT", "source": "another host"},
        runtime={
            "backend": "open_inference", "roi": [16, 16, 16],
            "endpoint": {"name": "farm", "model": "bright"},
        },
    )))
    verify_weights(load_card(tmp_path))


def test_digest_of_a_folder_is_that_of_a_shell(tmp_path: Path) -> None:
    folder = filled(
        tmp_path, {"b.bin": b"2", "a/c.bin": b"3", "a.bin": b"1", "B.bin": b"4", "a b": b"5",
                     "\u00e4.bin": b"6", "z/z/z.bin": b"", "\udcff.bin": b"7"},
    )
    assert folder_sha256(folder) == by_shell(folder)


def test_digest_of_plain_names_is_that_of_a_short_command(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"plans.json": b"{}", "fold_0/checkpoint_final.pth": b"1"})
    assert folder_sha256(folder) == by_shell(folder, SHORT)


def test_what_editors_and_python_leave_does_not_count(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"a.bin": b"1"})
    before = folder_sha256(folder)
    filled(folder, {
        "model.yaml": b"", "README.md": b"read me", ".hidden": b"x", ".git/config": b"x",
        "sub/README.md": b"", "sub/__pycache__/x.pyc": b"x",
    })
    assert folder_sha256(folder) == before == by_shell(folder)


@pytest.mark.parametrize("change", ["content", "name", "place", "more", "less", "swapped"])
def test_whatever_changes_in_a_folder_is_found(tmp_path: Path, change: str) -> None:
    weights = filled(tmp_path / "weights", {"a.bin": b"1", "b.bin": b"2"})
    card = folder_card(tmp_path)
    assert verify_folder(card) == weights
    if change == "content":
        filled(weights, {"a.bin": b"3"})
    elif change == "name":
        (weights / "a.bin").rename(weights / "c.bin")
    elif change == "place":
        (weights / "sub").mkdir()
        (weights / "a.bin").rename(weights / "sub" / "a.bin")
    elif change == "more":
        filled(weights, {"c.bin": b""})
    elif change == "less":
        (weights / "b.bin").unlink()
    else:
        filled(weights, {"a.bin": b"2", "b.bin": b"1"})
    with pytest.raises(ModelError) as caught:
        verify_weights(card)
    assert reason_of(caught) == "model.hash_mismatch"


def test_link_to_a_file_in_the_folder_is_that_file(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"a.bin": b"1"})
    (folder / "b.bin").symlink_to("a.bin")
    copied = filled(tmp_path / "copied", {"a.bin": b"1", "b.bin": b"1"})
    expected = folder_sha256(copied)
    for path in (copied / "a.bin", copied / "b.bin"):
        path.unlink()
    copied.rmdir()
    assert folder_sha256(folder) == expected


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside.bin"])
def test_link_out_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    filled(tmp_path, {"outside.bin": b"1"})
    folder = filled(tmp_path / "weights", {"a.bin": b"1"})
    (folder / "b.bin").symlink_to(target)
    with pytest.raises(ModelError, match="leads out of the folder") as caught:
        folder_sha256(folder)
    assert reason_of(caught) == "model.weights_missing"


def test_link_of_a_subfolder_to_a_file_above_it_is_in_the_folder(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"a.bin": b"1", "sub/c.bin": b"2"})
    (folder / "sub" / "b.bin").symlink_to("../a.bin")
    assert len(folder_sha256(folder)) == 64


def test_link_to_a_folder_is_not_followed_without_end(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"sub/a.bin": b"1"})
    (folder / "sub" / "again").symlink_to("..")
    with pytest.raises(ModelError, match="link to a folder"):
        folder_sha256(folder)


def test_pipe_and_broken_link_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder = filled(tmp_path / "pipe", {"a.bin": b"1"})
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError, match="not a plain file"):
        folder_sha256(folder)
    folder = filled(tmp_path / "broken", {"a.bin": b"1"})
    (folder / "b.bin").symlink_to("nothing.bin")
    with pytest.raises(ModelError, match="cannot be read"):
        folder_sha256(folder)


def test_name_that_could_feign_a_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no line break"):
        folder_sha256(filled(tmp_path, {"a\nb": b""}))


def test_file_where_a_folder_is_expected_is_told(tmp_path: Path) -> None:
    filled(tmp_path / "weights", {"a.bin": b"1"})
    card = folder_card(tmp_path)
    (tmp_path / "weights" / "a.bin").unlink()
    (tmp_path / "weights").rmdir()
    with pytest.raises(ModelError, match="no folder of weights"):
        verify_folder(card)


def test_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(256 << 20)
    tracemalloc.start()
    try:
        digest = file_sha256(path)
        _, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert digest == by_shell(tmp_path, "sha256sum large.bin")
    assert highest < 16 << 20


def test_a_card_without_a_digest_is_told_the_one_of_what_is_there(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", b"weights", weights__sha256=None)
    digest = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(CardError, match=f"weights.onnx now it is {digest}"):
        load_card(folder)
    (folder / "weights.onnx").unlink()
    with pytest.raises(CardError, match="nothing is loaded that was not compared"):
        load_card(folder)


def test_another_digest_is_told_with_the_line_where_to_write_it(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "m", b"weights"))
    lines = (tmp_path / "m" / "model.yaml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "sha256:" in text)
    card.weights_path.write_bytes(b"others")
    with pytest.raises(ModelError, match=f"model.yaml:{line} weights.sha256$"):
        verify_weights(card)
