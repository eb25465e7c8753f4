"""A scanner that looks unlike what a model knows is told of once, and again when it is over."""

from __future__ import annotations

from typing import Any

from dicom_node.errors import ModelFailed
from dicom_node.events import Events
from dicom_node.operations.shift import ShiftWatch


class _Site:
    """Two versions, whose scanners say what a test lets them say."""

    def __init__(self) -> None:
        self.alarm, self.broken, self.at = False, False, 0.0
        self.told: list[tuple[str, dict[str, object]]] = []
        self.looked = 0
        events = Events()
        events.add_sink(lambda name, told: self.told.append((name, dict(told))))
        self.watch = ShiftWatch(
            3600.0, lambda: [("balls", "1"), ("lungs", "2")], self.look, events, lambda: self.at
        )

    def look(self, model_id: str, version: str) -> dict[str, Any]:
        self.looked += 1
        if self.broken and model_id == "balls":
            raise ModelFailed("the file is another", reason="model.hash_mismatch")
        figures = {"mmd": 0.5, "threshold": 0.1, "silhouette": 0.4}
        few = {"mmd": None, "threshold": None, "silhouette": None}
        return {"scanners": [
            {"scanner": "ACME, B", "inputs": 30, "alarm": self.alarm, **figures},
            {"scanner": "ACME, C", "inputs": 3, "alarm": False, **few},
        ]}

    def new(self) -> list[object]:
        found = [told["alarm"] for name, told in self.told
                 if name == "shift_measured" and told["is_new"] and told["model_id"] == "balls"]
        self.told.clear()
        return found


def test_an_alarm_is_told_of_once_and_its_end_as_well() -> None:
    site = _Site()
    site.watch.look()
    assert site.new() == []
    site.alarm = True
    site.watch.look()
    assert site.new() == [True]
    site.watch.look()
    assert site.new() == []
    site.alarm = False
    site.watch.look()
    assert site.new() == [False]


def test_a_model_that_cannot_be_looked_at_keeps_its_alarm_and_the_others_are_looked_at() -> None:
    site = _Site()
    site.alarm = True
    site.watch.look()
    site.broken = True
    site.told.clear()
    site.watch.look()
    assert {name for name, _ in site.told} == {"shift_not_measured", "shift_measured"}
    site.broken = False
    site.told.clear()
    site.watch.look()
    assert site.new() == []


def test_scanners_with_few_inputs_are_not_told_of() -> None:
    site = _Site()
    site.watch.look()
    assert {told["scanner"] for _, told in site.told} == {"ACME, B"}


def test_looks_are_as_far_apart_as_was_said() -> None:
    site = _Site()
    for at, looked in ((0.0, 0), (299.0, 0), (301.0, 2), (3600.0, 2), (3902.0, 4)):
        site.at = at
        site.watch.tick()
        if site.watch._thread is not None:
            site.watch._thread.join()
        assert site.looked == looked
    site.watch.stop()
