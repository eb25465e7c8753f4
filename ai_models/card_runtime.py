"""How a model is run, and what else its back-end must be told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ai_models.card_base import (
    Count,
    Digest,
    Edge,
    Entry,
    Identifier,
    Licence,
    LongName,
    Positive,
    Text,
)

Backend = Literal[
    "onnx", "torchscript", "state_dict", "torch_export", "monai_bundle", "nnunet", "huggingface",
    "command", "open_inference", "openai",
]
Fallback = Literal["batch", "offload", "roi", "half", "cpu"]


class PartFolder(Entry):
    """One folder that a network is built on, as transformers keeps it: safetensors only."""

    path: Text
    """Beside the card."""
    sha256: Digest
    """As ``weights.sha256`` of a folder."""
    licence: Licence
    """Of these weights. Empty where there is none: such a model is refused at a clinical site."""
    source: Text
    """Where they are from."""


class Network(Entry):
    """Of ``state_dict``, and required there: the architecture that the weights belong to."""

    name: LongName
    """``monai.UNet``, ``torchvision.resnet50``, ``LungUNet``: the table of
    ai_models/backends/architectures.py."""
    arguments: dict[str, Any] = {}
    """Of its constructor, by name."""
    folders: dict[Identifier, PartFolder] = {}
    """Of ``PneumoLLM``: ``clip`` and ``llama``, which it is built on and does not change."""


class BundleOptions(Entry):
    """Of ``monai_bundle``: which configuration is read, and what in it is what."""

    config: Text = "configs/inference.json"
    """In the folder of the weights; JSON or YAML."""
    network: LongName = "network_def"
    """Its key for the network."""
    preprocessing: LongName = "preprocessing"
    """Its key for the transforms before."""
    inferer: LongName = "inferer"
    """Its key for what slides windows."""
    postprocessing: LongName = "postprocessing"
    """Its key for the transforms after."""
    weights: Text = "models/model.pt"
    """In the folder of the weights."""


class NnunetOptions(Entry):
    """Of ``nnunet``, and required there: which trained folds are averaged."""

    folds: Annotated[list[Annotated[int, Field(ge=0, le=9)] | Literal["all"]], Field(min_length=1)]
    """Numbers of folders ``fold_<n>``, or ``all``."""
    checkpoint: Text = "checkpoint_final.pth"
    """In each of these folders."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.5
    """From window to window, as a part of the window (nnU-Net's tile step size)."""


class CommandOptions(Entry):
    """Of ``command``, and required there: a program with a file contract, in an environment of its
    own; docs/command-models.md says what it reads and writes."""

    run: Annotated[list[Text], Field(min_length=1, max_length=64)]
    """Program and arguments; no shell reads them. ``{input}``, ``{output}``, ``{device}`` and
    ``{folder}`` (of the card) are replaced."""
    environment: dict[LongName, Text] = {}
    """Variables that are added to the program's, with the same words replaced."""


class EndpointOptions(Entry):
    """Of ``open_inference`` and ``openai``, and required there: who serves the model."""

    name: LongName
    """A key of ``models.endpoints`` in the settings of the node, where the address stands."""
    model: LongName
    """As that host calls it."""
    version: Annotated[str, Field(max_length=64)] = ""
    """Of ``open_inference``; without it the host takes its newest."""
    input: LongName = "input"
    """Of ``open_inference``: name of the input tensor."""
    outputs: Annotated[list[LongName], Field(min_length=1, max_length=8)] = ["output"]
    """Of ``open_inference``: name of the one output tensor; of a detection those of boxes, scores
    and labels."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Of ``openai``: 0 takes the likeliest word each time."""
    seed: int = 0
    """Of ``openai``: the same again for the same picture, where the host keeps to it."""


class Runtime(Entry):
    """How to run it."""

    backend: Backend
    """Who runs the model."""
    network: Network | None = None
    """Of ``state_dict``."""
    bundle: BundleOptions | None = None
    """Of ``monai_bundle``."""
    nnunet: NnunetOptions | None = None
    """Of ``nnunet``."""
    command: CommandOptions | None = None
    """Of ``command``."""
    endpoint: EndpointOptions | None = None
    """Of ``open_inference`` and ``openai``."""
    roi: Annotated[list[Edge], Field(min_length=2, max_length=3)] | None = None
    """Edges of the windows that slide over a segmentation or detection, in voxels of
    ``input.spacing_mm``, in the order of ``input.axes`` (of a MONAI bundle: of its own axes)."""
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    """Of neighbouring windows, as a part of an edge."""
    batch: Annotated[int, Field(ge=1, le=64)] = 1
    """Windows, or slices, that are computed at once."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """What torch computes in. An ONNX file, another host, a program and nnU-Net settle that
    themselves."""
    channels_last: bool = False
    """A layout in memory that some GPUs are faster with. Of ``torchscript`` and ``state_dict``."""
    compile: bool = False
    """``torch.compile``: faster, after minutes at load. Of ``state_dict`` and ``torch_export``."""
    tensorrt: bool = False
    """An engine of TensorRT where it is installed: faster, after minutes at load. Of ``onnx``."""
    fallbacks: list[Fallback] = ["batch", "offload", "cpu"]
    """What may be tried when memory does not suffice, in this order. ``batch``, ``offload`` (sums
    in the host's memory) and ``cpu`` change nothing but time; ``roi`` halves the windows and
    ``half`` computes in 16 bits: they change the numbers a little, and every result says so."""
    deadline_s: Annotated[Positive, Field(le=86_400)] = 1800.0
    """After so long a worker is stopped, and the job has failed."""
    device_memory_mib: Count | None = None
    """What it needs of a GPU; measured on the first runs where it is not said."""
