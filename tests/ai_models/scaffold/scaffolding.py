"""A source described and written as a model folder, and the card read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_models.card import Card, load_card
from ai_models.scaffold.draft import Draft, Wishes
from ai_models.scaffold.folder import write_folder
from ai_models.scaffold.source import draft_of_endpoint, draft_of_source
from ai_models.trust import Site
from ai_models.weights import verify_weights


@dataclass(frozen=True)
class Scaffolded:
    """A written folder: its card as the node reads it, its text and its draft."""

    card: Card
    text: str
    draft: Draft

    @property
    def output(self) -> Any:
        return self.card.output

    def marked(self, key: str) -> bool:
        """Whether a line of the card that begins with this key asks to be checked."""
        return any(
            line.strip().removeprefix("- ").startswith(f"{key}:") and "# check:" in line
            for line in self.text.splitlines()
        )


def scaffolded(source: Path, output: Path, **wishes: Any) -> Scaffolded:
    """The folder of a file or folder of weights."""
    draft = draft_of_source(source, Wishes("made", **wishes))
    return _written(draft, output)


def scaffolded_of_host(
    name: str, model: str, site: Site, output: Path, **wishes: Any
) -> Scaffolded:
    """The folder of a model of another host."""
    return _written(draft_of_endpoint(name, model, site, Wishes("made", **wishes)), output)


def _written(draft: Draft, output: Path) -> Scaffolded:
    card = write_folder(draft, output / "made")
    verify_weights(card)
    assert load_card(card.folder).fingerprint == card.fingerprint
    return Scaffolded(card, card.content.decode(), draft)
