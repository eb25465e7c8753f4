"""A torchvision that does not fit torch is told as such, with what to do."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from ai_models.backends import builds
from ai_models.backends.architectures import check_architecture
from ai_models.types import ModelError


@pytest.fixture
def other_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> object:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return importlib.import_module(name)

    monkeypatch.setattr(builds, "importlib", type("Importing", (), {"import_module": fail}))
    monkeypatch.setattr(builds, "version", {"torch": "2.0+cpu", "torchvision": "0.1"}.__getitem__)


@pytest.mark.usefixtures("other_build")
def test_packages_of_different_builds_are_named_with_what_to_do() -> None:
    with pytest.raises(ModelError) as caught:
        check_architecture("torchvision.resnet18", {})
    assert caught.value.reason == "model.backend_missing"
    assert "torch 2.0+cpu and torchvision 0.1 are of different builds" in str(caught.value)
    assert "install both from one index" in str(caught.value)


@pytest.mark.usefixtures("other_build")
def test_a_library_that_hides_it_is_seen_through(tmp_path: Path) -> None:
    from ai_models.backends.huggingface_folder import FolderLoader
    from ai_models.card import load_card
    from ai_models.trust import Site
    from tests.ai_models.tiny_models import write_model

    class Library:
        class Auto:
            @staticmethod
            def from_pretrained(*_: object, **__: object) -> object:
                raise ModuleNotFoundError("Could not import module 'ViTForImageClassification'.")

    loader = FolderLoader(load_card(write_model(tmp_path / "m", b"weights")), Site())
    loader._library = Library
    with pytest.raises(ModelError, match="are of different builds") as caught:
        loader.part("Auto")
    assert caught.value.reason == "model.backend_missing"


@pytest.mark.usefixtures("other_build")
def test_a_library_that_can_make_no_model_is_told_before_it_is_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ai_models.backends import huggingface_folder

    class Library:
        @property
        def PreTrainedModel(self) -> object:  # noqa: N802 - as the library calls it
            raise ModuleNotFoundError("Could not import module 'PreTrainedModel'.")

    monkeypatch.setattr(huggingface_folder, "import_transformers", Library)
    with pytest.raises(ModelError, match="are of different builds") as caught:
        huggingface_folder.check_library()
    assert caught.value.reason == "model.backend_missing"


def test_what_can_be_imported_is_not_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "importlib", type("Importing", (), {"import_module": str}))
    assert builds.why_no_torchvision() == ""
