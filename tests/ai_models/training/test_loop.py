from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from ai_models.training.loop import Outcome, generator_of, train
from ai_models.training.settings import Settings
from ai_models.training.tracking import LogFile
from tests.source_tree import ROOT

SETTINGS = Settings(steps=12, batch=4, rate=1e-2, average=0.9, checkpoint_every=3, warm_up=2)


def example(number: int) -> dict[str, Any]:
    rng = generator_of(3, number)
    image = torch.from_numpy(rng.normal(size=(1, 8)).astype("float32"))
    return {"image": image, "target": image.mean(dim=1)}


def loss_of(network: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    return functional.mse_loss(network(batch["image"][:, 0])[:, 0], batch["target"][:, 0])


def a_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))


def weights(outcome: Outcome) -> torch.Tensor:
    return torch.cat([one.flatten() for one in outcome.network.state_dict().values()])


def test_a_run_that_is_broken_off_and_taken_up_again_has_the_same_losses(tmp_path: Path) -> None:
    whole = train(a_network(), example, loss_of, SETTINGS, tmp_path / "whole")

    class BrokenOff(Exception):
        pass

    def until_the_thirtieth(number: int) -> dict[str, Any]:
        if number == 30:
            raise BrokenOff
        return example(number)

    folder = tmp_path / "broken"
    with pytest.raises(BrokenOff):
        train(a_network(), until_the_thirtieth, loss_of, SETTINGS, folder,
              trackers=[LogFile(tmp_path / "log.jsonl")])
    torch.manual_seed(99)
    again = train(a_network(), example, loss_of, SETTINGS, folder,
                  trackers=[LogFile(tmp_path / "log.jsonl")])
    assert again.losses == whole.losses
    assert torch.equal(weights(again), weights(whole))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["loss"] for line in lines] == whole.losses


CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    from tests.ai_models.training.test_loop import SETTINGS, a_network, example, loss_of
    from ai_models.training.loop import train
    from ai_models.training.tracking import Terminal
    train(a_network(), example, loss_of, SETTINGS, Path(sys.argv[1]),
          trackers=[Terminal(sys.stdout, every_s=0.0)])
""")


def test_a_run_that_is_killed_goes_on_with_the_same_losses_bit_by_bit(tmp_path: Path) -> None:
    whole = train(a_network(), example, loss_of, SETTINGS, tmp_path / "whole")
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "killed")], cwd=ROOT,
                             stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("step 7 "):
            os.kill(child.pid, signal.SIGKILL)
            break
    child.wait()
    again = train(a_network(), example, loss_of, SETTINGS, tmp_path / "killed")
    assert again.losses == whole.losses
    assert torch.equal(weights(again), weights(whole))
