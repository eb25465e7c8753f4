"""A Hugging Face folder answers as its library does, from local files, as its card says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.backends import open_backend
from ai_models.backends.huggingface import HuggingFaceBackend
from ai_models.backends.protocol import NetworkInput
from ai_models.card import load_card
from ai_models.trust import Site
from ai_models.types import FloatArray, ModelError
from tests.ai_models.backends.hf_models import (
    IMAGE,
    SCORES,
    SENTENCE,
    SLICES,
    edit_json,
    open_folder,
    renew_digest,
    write_card,
    write_classifier,
    write_language_model,
    write_model_with_eyes,
    write_regressor,
    write_segmenter,
)

CODE = "import pathlib\npathlib.Path({marker!r}).touch()\n"


def radiograph(channels: int = 3) -> NetworkInput:
    array = np.random.default_rng(3).random((channels, 32, 32), dtype=np.float32)
    return NetworkInput(array)


def volume() -> NetworkInput:
    array = np.random.default_rng(3).random((3, 4, 20, 28), dtype=np.float32)
    return NetworkInput(array, np.eye(4), (1.0, 1.0, 1.0))


def refused(folder: Path, *, trusted: bool = False) -> str:
    with pytest.raises(ModelError) as error:
        open_folder(folder, trusted=trusted)
    return f"{error.value.reason}: {error.value}"


@torch.inference_mode()
def logits(folder: Path, kind: str, array: FloatArray) -> torch.Tensor:
    """What the library itself answers."""
    import transformers

    module = getattr(transformers, kind).from_pretrained(folder / "model", dtype=torch.float32)
    answered: torch.Tensor = module.eval()(pixel_values=torch.from_numpy(array)).logits
    return answered


def test_a_classifier_answers_as_its_library_does(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path)
    backend = open_backend(load_card(folder), "cpu", Site())
    backend.load()
    backend.warm_up()
    answer = backend.predict(radiograph())
    expected = logits(folder, "AutoModelForImageClassification", radiograph().array[None])[0]
    assert answer.scores is not None
    np.testing.assert_allclose(answer.scores, expected.sigmoid().numpy(), atol=1e-6)
    assert answer.notes[0].startswith("transformers ")
    backend.close()
    with pytest.raises(ModelError, match="predict before load"):
        backend.predict(radiograph())


def test_slices_are_classified_one_by_one(tmp_path: Path) -> None:
    slices = {**SLICES, "size": {"edges": [32, 32], "fit": "stretch"}}
    folder = write_classifier(tmp_path, input=slices, output={**SCORES, "per": "slice"})
    array = np.random.default_rng(4).random((3, 5, 32, 32), dtype=np.float32)
    scores = open_folder(folder).predict(NetworkInput(array, np.eye(4))).scores
    expected = logits(folder, "AutoModelForImageClassification", array.swapaxes(0, 1).copy())
    assert scores is not None
    assert scores.shape == (5, 3)
    np.testing.assert_allclose(scores, expected.sigmoid().numpy(), atol=1e-6)


def test_a_number_is_what_the_network_answers(tmp_path: Path) -> None:
    folder = write_regressor(tmp_path)
    scores = open_folder(folder).predict(radiograph()).scores
    expected = logits(folder, "AutoModelForImageClassification", radiograph().array[None])[0]
    assert scores is not None
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)


def test_a_volume_is_segmented_slice_by_slice_at_its_own_size(tmp_path: Path) -> None:
    folder = write_segmenter(tmp_path, runtime__batch=3)
    scores = open_folder(folder).predict(volume()).scores
    coarse = logits(
        folder, "AutoModelForSemanticSegmentation", volume().array.swapaxes(0, 1).copy()
    )
    fine = torch.nn.functional.interpolate(coarse, size=(20, 28), mode="bilinear")
    assert scores is not None
    assert scores.shape == (2, 4, 20, 28)
    np.testing.assert_allclose(
        scores, fine.softmax(dim=1).transpose(0, 1).numpy(), atol=1e-5
    )


def test_an_image_is_segmented(tmp_path: Path) -> None:
    folder = write_segmenter(tmp_path, input={**IMAGE, "size": None})
    scores = open_folder(folder).predict(radiograph()).scores
    assert scores is not None
    assert scores.shape == (2, 32, 32)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_are_near_and_said(tmp_path: Path, precision: str) -> None:
    folder = write_classifier(tmp_path, runtime__precision=precision)
    answer = open_folder(folder).predict(radiograph())
    expected = logits(folder, "AutoModelForImageClassification", radiograph().array[None])[0]
    assert answer.notes[0].endswith(precision)
    assert answer.scores is not None
    np.testing.assert_allclose(answer.scores, expected.sigmoid().numpy(), atol=0.02)


def test_two_runs_are_the_same_bytes(tmp_path: Path) -> None:
    backend = open_folder(write_segmenter(tmp_path))
    first, second = backend.predict(volume()).scores, backend.predict(volume()).scores
    assert first is not None and second is not None
    assert first.tobytes() == second.tobytes()


def test_a_language_model_writes_greedily_and_says_that_it_is_blind(tmp_path: Path) -> None:
    answer = open_folder(write_language_model(tmp_path)).predict(radiograph(1))
    assert answer.text == SENTENCE
    assert answer.notes[-1] == "this model reads words only: it saw no image"


def test_a_system_prompt_comes_first(tmp_path: Path) -> None:
    folder = write_language_model(
        tmp_path, output={"prompt": "it", "system_prompt": "Describe", "max_tokens": 16}
    )
    assert open_folder(folder).predict(radiograph(1)).text == SENTENCE


def test_half_a_text_is_none(tmp_path: Path) -> None:
    folder = write_language_model(tmp_path, output={"prompt": "Describe it", "max_tokens": 3})
    with pytest.raises(ModelError, match="cut off at output.max_tokens"):
        open_folder(folder).predict(radiograph(1))


def test_an_empty_text_is_none(tmp_path: Path) -> None:
    folder = write_language_model(tmp_path, output={"prompt": "seen .", "max_tokens": 16})
    with pytest.raises(ModelError, match="empty text"):
        open_folder(folder).predict(radiograph(1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_text_of_no_numbers_is_none(tmp_path: Path, value: float) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_language_model(tmp_path)
    path = folder / "model/model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][0] = value
    save_file(weights, path, metadata={"format": "pt"})
    renew_digest(folder)
    with pytest.raises(ModelError) as told:
        open_folder(folder).predict(radiograph(1))
    assert told.value.reason == "model.not_finite"


def test_a_model_with_eyes_is_shown_the_picture(tmp_path: Path) -> None:
    backend = open_folder(write_model_with_eyes(tmp_path))
    answer = backend.predict(radiograph(1))
    assert answer.text == SENTENCE
    assert not any("no image" in note for note in answer.notes)
    inner: Any = backend._inner
    black, white = (
        inner._asked(np.full((1, 32, 32), value, dtype=np.float32))["pixel_values"]
        for value in (0.0, 1.0)
    )
    assert black.shape == (1, 3, 16, 16)
    assert float(white.min()) > float(black.max()) + 1


def test_the_slices_of_a_volume_are_pictures(tmp_path: Path) -> None:
    slices = {**SLICES, "normalisation": "none", "repeat": 1}
    output = {"prompt": "Describe it", "max_tokens": 16, "max_images": 3}
    backend = open_folder(write_model_with_eyes(tmp_path, input=slices, output=output))
    answer = backend.predict(NetworkInput(volume().array[:1], np.eye(4)))
    assert answer.text == SENTENCE


def test_changed_weights_are_not_loaded(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path)
    with (folder / "model/config.json").open("a") as file:
        file.write(" ")
    assert refused(folder).startswith("model.hash_mismatch")


@pytest.mark.parametrize("name", [
    "config.json", "preprocessor_config.json", "tokenizer_config.json", "processor_config.json",
])
def test_a_folder_with_code_is_refused_before_anything_is_imported(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_classifier(tmp_path)
    edit_json(folder, name, auto_map={"AutoConfig": "evil.Evil"})

    def imported() -> None:
        raise AssertionError("the library was imported")

    monkeypatch.setattr("ai_models.backends.huggingface.import_transformers", imported)
    assert refused(folder).startswith(f"model.remote_code: {name} of bright")
    assert refused(folder, trusted=True).startswith("model.remote_code")


def test_a_kernel_from_a_hub_is_code(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path)
    edit_json(folder, "config.json", attn_implementation="someone/kernels")
    assert refused(folder).startswith("model.remote_code")


def test_code_runs_only_where_card_and_site_trust_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    marker = tmp_path / "ran"
    folder = write_classifier(tmp_path, trust__remote_code=True)
    (folder / "model/own.py").write_text(
        CODE.format(marker=str(marker))
        + "from transformers import ViTConfig, ViTForImageClassification\n"
        "class OwnConfig(ViTConfig):\n    model_type = 'own-vit'\n"
        "class Own(ViTForImageClassification):\n    config_class = OwnConfig\n"
    )
    edit_json(
        folder, "config.json", model_type="own-vit",
        auto_map={
            "AutoConfig": "own.OwnConfig", "AutoModelForImageClassification": "own.Own",
        },
    )
    assert refused(folder).startswith("model.remote_code")
    assert not marker.exists()
    assert open_folder(folder, trusted=True).predict(radiograph()).scores is not None
    assert marker.exists()


def pickled(folder: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(folder / "model/model.safetensors")
    torch.save(weights, folder / "model/pytorch_model.bin")
    (folder / "model/model.safetensors").unlink()
    renew_digest(folder)


def test_pickled_weights_need_the_trust_of_card_and_site(tmp_path: Path) -> None:
    plain = write_classifier(tmp_path / "a")
    pickled(plain)
    assert refused(plain, trusted=True).startswith("model.pickle")
    asking = write_classifier(tmp_path / "b", trust__pickle=True)
    pickled(asking)
    assert refused(asking).startswith("model.pickle")
    assert open_folder(asking, trusted=True).predict(radiograph()).scores is not None


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_even_trusted_pickles_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_classifier(tmp_path / "m", trust__pickle=True)
    (folder / "model/model.safetensors").unlink()
    torch.save({"vit.layernorm.weight": _Evil()}, folder / "model/pytorch_model.bin")
    renew_digest(folder)
    assert refused(folder, trusted=True).startswith("model.load_failed")
    assert not (tmp_path / "ran").exists()


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_classifier(tmp_path)
    path = folder / "model/model.safetensors"
    weights = load_file(path)
    del weights["classifier.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    renew_digest(folder)
    assert "missing keys classifier.weight" in refused(folder)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path)
    edit_json(folder, "config.json", intermediate_size=24)
    assert refused(folder).startswith("model.load_failed")


@pytest.mark.parametrize("break_it, reason", [
    (lambda model: (model / "config.json").unlink(), "model.weights_missing: no config.json"),
    (lambda model: (model / "config.json").write_text("{"), "model.load_failed: config.json"),
    (lambda model: (model / "config.json").write_text("[]"), "model.load_failed: config.json"),
    (lambda model: (model / "config.json").write_text("{}"), "model.load_failed: transformers"),
    (lambda model: (model / "model.safetensors").unlink(), "model.weights_missing: no weights"),
    (lambda model: (model / "model.safetensors").write_bytes(b"x" * 99), "model.load_failed"),
    (lambda model: (model / "adapter_config.json").write_text("{}"), "model.load_failed"),
])
def test_a_broken_folder_is_refused(tmp_path: Path, break_it: Any, reason: str) -> None:
    folder = write_classifier(tmp_path)
    break_it(folder / "model")
    renew_digest(folder)
    assert refused(folder).startswith(reason)


@pytest.mark.parametrize("change, reason", [
    ({"output": {**SCORES, "channels": 4}}, "model.wrong_output"),
    ({"input__repeat": 1, "input__normalisation": "none"}, "model.preprocessing_differs"),
    ({"task": "text", "output": {"prompt": "x"}}, "card.invalid"),
])
def test_a_card_that_asks_for_another_network_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    folder = write_classifier(tmp_path)
    changes = {key: value for key, value in change.items() if not key.startswith("input__")}
    card = json.loads(json.dumps(load_card(folder).input.model_dump(exclude_none=True)))
    card |= {key[7:]: value for key, value in change.items() if key.startswith("input__")}
    write_card(folder, **{"task": "classification", "output": SCORES, "input": card, **changes})
    assert refused(folder).startswith(reason)


def test_a_volume_in_one_piece_is_no_input(tmp_path: Path) -> None:
    folder = write_segmenter(tmp_path, input={**SLICES, "ndim": 3})
    assert refused(folder).startswith("card.invalid")


def test_nothing_is_fetched(tmp_path: Path) -> None:
    """A folder whose network names a backbone of the hub does not get it."""
    folder = write_segmenter(tmp_path)
    edit_json(
        folder, "config.json", model_type="upernet", architectures=["UperNetForSegmentation"],
        backbone="microsoft/resnet-50", use_pretrained_backbone=True, backbone_config=None,
    )
    assert refused(folder).startswith(("model.load_failed", "model.network_needed"))


def test_a_device_that_is_not_there_is_told(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    for write in (write_classifier, write_language_model):
        folder = write(tmp_path / write.__name__)
        backend = HuggingFaceBackend(load_card(folder), "cuda:0", Site())
        backend.load()
        assert "ran on the CPU" in backend.notes[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_device_answers_as_the_processor_does(tmp_path: Path, precision: str) -> None:
    folder = write_segmenter(tmp_path, runtime__precision=precision)
    here = open_folder(folder).predict(volume()).scores
    backend = HuggingFaceBackend(load_card(folder), "cuda:0", Site())
    backend.load()
    there = backend.predict(volume()).scores
    assert here is not None and there is not None
    np.testing.assert_allclose(there, here, atol=0.02)
