from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from ai_models.training.checkpoints import read_checkpoint, write_checkpoint
from ai_models.training.loop import CHECKPOINT, Outcome, generator_of, shuffled, train
from ai_models.training.rate_finder import find_rate
from ai_models.training.settings import Diverged, Settings, TrainingError
from ai_models.training.team import Team
from ai_models.training.tracking import LogFile, Terminal
from tests.ports import free_port
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


TEAM = textwrap.dedent("""
    import json, sys
    from pathlib import Path
    import torch
    from tests.ai_models.training.test_loop import TOGETHER, a_plain_network, example, loss_of
    from ai_models.training.loop import train
    from ai_models.training.team import joined_team
    torch.set_num_threads(1)
    with joined_team("cpu") as team:
        outcome = train(a_plain_network(), example, loss_of, TOGETHER, Path(sys.argv[1]),
                        team=team, validate=lambda network: {"minus": -float(team.rank)})
        if team.is_first:
            print(json.dumps(outcome.losses))
        assert outcome.best_step == 4, outcome.best_step
""")
TOGETHER = Settings(steps=8, batch=4, rate=1e-2, validate_every=4, checkpoint_every=4)


def a_plain_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))


@pytest.mark.long
def test_two_processes_take_the_steps_that_one_takes(tmp_path: Path) -> None:
    alone = train(a_plain_network(), example, loss_of, TOGETHER, tmp_path / "alone")
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TEAM, str(tmp_path / "both")], cwd=ROOT, text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                 "GLOO_SOCKET_IFNAME": "lo"})
        for rank in range(2)
    ]
    told = [one.communicate(timeout=240)[0] for one in processes]
    assert [one.returncode for one in processes] == [0, 0]
    losses = json.loads(next(text for text in told if text))
    # Sums of two halves round otherwise than sums of a whole.
    assert losses == pytest.approx(alone.losses, rel=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="a batch of 4 cannot be shared by 3 processes"):
        train(a_network(), example, loss_of, SETTINGS, tmp_path, team=Team(0, 3))


def test_fewer_examples_at_once_give_the_same_steps(tmp_path: Path) -> None:
    whole = train(a_plain_network(), example, loss_of, TOGETHER, tmp_path / "whole")
    parts = train(a_plain_network(), example, loss_of, replace(TOGETHER, at_once=3),
                  tmp_path / "parts")
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)


def test_each_case_has_its_turn_in_every_round_and_rounds_differ() -> None:
    order = shuffled(7, seed=1)
    rounds = [[order(number) for number in range(first, first + 7)] for first in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in rounds)
    assert len({tuple(one) for one in rounds}) == 3
    assert [order(number) for number in range(7)] == rounds[0]


def test_training_stops_when_nothing_gets_better_and_keeps_the_best_weights(
    tmp_path: Path,
) -> None:
    seen: list[tuple[float, torch.Tensor]] = []
    figures = iter([0.1, 0.5, 0.4, 0.3, 0.9])

    def validate(network: nn.Module) -> dict[str, float]:
        value = next(figures)
        seen.append((value, next(network.parameters()).detach().clone()))
        return {"figure": value}

    outcome = train(a_plain_network(), example, loss_of,
                    replace(TOGETHER, steps=40, patience=2), tmp_path, validate=validate)
    assert outcome.stopped_early
    assert (outcome.best_step, len(outcome.losses)) == (8, 16)
    assert torch.equal(next(outcome.network.parameters()), seen[1][1])
    again = train(a_plain_network(), example, loss_of, replace(TOGETHER, steps=40, patience=2),
                  tmp_path, validate=validate)
    assert again.losses == outcome.losses


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_what_full_precision_learns(tmp_path: Path, precision: str) -> None:
    settings = replace(TOGETHER, steps=60, validate_every=0)
    full = train(a_plain_network(), example, loss_of, settings, tmp_path / "full")
    half = train(a_plain_network(), example, loss_of, replace(settings, precision=precision),
                 tmp_path / "half")
    assert half.losses != full.losses
    assert sum(half.losses[-10:]) < 0.5 * sum(half.losses[:10])
    assert sum(half.losses[-10:]) < 1.5 * sum(full.losses[-10:])


def test_a_checkpoint_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    train(a_network(), example, loss_of, SETTINGS, tmp_path)
    with pytest.raises(TrainingError, match="another rate"):
        train(a_network(), example, loss_of, replace(SETTINGS, rate=0.5), tmp_path)


@pytest.mark.parametrize("foreign", [{}, {"step": 3}, {"settings": "x"}])
def test_a_checkpoint_of_something_else_is_not_taken_up(
    tmp_path: Path, foreign: dict[str, Any]
) -> None:
    write_checkpoint(tmp_path / CHECKPOINT, foreign)
    with pytest.raises(TrainingError, match=r"is of another training .* begin anew"):
        train(a_network(), example, loss_of, SETTINGS, tmp_path)


def test_a_checkpoint_of_another_network_is_not_taken_up(tmp_path: Path) -> None:
    train(a_network(), example, loss_of, SETTINGS, tmp_path)
    content = read_checkpoint(tmp_path / CHECKPOINT)
    content["network"] = {name: one[:1] for name, one in content["network"].items()}
    write_checkpoint(tmp_path / CHECKPOINT, content)
    with pytest.raises(TrainingError, match=r"is of another training .* begin anew"):
        train(a_network(), example, loss_of, SETTINGS, tmp_path)


def test_a_checkpoint_is_never_read_as_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    torch.save({"format": 1, "step": Evil()}, tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError, match="cannot be read as a checkpoint"):
        train(a_network(), example, loss_of, SETTINGS, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_loss_that_is_no_number_ends_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="the loss is nan at step 1: a lower rate"):
        train(a_network(), example, lambda network, batch: loss_of(network, batch) * torch.nan,
              SETTINGS, tmp_path)


def test_the_rate_rises_falls_and_ends_low() -> None:
    settings = Settings(steps=100, rate=1.0, warm_up=10)
    rates = [settings.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.01 <= rates[-1] < 0.02


def test_the_rate_begins_and_ends_where_it_is_asked_to() -> None:
    settings = Settings(steps=100, rate=3e-4, warm_up=10, first_rate=5e-7, last_rate=1e-7)
    rates = [settings.rate_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(5e-7)
    assert max(rates) == rates[10] == pytest.approx(3e-4)
    assert rates[100] == pytest.approx(1e-7)


def test_the_rate_that_is_suggested_lies_where_the_loss_falls(tmp_path: Path) -> None:
    network = a_plain_network()
    before = torch.cat([one.flatten().clone() for one in network.parameters()])
    curve = find_rate(network, example, loss_of, replace(TOGETHER, batch=16), steps=80)
    assert curve.suggested is not None
    place = curve.rates.index(curve.suggested)
    assert curve.losses[place + 1] < curve.losses[place - 1]
    assert curve.losses.index(min(curve.losses)) > place
    assert torch.equal(torch.cat([one.flatten() for one in network.parameters()]), before)


def test_the_terminal_tells_the_step_the_loss_and_what_is_left(tmp_path: Path) -> None:
    stream = io.StringIO()
    train(a_plain_network(), example, loss_of, TOGETHER, tmp_path,
          trackers=[Terminal(stream, every_s=0.0)], validate=lambda network: {"Dice": 0.5})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[1].startswith("step 2 of 8  loss ")
    assert lines[1].endswith(" left")
    assert "validation/Dice 0.5" in lines[4]
