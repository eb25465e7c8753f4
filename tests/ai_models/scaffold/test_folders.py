"""Cards of folders: nnU-Net, MONAI bundles and Hugging Face, as their own tools leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ai_models.backends import open_backend
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.backends import hf_models
from tests.ai_models.backends.folder_models import (
    bundle_configuration,
    write_monai_bundle,
    write_nnunet_model,
)
from tests.ai_models.scaffold.scaffolding import Scaffolded, scaffolded

SPLEEN: dict[str, Any] = {
    "version": "0.5.9", "name": "Spleen CT segmentation", "authors": "Somebody",
    "intended_use": "An example",
    "network_data_format": {
        "inputs": {"image": {
            "modality": "CT", "num_channels": 1, "spatial_shape": [96, 96, 96]}},
        "outputs": {"pred": {
            "type": "image", "format": "segmentation", "num_channels": 2,
            "spatial_shape": [96, 96, 96], "channel_def": {"0": "background", "1": "spleen"}}},
    },
}


def loads(made: Scaffolded) -> None:
    backend = open_backend(made.card, "cpu", Site(trusted_folders=(made.card.folder,)))
    backend.probe()
    backend.load()
    backend.warm_up()
    backend.close()


def test_labels_folds_and_modality_of_an_nnunet_folder_are_on_the_card(tmp_path: Path) -> None:
    source = write_nnunet_model(
        tmp_path / "source", folds=(0, 1),
        labels={"background": 0, "liver": 1, "liver_tumour": 2},
    )
    (source / "trained/fold_0/progress.png").write_bytes(b"not a weight")
    made = scaffolded(source / "trained", tmp_path)
    assert made.card.runtime.nnunet is not None
    assert made.card.runtime.nnunet.folds == [0, 1]
    assert made.card.modality == ("CT",)
    assert [one.type.value for one in made.card.labels] == ["10200004", "108369006"]
    assert made.card.labels[1].anatomic_region is not None
    assert made.marked("axes")
    assert not (made.card.weights_path / "fold_0/progress.png").exists()
    loads(made)


def test_the_reader_that_turns_files_settles_the_axes(tmp_path: Path) -> None:
    source = write_nnunet_model(tmp_path / "source", reader="NibabelIOWithReorient")
    made = scaffolded(source, tmp_path)
    assert made.card.input.axes == ("S", "A", "R")
    assert not made.marked("axes")
    loads(made)


def test_regions_are_labels_that_overlap(tmp_path: Path) -> None:
    source = write_nnunet_model(
        tmp_path / "source",
        labels={"background": 0, "whole tumor": [1, 2], "tumor core": [2]},
    )
    made = scaffolded(source, tmp_path)
    assert made.output.overlapping
    assert [one.name for one in made.card.labels] == ["Whole tumor", "Tumor core"]
    assert {one.type.scheme for one in made.card.labels} == {"99LOCAL"}
    assert {one.category.value for one in made.card.labels} == {"49755003"}
    loads(made)


def test_a_checkpoint_that_only_pickle_reads_is_refused(tmp_path: Path) -> None:
    source = write_nnunet_model(tmp_path / "source")
    torch.save(torch.nn.Linear(1, 1), source / "trained/fold_0/checkpoint_final.pth")
    with pytest.raises(ModelError, match="reading it would run Python") as caught:
        scaffolded(source, tmp_path)
    assert caught.value.reason == "model.pickle"


def test_names_must_be_as_many_as_the_labels_of_a_folder(tmp_path: Path) -> None:
    source = write_nnunet_model(tmp_path / "source")
    with pytest.raises(ModelError, match="2 names for 1 channels"):
        scaffolded(source, tmp_path, names=("liver", "spleen"))
    made = scaffolded(source, tmp_path, names=("liver",))
    assert made.card.labels[0].type.value == "10200004"


def test_an_nnunet_folder_without_folds_is_refused(tmp_path: Path) -> None:
    source = write_nnunet_model(tmp_path / "source", folds=())
    with pytest.raises(ModelError, match="fold_<n>/checkpoint_final.pth"):
        scaffolded(source, tmp_path)


def bundle(folder: Path, metadata: dict[str, Any], **more: Any) -> Path:
    source = write_monai_bundle(folder / "source", **more) / "bundle"
    (source / "configs/metadata.json").write_text(json.dumps(metadata))
    return source


def test_a_bundle_says_most_of_its_card_itself(tmp_path: Path) -> None:
    source = bundle(tmp_path, SPLEEN)
    (source / "LICENSE").write_text(
        "Apache License\nVersion 2.0, January 2004\nTERMS AND CONDITIONS FOR USE"
    )
    made = scaffolded(source, tmp_path)
    card = made.card
    assert (card.version, card.name) == ("0.5.9", "Spleen CT segmentation")
    assert (card.licence, card.weights.licence) == ("Apache-2.0", "Apache-2.0")
    assert made.marked("licence")
    assert card.intended_use == "An example"
    assert card.input.axes == ("R", "A", "S")
    assert card.trust.config_exec
    assert not card.trust.remote_code
    assert [one.type.meaning for one in card.labels] == ["Spleen"]
    assert "models.trusted_folders" in made.draft.hints[0]
    loads(made)


def test_expressions_of_a_bundle_are_not_evaluated(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    configuration = {
        **bundle_configuration(), "postprocessing": f"$open('{trap}', 'w')",
        "device": f"$open('{trap}', 'w')",
    }
    made = scaffolded(bundle(tmp_path, SPLEEN, configuration=configuration), tmp_path)
    assert made.marked("activation")
    assert not trap.exists()


def test_a_sigmoid_of_a_bundle_means_labels_that_overlap(tmp_path: Path) -> None:
    post = {"_target_": "Compose", "transforms": [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
    ]}
    metadata = json.loads(json.dumps(SPLEEN))
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {
        "0": "Tumor core", "1": "Edema"}
    made = scaffolded(
        bundle(tmp_path, metadata, configuration={"postprocessing": post}), tmp_path
    )
    assert made.output.activation == "sigmoid"
    assert made.output.overlapping
    assert [one.name for one in made.card.labels] == ["Tumor core", "Edema"]
    loads(made)


def test_the_first_of_exclusive_channels_counts_as_background_whatever_its_name(
    tmp_path: Path,
) -> None:
    metadata = json.loads(json.dumps(SPLEEN))
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "Rest", "1": "Spleen"}
    made = scaffolded(bundle(tmp_path, metadata), tmp_path)
    assert [one.name for one in made.card.labels] == ["Spleen"]
    assert made.marked("activation")


def test_what_makes_no_card_is_told_without_the_file_that_is_gone(tmp_path: Path) -> None:
    metadata = json.loads(json.dumps(SPLEEN))
    metadata["network_data_format"]["inputs"]["image"]["modality"] = "CT"
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 400
    del metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    with pytest.raises(ModelError, match="^no card can be made of what the source says") as caught:
        scaffolded(bundle(tmp_path, metadata), tmp_path)
    assert "/tmp" not in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_python_files_of_a_bundle_are_asked_for_on_the_card(tmp_path: Path) -> None:
    source = bundle(tmp_path, SPLEEN)
    (source / "scripts").mkdir()
    (source / "scripts/own.py").write_text("")
    made = scaffolded(source, tmp_path)
    assert made.card.trust.remote_code
    assert made.marked("remote_code")


def test_a_bundle_without_its_weights_says_where_they_are_fetched_from(tmp_path: Path) -> None:
    source = bundle(tmp_path, SPLEEN)
    (source / "models/model.pt").unlink()
    (source / "large_files.yml").write_text("")
    with pytest.raises(ModelError, match=r"large_files\.yml says where"):
        scaffolded(source, tmp_path)


def test_a_classifier_of_hugging_face_agrees_with_its_processor(tmp_path: Path) -> None:
    source = hf_models.write_classifier(tmp_path / "source") / "model"
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    made = scaffolded(source, tmp_path)
    assert made.card.task == "classification"
    assert made.card.output_names == ("nodule", "other", "effusion")
    assert made.card.input.normalisation == "imagenet"
    assert made.card.input.size is not None
    assert made.card.input.size.edges == [32, 32]
    assert made.card.licence == ""
    assert "its README says license: apache-2.0" in made.draft.found
    loads(made)


def test_a_processor_without_normalisation_is_followed(tmp_path: Path) -> None:
    source = hf_models.write_classifier(tmp_path / "source") / "model"
    path = source / "preprocessor_config.json"
    settings = json.loads(path.read_text()) | {
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "rescale_factor": 1.0,
    }
    path.write_text(json.dumps(settings))
    made = scaffolded(source, tmp_path)
    assert made.card.input.intensity.scale_to == (0.0, 255.0)
    loads(made)


def test_a_regressor_of_hugging_face(tmp_path: Path) -> None:
    made = scaffolded(hf_models.write_regressor(tmp_path / "source") / "model", tmp_path)
    assert made.card.task == "regression"
    loads(made)


def test_a_segmenter_of_hugging_face_for_slices(tmp_path: Path) -> None:
    source = hf_models.write_segmenter(tmp_path / "source") / "model"
    made = scaffolded(source, tmp_path, modality="CT")
    assert made.card.input.kind == "volume"
    assert [one.name for one in made.card.labels] == ["Bright"]
    loads(made)


def test_a_language_model_of_hugging_face_drafts_text(tmp_path: Path) -> None:
    source = hf_models.write_language_model(tmp_path / "source") / "model"
    made = scaffolded(source, tmp_path)
    assert made.card.task == "text"
    assert made.card.report == "draft"
    assert made.marked("prompt")


def test_pickled_weights_of_hugging_face_are_refused_in_the_words_of_the_back_end(
    tmp_path: Path,
) -> None:
    source = hf_models.write_classifier(tmp_path / "source") / "model"
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ModelError, match="are pickled: save them as safetensors") as caught:
        scaffolded(source, tmp_path)
    assert caught.value.reason == "model.pickle"


def test_code_of_a_hugging_face_folder_is_refused(tmp_path: Path) -> None:
    source = hf_models.write_classifier(tmp_path / "source") / "model"
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**settings, "auto_map": {"AutoModel": "a.B"}}))
    with pytest.raises(ModelError, match="asks for code of its own") as caught:
        scaffolded(source, tmp_path)
    assert caught.value.reason == "model.remote_code"


def test_a_folder_of_something_else_is_refused_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(ModelError, match="neither a trained folder of nnU-Net") as caught:
        scaffolded(tmp_path / "source", tmp_path)
    assert caught.value.reason == "model.source_unknown"
