"""What a site lets a model do: licence, foreign code, other hosts. Refused unless allowed.

A card says what the model needs (`ai_models.card_entries.Trust`); the node's settings say what
this site allows. A card can never allow itself anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ai_models.card import Card

NON_COMMERCIAL = re.compile(
    r"(?i)\bnc\b|non-?commercial|research[- ]only|\bnone\b|unlicensed|msrla|llama-?1\b"
)


@dataclass(frozen=True)
class Endpoint:
    """Another host that may be asked: ``url``, and the file that holds its key, if it wants one."""

    url: str
    api_key_file: Path | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Site:
    """What this site allows.

    Models below ``trusted_folders`` may bring their own code. ``endpoints`` are the only hosts
    that a model may be asked of, by the name that cards use.
    """

    use: Literal["research", "clinical"] = "research"
    trusted_folders: tuple[Path, ...] = ()
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)

    def trusts(self, folder: Path) -> bool:
        """Whether a folder lies in a trusted one, links resolved."""
        real = folder.resolve()
        return any(real.is_relative_to(one.resolve()) for one in self.trusted_folders)


def why_refused(card: Card, site: Site) -> str | None:
    """Why this site must not run the model; ``None`` when it may."""
    return _use(card, site) or _code(card, site) or _endpoint(card, site)


def _use(card: Card, site: Site) -> str | None:
    if site.use == "research":
        return None
    if card.demonstration:
        return f"{card.id} is a demonstration model, not for clinical use"
    for where, licence in (("code", card.licence), ("weights", card.weights.licence)):
        if not licence.strip():
            return f"{card.id}: its {where} has no licence, so that nobody may use it clinically"
        if NON_COMMERCIAL.search(licence):
            return f"{card.id}: the licence of its {where} ({licence}) is for research only"
    return None


def _code(card: Card, site: Site) -> str | None:
    asked = [
        name for name in ("remote_code", "config_exec", "pickle", "program")
        if getattr(card.trust, name)
    ]
    if asked and not site.trusts(card.folder):
        return (
            f"{card.id} asks for trust.{asked[0]}, and its folder is not in models.trusted_folders"
        )
    return None


def _endpoint(card: Card, site: Site) -> str | None:
    options = card.runtime.endpoint
    if options is not None and options.name not in site.endpoints:
        known = ", ".join(sorted(site.endpoints)) or "none"
        return (
            f"{card.id} is served by {options.name!r}, which is not in models.endpoints "
            f"(there: {known})"
        )
    return None
