"""Cards of models that another host serves, and the hosts that serve them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ai_models.backends.open_inference import OpenInferenceNetwork
from ai_models.card import Card, load_card
from ai_models.trust import Endpoint, Site
from tests.ai_models.backends.fake_open_inference import FakeGrpcInference, FakeOpenInference
from tests.ai_models.tiny_models import card_text, card_values

Host = FakeOpenInference | FakeGrpcInference
HOSTS: dict[str, Any] = {
    "http-binary": FakeOpenInference,
    "http-json": lambda *given, **named: FakeOpenInference(*given, binary=False, **named),
    "grpc-raw": FakeGrpcInference,
    "grpc-numbers": lambda *given, **named: FakeGrpcInference(*given, raw=False, **named),
}


def served_card(folder: Path, **changes: object) -> Card:
    values = {
        "weights": {"licence": "Apache-2.0", "source": "test"},
        "runtime__backend": "open_inference",
        "runtime__endpoint": {"name": "farm", "model": "bright"},
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text(card_text(card_values(**values)))
    return load_card(folder)


def site_of(host: Host, *, timeout_s: float = 5.0, key_file: Path | None = None) -> Site:
    return Site(endpoints={"farm": Endpoint(host.url, key_file, timeout_s)})


def loaded(
    folder: Path, host: Host, *, timeout_s: float = 5.0, key_file: Path | None = None,
    **changes: object,
) -> OpenInferenceNetwork:
    site = site_of(host, timeout_s=timeout_s, key_file=key_file)
    network = OpenInferenceNetwork(served_card(folder / "m", **changes), "cpu", site)
    network.probe()
    network.load()
    return network


def random_windows(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))
