"""Cards of networks: an ONNX, TorchScript or torch.export file, and weights of an architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ai_models.backends import open_backend
from ai_models.types import ModelError
from tests.ai_models.backends.tiny_onnx import boxes_onnx, channel_sum_onnx, mean_onnx
from tests.ai_models.scaffold.scaffolding import Scaffolded, scaffolded
from tests.ai_models.tiny_models import threshold_onnx


def onnx(folder: Path, content: bytes, **wishes: Any) -> Scaffolded:
    source = folder / "network.onnx"
    source.write_bytes(content)
    return scaffolded(source, folder, **wishes)


def loads(made: Scaffolded, *, warm: bool = True) -> None:
    backend = open_backend(made.card, "cpu")
    backend.probe()
    backend.load()
    if warm:
        backend.warm_up()
    backend.close()


def test_fixed_windows_and_channels_of_an_onnx_file_are_on_the_card(tmp_path: Path) -> None:
    made = onnx(tmp_path, threshold_onnx(0.5, channels=3, roi=(16, 24, 32)))
    assert made.card.task == "segmentation"
    assert made.card.modality == ("CT",)
    assert made.card.runtime.roi == [16, 24, 32]
    assert [label.value for label in made.card.labels] == [1, 2]
    assert made.output.activation == "softmax"
    loads(made)


def test_free_windows_get_a_usual_size_that_is_marked(tmp_path: Path) -> None:
    made = onnx(tmp_path, channel_sum_onnx(["z", "y", "x"]))
    assert made.card.runtime.roi == [96, 96, 96]
    assert made.marked("roi")
    loads(made)


def test_a_single_channel_is_a_sigmoid_without_a_background(tmp_path: Path) -> None:
    made = onnx(tmp_path, channel_sum_onnx([16, 16, 16], answers=1))
    assert made.output.activation == "sigmoid"
    assert len(made.card.labels) == 1
    loads(made)


def test_names_for_every_channel_mean_labels_that_may_overlap(tmp_path: Path) -> None:
    made = onnx(tmp_path, channel_sum_onnx([16, 16, 16]), names=("liver", "liver tumour"))
    assert made.output.overlapping
    assert made.output.activation == "sigmoid"
    assert [label.name for label in made.card.labels] == ["Liver", "Liver tumour"]
    loads(made)


def test_numbers_are_a_classification_of_images_unless_a_task_is_given(tmp_path: Path) -> None:
    made = onnx(tmp_path, mean_onnx([32, 32], channels=3, answers=4))
    assert made.card.task == "classification"
    assert made.card.modality == ("CR", "DX")
    assert made.card.input.repeat == 3
    assert made.card.input.normalisation == "imagenet"
    assert made.card.input.size is not None
    assert made.card.input.size.edges == [32, 32]
    assert made.output.channels == 4
    assert made.marked("task")
    loads(made)


def test_a_flat_network_and_a_modality_of_volumes_mean_slices(tmp_path: Path) -> None:
    made = onnx(tmp_path, mean_onnx(["y", "x"], answers=1), modality="CT")
    assert made.card.input.kind == "volume"
    assert made.card.input.ndim == 2
    assert made.output.per == "slice"
    loads(made)


def test_quantities_have_bounds_that_must_be_set(tmp_path: Path) -> None:
    made = onnx(
        tmp_path, mean_onnx([32, 32], answers=1), task="regression", names=("bone age months",)
    )
    assert made.card.output_names == ("bone_age_months",)
    assert made.marked("unit")
    assert made.marked("maximum")
    loads(made)


def test_three_outputs_named_as_those_of_a_detector_are_a_detection(tmp_path: Path) -> None:
    content = boxes_onnx(
        [[0, 0, 0, 4, 4, 4]], [0.9], [0], shape=[1, 1, 32, 32, 32], names=("box", "scores", "label")
    )
    made = onnx(tmp_path, content, names=("lung nodule",))
    assert made.card.task == "detection"
    assert made.card.labels[0].type.value == "27925004"
    loads(made)


def test_a_detector_of_one_volume_without_a_batch_is_understood(tmp_path: Path) -> None:
    content = boxes_onnx([[0, 0, 0, 4, 4, 4]], [0.9], [0], shape=[1, 32, 32, 32])
    made = onnx(tmp_path, content)
    assert made.card.input.ndim == 3
    loads(made)


def test_a_flat_detector_is_refused_as_a_card_of_it_would_be(tmp_path: Path) -> None:
    content = boxes_onnx([[0, 0, 4, 4]], [0.9], [0], shape=[1, 64, 64])
    with pytest.raises(ModelError, match="boxes lie in a volume"):
        onnx(tmp_path, content)
    assert not (tmp_path / "made").exists()


def test_probabilities_are_told_from_logits(tmp_path: Path) -> None:
    class Softmax(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return torch.softmax(torch.cat([windows, -windows], dim=1), dim=1)

    torch.jit.script(Softmax()).save(str(tmp_path / "network.ts"))
    made = scaffolded(tmp_path / "network.ts", tmp_path, modality="CT")
    assert made.output.activation == "none"
    assert "sum to 1" in made.text
    loads(made)


def test_a_task_that_the_answers_rule_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its task is classification or regression") as caught:
        onnx(tmp_path, mean_onnx([32, 32]), task="segmentation")
    assert caught.value.reason == "model.task"


def test_a_wrong_number_of_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="4 names for 2 channels"):
        onnx(tmp_path, channel_sum_onnx([16, 16, 16]), names=("a", "b", "c", "d"))


def test_volumes_for_a_modality_of_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="DX are images"):
        onnx(tmp_path, channel_sum_onnx([16, 16, 16]), modality="DX")


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        onnx(tmp_path, b"no network")
    assert caught.value.reason == "model.load_failed"
    assert not (tmp_path / "made").exists()


class Pooled(torch.nn.Module):
    """A classifier of radiographs with a layer that wants one size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 2, 3, stride=32)
        self.last = torch.nn.Linear(2 * 7 * 7, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.last(self.first(images).flatten(1))
        return answer


def test_the_one_size_of_a_torchscript_file_is_found(tmp_path: Path) -> None:
    torch.jit.trace(Pooled().eval(), torch.zeros(1, 3, 224, 224)).save(str(tmp_path / "chest.pt"))
    made = scaffolded(tmp_path / "chest.pt", tmp_path)
    assert made.card.runtime.backend == "torchscript"
    assert made.card.input.size is not None
    assert made.card.input.size.edges == [224, 224]
    assert made.output.channels == 5
    loads(made)


def test_a_torchscript_file_that_takes_any_size_and_answers_voxels(tmp_path: Path) -> None:
    module = torch.nn.Conv3d(1, 2, 3, padding=1)
    torch.jit.script(module).save(str(tmp_path / "network.ts"))
    made = scaffolded(tmp_path / "network.ts", tmp_path)
    assert made.card.task == "segmentation"
    assert made.card.runtime.roi == [96, 96, 96]
    loads(made)


def test_an_exported_program_says_its_shape_itself(tmp_path: Path) -> None:
    program = torch.export.export(
        torch.nn.Conv3d(1, 3, 3, padding=1).eval(), (torch.zeros(2, 1, 16, 16, 16),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    torch.export.save(program, tmp_path / "network.pt2")
    made = scaffolded(tmp_path / "network.pt2", tmp_path)
    assert made.card.runtime.backend == "torch_export"
    assert made.card.runtime.roi == [16, 16, 16]
    assert len(made.card.labels) == 2
    loads(made)


def segresnet(path: Path) -> Path:
    from monai.networks.nets import SegResNet

    module = SegResNet(spatial_dims=3, init_filters=16, in_channels=1, out_channels=3)
    save_file({name: one.contiguous() for name, one in module.state_dict().items()}, path)
    return path


def test_arguments_of_an_architecture_are_read_off_its_weights(tmp_path: Path) -> None:
    made = scaffolded(
        segresnet(tmp_path / "liver.safetensors"), tmp_path, network="monai.SegResNet",
        names=("liver", "tumour"),
    )
    network = made.card.runtime.network
    assert network is not None
    assert network.arguments == {
        "spatial_dims": 3, "in_channels": 1, "init_filters": 16, "out_channels": 3,
    }
    assert made.card.weights.path == "weights.safetensors"
    loads(made, warm=False)


def test_arguments_that_no_weight_shows_are_asked_for(tmp_path: Path) -> None:
    from monai.networks.nets import UNet

    module = UNet(3, 1, 2, channels=(2, 4), strides=(2,))
    torch.save({"state_dict": module.state_dict()}, tmp_path / "unet.pth")
    with pytest.raises(ModelError, match="--arguments"):
        scaffolded(tmp_path / "unet.pth", tmp_path, network="monai.UNet")
    made = scaffolded(
        tmp_path / "unet.pth", tmp_path, network="monai.UNet",
        arguments={"channels": [2, 4], "strides": [2]},
    )
    assert made.card.weights.path == "weights.pth"
    loads(made)


def test_weights_alone_need_the_name_of_their_architecture(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--network") as caught:
        scaffolded(segresnet(tmp_path / "liver.safetensors"), tmp_path)
    assert caught.value.reason == "model.architecture_unknown"


@pytest.mark.parametrize("network", [None, "monai.SegResNet"])
def test_pickled_objects_are_refused_in_the_words_of_the_back_end(
    tmp_path: Path, network: str | None
) -> None:
    torch.save(Pooled(), tmp_path / "model.pth")
    with pytest.raises(ModelError, match="holds Python objects .* save the state_dict") as caught:
        scaffolded(tmp_path / "model.pth", tmp_path, network=network)
    assert caught.value.reason == "model.pickle"


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not fit monai.DenseNet121"):
        scaffolded(
            segresnet(tmp_path / "liver.safetensors"), tmp_path, network="monai.DenseNet121"
        )


def test_a_file_of_an_unknown_kind_is_refused_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(ModelError, match="none of .onnx, .ts") as caught:
        scaffolded(tmp_path / "model.h5", tmp_path)
    assert caught.value.reason == "model.source_unknown"
