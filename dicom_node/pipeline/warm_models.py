"""The models that a worker keeps loaded, as many as its device's memory allows.

What each one holds is measured when it is loaded and after each use. Before a model is loaded or
used, the least recently used others are let go until what it is predicted to need fits beside the
rest.
"""

from __future__ import annotations

import gc
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ai_models.backends.device_memory import MemoryMeter
from ai_models.card import Card
from ai_models.predictor import Predictor
from ai_models.trust import Site
from dicom_node.freed_memory import give_back
from dicom_node.pipeline.memory import key_of

# Models that another host serves hold nothing here; they may not gather for ever.
MOST_MODELS = 32


@dataclass
class Warm:
    """A loaded model and what it holds of the device, in MiB."""

    predictor: Predictor
    key: str
    held_mib: float = 0.0


class WarmModels:
    """Loads models, and lets go of others for them.

    Parameters
    ----------
    device
        As this process sees it: ``cpu`` or ``cuda:<n>``.
    site
        What this site allows its models.
    meter
        Reads the device's memory.
    budget_mib
        What models may hold and need together.
    loading
        Told when a model begins to be loaded, and when it was.
    """

    def __init__(
        self, device: str, site: Site, meter: MemoryMeter, budget_mib: float,
        loading: Callable[[bool], None] = lambda _loading: None,
    ) -> None:
        self._device = device
        self._site = site
        self._meter = meter
        self._budget_mib = budget_mib
        self._loading = loading
        self._warm: OrderedDict[str, Warm] = OrderedDict()
        # What others have of the budget.
        self.beside_mib = 0.0
        self.loaded: list[str] = []
        self.evicted: list[str] = []

    @property
    def held_mib(self) -> dict[str, float]:
        """What every warm model holds, by the key of its card, the least recently used first."""
        return {key: round(one.held_mib, 1) for key, one in self._warm.items()}

    def take(self, card: Card, need_mib: float) -> tuple[Warm, dict[str, float]]:
        """The model, loaded; the seconds that took, none where it was warm.

        Raises
        ------
        ModelError
            It cannot be loaded.
        """
        key = key_of(card)
        warm = self._warm.get(key)
        if warm is not None:
            self._warm.move_to_end(key)
            self._make_room(key, max(need_mib, warm.held_mib))
            return warm, {}
        self._make_room(key, need_mib)
        start = time.perf_counter()
        warm = self._load(card, key)
        self._warm[key] = warm
        self.loaded.append(card.id)
        return warm, {"load": time.perf_counter() - start}

    def has_room(self, card: Card, need_mib: float) -> bool:
        """Whether a model that is not warm has room without letting go of another."""
        held = self.beside_mib + sum(one.held_mib for one in self._warm.values())
        return key_of(card) not in self._warm and held + need_mib <= self._budget_mib

    def used(self, warm: Warm, before_mib: float) -> None:
        """Remember what a model keeps after a use that began with ``before_mib`` on the device."""
        now = self._meter.held_mib()
        warm.held_mib += max(0.0, now - before_mib)
        counted = sum(one.held_mib for one in self._warm.values())
        if counted > now:
            # Growth is seen, and what a library gives back later is not.
            for one in self._warm.values():
                one.held_mib *= now / counted

    def evict_all_but(self, card: Card) -> bool:
        """Let go of every other model; whether there was any."""
        others = [key for key in self._warm if key != key_of(card)]
        for key in others:
            self._evict(key)
        return bool(others)

    def make_room(self) -> None:
        """Let go of the least recently used models until the rest fits beside the others."""
        while self._warm:
            held = self.beside_mib + sum(one.held_mib for one in self._warm.values())
            if held <= self._budget_mib:
                return
            self._evict(next(iter(self._warm)))

    def _load(self, card: Card, key: str) -> Warm:
        before = self._meter.held_mib()
        predictor = Predictor(card, self._device, self._site)
        self._loading(True)
        try:
            predictor.load()
            predictor.warm_up()
        except BaseException:
            # Whatever stopped it, a model that is half loaded holds no memory.
            predictor.close()
            raise
        finally:
            self._loading(False)
        return Warm(predictor, key, max(0.0, self._meter.held_mib() - before))

    def _make_room(self, key: str, need_mib: float) -> None:
        folder = key.partition("@")[2]
        for other in [one for one in self._warm if one != key]:
            # A card that was changed is another model, and nobody can ask for the old one.
            if other.partition("@")[2] == folder:
                self._evict(other)
        while others := [one for one in self._warm if one != key]:
            held = self.beside_mib + sum(self._warm[one].held_mib for one in others)
            if held + need_mib <= self._budget_mib and len(others) < MOST_MODELS:
                return
            self._evict(others[0])

    def _evict(self, key: str) -> None:
        gone = self._warm.pop(key)
        gone.predictor.close()
        self.evicted.append(gone.predictor.card.id)
        del gone
        gc.collect()
        # What is free is nobody's, and counts as held by those who stay until it is given back.
        give_back()
