"""What a site lets a model do: licence, foreign code, other hosts. Refused unless allowed.

A card says what the model needs (`ai_models.card_provenance.Trust`); the node's settings say what
this site allows. A card can never allow itself anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ai_models.card import Card

# Compared after everything but letters, digits and points has become one blank, which "." is below.
_RESEARCH_ONLY = re.compile(
    r"""
    \b(
    nc | ncgl | (cc.?)?by.?nc\w*
    | non.?commercial\w* | (not.for|no).commercial.\w+
    | commercial.use.(is.)?(prohibited|forbidden|excluded|not.(allowed|permitted))
    | (academic|research|scientific|educational|education|evaluation)
      (.(and|or).\w+)*(.(use|purposes?))?.only
    | only.for.(academic|research|scientific|educational|evaluation)
    | for.(academic|research|scientific|educational)(.(and|or).\w+)*.(use|purposes?)
    | research.use | intel.research | not.for.clinical.use
    | msrla | microsoft.research.licen[cs]e | amlr | nscl(v1)? | nvidia.source.code.licen[cs]e
    )\b
    # The first LLaMA; the later ones have a number, and other licences.
    | \bllama(.?1)?(?![\w.]*[2-9])(?!.?(community.)?v?[2-9])\b
    """,
    re.VERBOSE,
)
_NO_LICENCE = re.compile(
    r"none|no|unlicensed|noassertion|unknown|unclear|other|custom|tbd|todo|na|n.a|see .*"
    r"|(no|without)( a)? licen[cs]e( file)?|.*\ball rights reserved.*"
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

    ``use: clinical`` refuses demonstrations, and what has no licence for it. Models below
    ``trusted_folders`` may bring their own code. ``endpoints`` are the only hosts that a model may
    be asked of, by the name that cards use.
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


def why_not_clinical(licence: str) -> str | None:
    """What forbids clinical use under this licence, in words that follow "the licence".

    ``None`` where nothing plainly does: it allows nothing either, which a site must read itself.
    Without a licence, or with one that has no name (``custom``, ``other``), nothing is allowed.
    """
    words = " ".join(re.sub(r"[^a-z0-9.]+", " ", licence.lower()).split())
    if not words or _NO_LICENCE.fullmatch(words):
        return f"is {licence.strip()!r}, which is none: without one nobody may use it clinically"
    if _RESEARCH_ONLY.search(words):
        return f"is {licence.strip()}, for research only"
    return None


def _use(card: Card, site: Site) -> str | None:
    if site.use == "research":
        return None
    if card.demonstration:
        return f"{card.id} is a demonstration model, not for clinical use"
    network = card.runtime.network
    folders = network.folders if network is not None else {}
    for where, licence in (
        ("code", card.licence), ("weights", card.weights.licence),
        *((name, part.licence) for name, part in folders.items()),
    ):
        if (why := why_not_clinical(licence)) is not None:
            return f"{card.id}: the licence of its {where} {why}"
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
