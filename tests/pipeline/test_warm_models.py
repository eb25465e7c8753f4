"""What a worker keeps loaded: by memory, the least recently used first to go."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.backends.device_memory import Fitted
from ai_models.card import Card, load_card
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import ModelError
from dicom_node.pipeline.memory import key_of
from dicom_node.pipeline.warm_models import WarmModels
from tests.ai_models.tiny_models import threshold_onnx, write_model


class Meter:
    """A device whose memory is what the loaded models are said to take."""

    def __init__(self) -> None:
        self.held = 0.0

    def fitted(self) -> Fitted:
        return Fitted("test", 1000.0, 1.0)

    def held_mib(self) -> float:
        return self.held

    def begin(self) -> None:
        """Nothing to begin."""

    def peak_mib(self) -> float:
        return 0.0


SIZES = {"a": 300.0, "b": 300.0, "c": 300.0, "d": 700.0}


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Loading takes as many MiB as `SIZES` says, and closing gives them back."""
    made = Meter()

    def load(predictor: Predictor) -> None:
        made.held += SIZES[predictor.card.id]

    def close(predictor: Predictor) -> None:
        made.held -= SIZES[predictor.card.id]

    monkeypatch.setattr(Predictor, "load", load)
    monkeypatch.setattr(Predictor, "warm_up", lambda _predictor: None)
    monkeypatch.setattr(Predictor, "close", close)
    return made


@pytest.fixture
def cards(tmp_path: Path) -> dict[str, Card]:
    return {
        name: load_card(write_model(tmp_path / name, threshold_onnx(0.5), id=name))
        for name in SIZES
    }


def held(models: WarmModels) -> list[float]:
    return list(models.held_mib.values())


def test_models_stay_warm_as_far_as_memory_goes_and_the_least_recently_used_goes_first(
    meter: Meter, cards: dict[str, Card]
) -> None:
    models = WarmModels("cpu", Site(), meter, 1000.0)
    for name in ("a", "b", "a", "c"):
        models.take(cards[name], 350.0)
    assert (models.loaded, models.evicted) == (["a", "b", "c"], []), "900 are held of 1000"
    models.take(cards["d"], 700.0)
    assert models.evicted == ["b", "a"]
    assert list(models.held_mib) == [key_of(cards["c"]), key_of(cards["d"])]
    assert meter.held == 1000.0


def test_a_model_that_needs_all_the_memory_gets_it(meter: Meter, cards: dict[str, Card]) -> None:
    models = WarmModels("cpu", Site(), meter, 1000.0)
    for name in ("a", "b", "c"):
        models.take(cards[name], 300.0)
    models.take(cards["d"], 5000.0)
    assert models.evicted == ["a", "b", "c"] and held(models) == [700.0]
    models.take(cards["d"], 5000.0)
    assert models.loaded == ["a", "b", "c", "d"]


def test_a_warm_model_makes_room_for_what_its_next_input_needs(
    meter: Meter, cards: dict[str, Card]
) -> None:
    models = WarmModels("cpu", Site(), meter, 1000.0)
    models.take(cards["a"], 300.0)
    warm, seconds = models.take(cards["b"], 300.0)
    assert seconds["load"] >= 0 and warm.held_mib == 300.0
    again, seconds = models.take(cards["b"], 800.0)
    assert again is warm and seconds == {} and models.evicted == ["a"]


def test_what_a_model_keeps_after_a_use_counts(meter: Meter, cards: dict[str, Card]) -> None:
    models = WarmModels("cpu", Site(), meter, 1000.0)
    warm, _ = models.take(cards["a"], 300.0)
    meter.held += 250.0
    models.used(warm, 300.0)
    assert held(models) == [550.0]
    models.take(cards["b"], 500.0)
    assert models.evicted == ["a"]


def test_what_was_given_back_unseen_is_not_counted_for_ever(
    meter: Meter, cards: dict[str, Card]
) -> None:
    models = WarmModels("cpu", Site(), meter, 1000.0)
    warm, _ = models.take(cards["a"], 300.0)
    models.take(cards["b"], 300.0)
    meter.held = 300.0
    models.used(warm, 300.0)
    assert held(models) == [150.0, 150.0]


def test_a_changed_card_takes_the_place_of_the_old_one(
    meter: Meter, cards: dict[str, Card]
) -> None:
    models = WarmModels("cpu", Site(), meter, 1000.0)
    models.take(cards["a"], 300.0)
    models.take(cards["b"], 300.0)
    changed = load_card(
        write_model(cards["a"].folder, threshold_onnx(0.5), id="a", version="2")
    )
    models.take(changed, 300.0)
    assert models.evicted == ["a"]
    assert list(models.held_mib) == [key_of(cards["b"]), key_of(changed)]


def test_a_model_that_cannot_be_loaded_leaves_nothing(
    meter: Meter, cards: dict[str, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_predictor: Predictor) -> None:
        raise ModelError("no", reason="model.load_failed")

    monkeypatch.setattr(Predictor, "warm_up", fail)
    told: list[bool] = []
    models = WarmModels("cpu", Site(), meter, 1000.0, told.append)
    with pytest.raises(ModelError):
        models.take(cards["a"], 300.0)
    assert (models.loaded, held(models), meter.held, told) == ([], [], 0.0, [True, False])


def test_room_for_loading_ahead_is_room_that_nobody_has(
    meter: Meter, cards: dict[str, Card]
) -> None:
    models = WarmModels("cpu", Site(), meter, 1000.0)
    assert models.has_room(cards["a"], 1000.0) and not models.has_room(cards["a"], 1001.0)
    models.take(cards["a"], 300.0)
    assert not models.has_room(cards["a"], 1.0), "it is warm"
    assert models.has_room(cards["b"], 700.0) and not models.has_room(cards["b"], 701.0)


def test_models_that_hold_nothing_do_not_gather_for_ever(
    meter: Meter, cards: dict[str, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.pipeline.warm_models.MOST_MODELS", 2)
    monkeypatch.setattr("tests.pipeline.test_warm_models.SIZES", dict.fromkeys(SIZES, 0.0))
    models = WarmModels("cpu", Site(), meter, 1000.0)
    for card in cards.values():
        models.take(card, 0.0)
    assert models.evicted == ["a", "b"]
