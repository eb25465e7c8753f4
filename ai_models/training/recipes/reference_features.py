"""Write what a shipped model knows its inputs by: ``monitor.reference`` of its card.

    python -m ai_models.training.recipes.reference_features ai_models/zoo/fdg-pet-ct

Patients are drawn as training drew them; with ``--real-data DIR`` the CTs below DIR that the model
was trained on are among them. Writes ``reference.npy`` beside the card, and its digest into the
card; a card without a ``monitor`` is given one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ai_models.array.phantom import chest_phantom, random_variation
from ai_models.card import CARD_NAME, Card, load_card
from ai_models.monitoring.input_features import features_of_input
from ai_models.monitoring.reference import write_rows
from ai_models.prediction.cropping import Cropper
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.training.lungs_data import PHANTOM_SHAPE, REAL_CTS, SPACING_MM, read_ct
from ai_models.training.phantoms.chest import nodule_chest
from ai_models.training.phantoms.scanners import random_scanner
from ai_models.training.recipes import embolism_ct, fdg_pet_ct, lesion_dce_mr, nodules_ct
from ai_models.types import ModelInput, Volume

REFERENCE = "reference.npy"
# Of so many PET-CTs one has no PET: the model is made to be without it, too.
_WITHOUT_PET = 3
_MONITOR = re.compile(r"^monitor:\n(?:[ \t]+.*\n)+", re.MULTILINE)


def _lungs(seed: int) -> ModelInput:
    rng = np.random.default_rng(seed)
    phantom = chest_phantom(seed, PHANTOM_SHAPE, (SPACING_MM,) * 3, **random_variation(rng))
    return Volume(phantom.volume_hu, phantom.affine_lps)


def _nodules(seed: int) -> ModelInput:
    rng = np.random.default_rng((seed, 11))
    scanner = random_scanner(rng, (float(rng.uniform(1.5, 2.5)), 1.3, 1.3))
    field = (float(rng.uniform(120.0, 280.0)), 270.0, 340.0)
    chest = nodule_chest(seed, scanner, int(rng.integers(0, 6)), field_mm=field)
    return Volume(chest.volume_hu, chest.affine_lps)


def _pet_ct(seed: int) -> ModelInput:
    case = fdg_pet_ct.draw(seed)
    return (fdg_pet_ct.without(case, pet=True) if seed % _WITHOUT_PET == 0 else case).source


DRAWN: Mapping[str, Callable[[int], ModelInput]] = {
    "embolism-ct": lambda seed: embolism_ct.draw(seed).source,
    "fdg-pet-ct": _pet_ct,
    "lesion-dce-mr": lambda seed: lesion_dce_mr.draw(seed).source,
    "lungs-ct": _lungs,
    "nodules-ct": _nodules,
    "nodules-detect-ct": _nodules,
}
"""An input of each shipped model by its id, the same for the same seed."""
TRAINED_ON: Mapping[str, tuple[str, ...]] = {
    "lungs-ct": tuple(one.name for one in REAL_CTS if one.use == "training"),
    "nodules-ct": (nodules_ct.REAL_TRAINING,),
    "nodules-detect-ct": (nodules_ct.REAL_TRAINING,),
}
"""Real CTs that a model has learned from."""


def inputs_of(model_id: str, count: int, real_data: Path | None) -> Iterator[ModelInput]:
    """Real CTs first, and ``count`` drawn inputs."""
    for ct in REAL_CTS:
        if real_data is not None and ct.name in TRAINED_ON.get(model_id, ()):
            found = read_ct(real_data, ct)
            if found is not None:
                yield Volume(*found)
    for seed in range(count):
        yield DRAWN[model_id](seed)


def features_of(card: Card, inputs: Iterator[ModelInput]) -> Iterator[tuple[float, ...]]:
    """A row for each input; the network runs only where the card watches a layer of it."""
    if card.monitor is None or card.monitor.layer is None:
        cropper = Cropper(card)
        cropper.load()
        for one in inputs:
            shown = prepare(one, card, cropper.find(one).window)
            yield features_of_input(shown.image.array, card.input)
        cropper.close()
        return
    bare = card.monitor.model_copy(update={"reference": None, "sha256": None})
    predictor = Predictor(card.model_copy(update={"monitor": bare}))
    predictor.load()
    for one in inputs:
        yield predictor.predict(one).features  # type: ignore[union-attr]
    predictor.close()


def with_reference(text: str, sha256: str) -> str:
    """The text of a card whose ``monitor`` has a reference of this digest."""
    found = _MONITOR.search(text)
    if found is None:
        return f"{text.rstrip()}\nmonitor:\n  reference: {REFERENCE}\n  sha256: \"{sha256}\"\n"
    lines = [line for line in found[0].splitlines()[1:]
             if line.split(":")[0].strip() not in ("reference", "sha256")]
    block = "\n".join(["monitor:", f"  reference: {REFERENCE}", f'  sha256: "{sha256}"', *lines])
    return f"{text[:found.start()]}{block}\n{text[found.end():]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, look, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder of a shipped model")
    parser.add_argument("--real-data", type=Path)
    parser.add_argument("--count", type=int, default=32, help="drawn inputs (default 32)")
    options = parser.parse_args(arguments)
    card = load_card(options.model)
    rows = []
    for row in features_of(card, inputs_of(card.id, options.count, options.real_data)):
        rows.append(row)
        print(f"input {len(rows)}", end="\r", file=sys.stderr, flush=True)
    sha256 = write_rows(options.model / REFERENCE, np.asarray(rows, dtype=np.float32))
    # Read anew: it took a while.
    path = options.model / CARD_NAME
    path.write_text(with_reference(path.read_text("utf-8"), sha256), encoding="utf-8")
    load_card(options.model)
    print(f"{len(rows)} inputs with {len(rows[0])} features each: {options.model / REFERENCE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
