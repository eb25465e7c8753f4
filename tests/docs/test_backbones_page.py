"""The page on backbones names all of them, and its card is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from ai_models.backends.architectures import build
from ai_models.card import load_card
from ai_models.networks.backbones import BACKBONES
from tests.ai_models.networks.test_backbones import PARAMETERS
from tests.source_tree import ROOT

PAGE = (ROOT / "docs" / "backbones.md").read_text("utf-8")


def test_every_backbone_has_its_line_with_its_edge_and_its_weights() -> None:
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    rows = {
        row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| ([\d ]+) \| (\d+) \|", PAGE, re.M)
    }
    assert set(rows) == set(BACKBONES)
    for backbone, (count, edge) in rows.items():
        assert int(count.replace(" ", "")) == PARAMETERS[backbone][0]
        assert int(edge) == BACKBONES[backbone].edge


def test_its_card_is_read_and_its_network_takes_what_the_card_gives(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    (tmp_path / "model.yaml").write_text(PAGE.partition("```yaml\n")[2].partition("```")[0])
    (tmp_path / "weights.safetensors").write_bytes(b"")
    card = load_card(tmp_path)
    network = card.runtime.network
    assert network is not None
    assert card.input.size is not None
    with torch.device("meta"), torch.no_grad():
        built = build(network.name, network.arguments).eval()
        channels = card.input.channel_counts[0]
        assert built(torch.empty(1, channels, *card.input.size.edges)).shape == (1, 1)
