"""Only a candidate that passed the gate, as both versions are now, may take the live place."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ai_models.adapt.candidate import Wish, make_candidate
from ai_models.adapt.verdict import VERDICT, Figure, Verdict, check_gated, keep, why_not_gated
from ai_models.backends.architectures import build
from ai_models.card import Card, load_card
from ai_models.types import ModelError
from tests.ai_models.adapt.two_scanners import (
    NETWORK,
    digests,
    weights_of,
    write_card,
    write_cases,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Card, Card]:
    """A model of random weights, and what adabn makes of it."""
    root = tmp_path_factory.mktemp("pair")
    torch.manual_seed(2)
    live = write_card(root / "balls", weights_of(build(NETWORK["name"], NETWORK["arguments"])))
    (live.folder / "features.npy").write_bytes(b"of other weights")
    before = digests(live.folder)
    cases = write_cases(root / "cases", "B", range(9))
    made = make_candidate(
        live, cases, root / "balls-2", "2", Wish("adabn", batch=2), root / "scratch"
    )
    assert digests(live.folder) == before
    return live, made


def _verdict(live: Card, candidate: Card) -> Verdict:
    return Verdict(
        live.id, candidate.version, candidate.fingerprint, candidate.weights_sha256, live.version,
        live.fingerprint, live.weights_sha256, "0" * 64, 3, 0.01,
        (Figure("Dice of Ball", 0.5, 0.6, False),), True, "2026-01-01T00:00:00+00:00",
    )


def test_a_candidate_says_what_it_was_made_from_and_claims_no_figures(
    pair: tuple[Card, Card]
) -> None:
    live, made = pair
    assert made.adaptation is not None
    assert made.adaptation.from_weights_sha256 == live.weights_sha256 != made.weights_sha256
    assert (made.adaptation.method, made.adaptation.cases) == ("adabn", 9)
    assert made.evidence.metrics == [] and "not validated" in made.evidence.validated_on
    record = json.loads((made.folder / "adaptation.json").read_text())
    assert len(record["cases"]) == 9 and "case0" not in json.dumps(record)


def test_an_adapted_version_needs_the_gate_and_another_does_not(pair: tuple[Card, Card]) -> None:
    live, made = pair
    assert why_not_gated(live, made) == ""
    (made.folder / VERDICT).unlink(missing_ok=True)
    with pytest.raises(ModelError) as refused:
        check_gated(made, live)
    assert refused.value.reason == "model.not_gated"
    keep(_verdict(live, made), made.folder)
    check_gated(made, live)


def test_an_adapted_version_whose_card_is_silent_about_it_is_not_let_past(
    pair: tuple[Card, Card]
) -> None:
    live, made = pair
    assert "does not say so" in why_not_gated(made.model_copy(update={"adaptation": None}), live)


@pytest.mark.parametrize(("changes", "why"), [
    ({"passed": False}, "did not pass"),
    ({"candidate_weights_sha256": "1" * 64}, "was changed since"),
    ({"candidate_card_sha256": "1" * 64}, "was changed since"),
    ({"live_weights_sha256": "1" * 64}, "against another version"),
    ({"live_card_sha256": "1" * 64}, "against another version"),
])
def test_what_the_gate_said_counts_for_these_very_versions_only(
    pair: tuple[Card, Card], changes: dict[str, object], why: str
) -> None:
    live, made = pair
    keep(replace(_verdict(live, made), **changes), made.folder)  # type: ignore[arg-type]
    assert why in why_not_gated(made, live)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"passed": 1}'])
def test_a_damaged_verdict_is_none(pair: tuple[Card, Card], content: bytes) -> None:
    live, made = pair
    (made.folder / VERDICT).write_bytes(content)
    assert why_not_gated(made, live)


def test_a_link_beside_the_card_is_refused_before_anything_is_learned(
    pair: tuple[Card, Card], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the site")
    shutil.copytree(pair[0].folder, tmp_path / "live")
    (tmp_path / "live" / "notes").symlink_to("../secret")
    with pytest.raises(ModelError, match="notes is a link") as refused:
        make_candidate(
            load_card(tmp_path / "live"), tmp_path, tmp_path / "new", "3", Wish("adabn"),
            tmp_path / "scratch",
        )
    assert refused.value.reason == "model.cannot_adapt"


def test_nothing_is_written_over_and_half_a_candidate_is_never_seen(
    pair: tuple[Card, Card], tmp_path: Path
) -> None:
    live, made = pair
    with pytest.raises(ModelError, match="is there already"):
        make_candidate(live, tmp_path, made.folder, "3", Wish("adabn"), tmp_path / "scratch")
    with pytest.raises(ModelError, match="holds no input"):
        make_candidate(live, tmp_path, tmp_path / "new", "3", Wish("adabn"), tmp_path / "scratch")
    assert not (tmp_path / "new").exists() and load_card(made.folder).version == "2"
